"""Checks that the names within a domain refer to something of the right kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import TYPE_CHECKING

from services.common.domain_cross_references import cross_errors
from services.common.domain_feature_references import (
    NUMERIC,
    carried_errors,
    feature_errors,
    held_by,
    key_errors,
    one_of,
    shown_by,
)
from services.common.domain_filter_references import filter_errors, filterable_errors
from services.common.domain_metric_references import metric_errors
from services.common.domain_selection_references import margin_errors, selection_errors
from services.common.domain_source_references import source_errors
from services.common.durations import duration_ms
from services.common.yaml_config import Location

if TYPE_CHECKING:
    from services.common.domain import Domain

_SHORTEST_TREND = "1d"
_NEAR = 0.85
"""Share of letters from which on two names are taken for one, misspelt."""

_REQUIRED = {
    "entity_upsert": "the catalogue comes by it",
    "entity_withdrawal": "what is withdrawn leaves the catalogue by it",
    "slate_served": "the ranker logs by it what it served",
    "exposure": "the ranker logs by it who took part in an experiment",
}
_ROOM_EVENTS = ("room_started", "room_heartbeat", "room_now_selling", "room_ended")
BUILT_IN_EVENTS = (
    *_REQUIRED,
    *_ROOM_EVENTS,
    *("impression", "purchase", "refund", "decision", "profile"),
)
"""Types that the code knows by name: under another they would be events like any other."""


def reference_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    """(location, message) of every name that refers to nothing, or to the wrong kind of thing."""
    yield from _misspelt_event_errors(domain)
    yield from _event_errors(domain)
    yield from _entity_errors(domain)
    yield from _vocabulary_errors(domain)
    yield from key_errors(domain)
    yield from feature_errors(domain)
    yield from filterable_errors(domain)
    yield from _objective_errors(domain)
    if domain.currency in domain.currency_rates:
        yield ("currency_rates", domain.currency), "is the domain's own currency: its rate is 1"
    yield from _surface_errors(domain)
    yield from _model_errors(domain)
    yield from carried_errors(domain)
    yield from cross_errors(domain)
    yield from metric_errors(domain)


def _features(domain: Domain, entity: str) -> set[str]:
    return {name for name, feature in domain.features.items() if entity in feature.entities}


def _tower_attributes(domain: Domain, entity: str) -> list[str]:
    tower = domain.entities[entity].tower
    if tower is None:
        return []
    return [name for name in (*tower.fields.values(), *tower.numeric) if name != "id"]


def _near(name: str, known: Iterable[str]) -> str | None:
    """The one of the other names ``known`` that ``name`` is probably meant to be."""
    return next(iter(get_close_matches(name, sorted(known), n=1, cutoff=_NEAR)), None)


def _misspelt_event_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    for event in sorted(domain.events.keys() - set(BUILT_IN_EVENTS)):
        near = _near(event, BUILT_IN_EVENTS)
        if near is not None:
            yield ("events", event), f"is too close to the built-in {near!r}: misspelt?"


def _event_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    """Types that the system relies on: without them nothing would be found, and nothing said."""
    wanted = dict(_REQUIRED)
    if domain.log.impressions:
        wanted["impression"] = "log.impressions is true"
    if not domain.events.keys().isdisjoint(_ROOM_EVENTS):
        wanted |= dict.fromkeys(_ROOM_EVENTS, "another stage of a room is")
    if any(o.reversed_by_refund or o.reversal_of for o in domain.objectives.values()):
        wanted["refund"] = "an objective counts refunds"
    for event, reason in wanted.items():
        if event not in domain.events:
            yield ("events", event), f"must be declared: {reason}"


def _entity_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    for name, entity in domain.entities.items():
        if entity.title is not None and entity.title not in entity.attributes:
            yield ("entities", name, "title"), f"{entity.title!r} is not an attribute of {name}"
        if entity.tower is None:
            continue
        for vocabulary, attribute in entity.tower.fields.items():
            if attribute != "id" and attribute not in entity.attributes:
                yield (
                    ("entities", name, "tower", "fields", vocabulary),
                    f"{attribute!r} is neither id nor an attribute of {name}",
                )
            elif attribute != "id" and entity.attributes[attribute] != "string":
                yield (
                    ("entities", name, "tower", "fields", vocabulary),
                    f"{attribute!r} is not a string attribute of {name}",
                )
        for index, attribute in enumerate(entity.tower.numeric):
            if entity.attributes.get(attribute) not in ("int", "float", "bool"):
                yield (
                    ("entities", name, "tower", "numeric", index),
                    f"{attribute!r} is not a numeric attribute of {name}",
                )


def _vocabulary_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    """A vocabulary misspelt in one entity would be a second one, and nothing shared."""
    named = {name: set(e.tower.fields) for name, e in domain.entities.items() if e.tower}
    for name, own in named.items():
        others = set().union(*(fields for other, fields in named.items() if other != name))
        for vocabulary in sorted(own - others):
            near = _near(vocabulary, others - own)
            if near is not None:
                yield (
                    ("entities", name, "tower", "fields", vocabulary),
                    f"is too close to the vocabulary {near!r} of another entity: misspelt?",
                )


def _objective_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    for name, objective in domain.objectives.items():
        at: Location = ("objectives", name)
        for index, event in enumerate(objective.events):
            if event not in domain.events:
                yield (*at, "events", index), f"{event!r} is not {one_of(domain.events)}"
                return
            for attribute in objective.at_least:
                if domain.events[event].attributes.get(attribute) != "int":
                    yield (
                        (*at, "at_least", attribute),
                        f"{attribute!r} is not an int attribute of {event}",
                    )
        for field in ("repeat_of", "reversal_of"):
            other = getattr(objective, field)
            if other is not None and not (
                other in domain.objectives and domain.objectives[other].events
            ):
                yield (*at, field), f"{other!r} is not an objective with events"
        match = objective.attribution.match if objective.attribution else "item"
        if match != "item" and match not in domain.entities:
            yield (*at, "attribution", "match"), f"{match!r} is not item or an entity"


def _surface_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    for name, surface in domain.surfaces.items():
        at: Location = ("surfaces", name)
        if surface.entity not in domain.entities:
            yield (*at, "entity"), f"{surface.entity!r} is not {one_of(domain.entities)}"
            return
        features = _features(domain, surface.entity)
        if domain.entities[surface.entity].tower is None:
            yield (*at, "entity"), f"{surface.entity!r} has no tower: it can't be retrieved"
        for attribute in _tower_attributes(domain, surface.entity):
            if attribute not in features:
                yield (
                    (*at, "entity"),
                    f"{surface.entity}'s tower reads {attribute!r}, which is not a feature of it",
                )
        held = shown_by(domain, surface.entity)
        if surface.scored is not None and surface.scored >= surface.candidates:
            yield (*at, "scored"), f"must be below candidates, which are {surface.candidates}"
        elif surface.scored is not None and surface.scored < surface.default_k:
            yield (*at, "scored"), f"must not be below default_k, which is {surface.default_k}"
        yield from source_errors(domain, at, surface)
        yield from filter_errors(domain, name, held)
        for attribute in surface.caps:
            if held.get(attribute) != "string":
                yield (
                    (*at, "caps", attribute),
                    f"{attribute!r} is not a feature of {surface.entity} that holds string",
                )
        selling = surface.selling_attribute
        if selling is not None and selling != "id" and held.get(selling) != "string":
            yield (
                (*at, "selling_attribute"),
                f"{selling!r} is neither id nor a feature of {surface.entity} that holds string",
            )
        yield from selection_errors(at, domain, surface, held)
        yield from margin_errors(at, domain, surface, held)
        for objective in surface.objective_weights:
            if objective not in domain.objectives:
                yield (
                    (*at, "objective_weights", objective),
                    f"{objective!r} is not {one_of(domain.objectives)}",
                )


def _model_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    at: Location = ("model", "sequence")
    sequence = domain.model.sequence
    for field in ("items", "actions"):
        name = getattr(sequence, field)
        feature = domain.features.get(name)
        emit = "id" if field == "items" else "event_type"
        if not (feature is not None and feature.kind == "last_n" and feature.emit == emit):
            yield (*at, field), f"{name!r} is not a last_n feature that emits {emit}"
            return
    if sequence.entity not in domain.entities or domain.entities[sequence.entity].tower is None:
        yield (*at, "entity"), f"{sequence.entity!r} is not an entity with a tower"
    items, actions = domain.features[sequence.items], domain.features[sequence.actions]
    for field in ("events", "of"):
        if getattr(items, field) != getattr(actions, field):
            yield (
                (*at, "actions"),
                f"{sequence.actions!r} and {sequence.items!r} differ in {field}: they are read "
                "side by side",
            )
    for field, name in (("items", sequence.items), ("actions", sequence.actions)):
        if "user" not in domain.features[name].entities:
            yield (*at, field), f"{name!r} is not a feature of user"
        if getattr(domain.features[name], "limit", 0) < sequence.length:
            yield (*at, "length"), f"{name!r} lists fewer"
    if items.kind == "last_n" and items.of != sequence.entity:
        yield (*at, "entity"), f"{sequence.items!r} lists {items.of}, not {sequence.entity}"
    retrieval = domain.model.retrieval
    if retrieval.dim % retrieval.heads:
        yield ("model", "retrieval", "heads"), f"must divide dim, which is {retrieval.dim}"
    yield from _trend_errors(domain, getattr(items, "events", []))
    user = held_by(domain, "user")
    for index, name in enumerate(domain.model.user_features):
        if user.get(name) not in NUMERIC:
            yield ("model", "user_features", index), f"{name!r} is not a numeric feature of user"
    ranked = {surface.entity for surface in domain.surfaces.values()}
    for index, name in enumerate(domain.model.item_features):
        held = {held_by(domain, entity).get(name) for entity in ranked} - {None}
        if not held or not held <= set(NUMERIC):
            yield (
                ("model", "item_features", index),
                f"{name!r} is not a numeric feature of a ranked entity",
            )
        elif not domain.log.impressions and domain.features[name].kind != "attribute":
            yield (
                ("model", "item_features", index),
                f"{name!r} needs a log with impressions: what it was for items not shown is "
                "not recorded",
            )


def _trend_errors(domain: Domain, sequence_events: list[str]) -> Iterator[tuple[Location, str]]:
    name = domain.model.retrieval.trend
    if name is None:
        return
    at: Location = ("model", "retrieval", "trend")
    feature = domain.features.get(name)
    entity = domain.model.sequence.entity
    if feature is None or feature.kind != "count" or entity not in feature.entities:
        yield at, f"{name!r} is not a count feature of {entity}"
    elif not set(feature.events) <= set(sequence_events):
        yield at, f"{name!r} counts events that {domain.model.sequence.items!r} does not list"
    elif duration_ms(feature.window) < duration_ms(_SHORTEST_TREND):
        yield at, f"{name!r} has a window of {feature.window}; {_SHORTEST_TREND} is the least"
    elif domain.split.kind != "time":
        yield at, "needs a split by time: what is held out is asked for as of its beginning"
    elif name not in domain.model.item_features:
        yield at, f"{name!r} is not among model.item_features, where the ranker reads it"
