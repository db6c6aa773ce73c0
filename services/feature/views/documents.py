"""Views as documents, and what a store must hold to serve several of them side by side. Pure.

A view is immutable: its document says what it reads of entities, events and features, so that it
can be served long after the domain file has moved on. A store is filled for *state definitions*:
what the domain file and all registered views need together. Values of a view do not depend on what
else the state holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final, Literal

from pydantic import BaseModel, ConfigDict

from services.common.domain import Domain, Entity, EventType
from services.common.domain_features import CountFeature, Feature, Name
from services.common.errors import FailedPrecondition
from services.feature.definitions import (
    CATALOGUE_EVENTS,
    REFUND,
    FeatureView,
    compile_views,
    inputs_of,
    other_side,
)
from services.feature.rows.rows import RowReader
from services.feature.states.entity_plan import EntityPlan
from services.feature.states.schema import schema_of

FORMAT_VERSION: Final = 1

_READ_ONLY: Final = ("description", "transform", "default", "ttl", "emit", "per", "prior")
"""What a feature says about how its state is read; none of it changes the state."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class StateDefinitions(_Strict):
    """What states depend on: the part of a domain that a store is filled for."""

    format_version: Literal[1] = FORMAT_VERSION
    domain: Name
    entities: dict[Name, Entity]
    events: dict[Name, EventType]
    features: dict[Name, Feature]

    def as_domain(self) -> Domain:
        """The same for what takes a domain; without objectives, surfaces and models."""
        return Domain.model_construct(
            name=self.domain,
            entities=self.entities,
            events=self.events,
            features=self.features,
            objectives={},
            surfaces={},
        )

    @property
    def schema_hash(self) -> str:
        """Hash of the states' form, as a store keeps it."""
        return schema_of(self.as_domain())


class ViewDocument(StateDefinitions):
    """A registered view: its features in order, and what they need of entities and events.

    ``features`` are the view's own and, where it lists values of pairs, the pairs'.
    """

    entity: Name
    name: str
    hash: str

    def feature_names(self) -> list[str]:
        """The view's own features, in order."""
        return [name for name, f in self.features.items() if self.entity in f.entities]


def documents_of(domain: Domain) -> list[ViewDocument]:
    """A document for every view of a domain."""
    return [_document(domain, view) for view in compile_views(domain).values()]


def merged(domain: str, parts: Iterable[StateDefinitions | Domain]) -> StateDefinitions:
    """State definitions that cover every part; their order does not matter.

    Raises ``FailedPrecondition`` (VIEW_CONFLICT) where two of them can't be served side by side:
    they differ in the type of an attribute, or in what derives or pairs an entity type's keys.
    """
    entities: dict[str, Entity] = {}
    events: dict[str, EventType] = {}
    features: dict[str, Feature] = {}
    for part in parts:
        for name, entity in part.entities.items():
            entities[name] = _merged_entity(name, entities.get(name), entity, part)
        for name, event in part.events.items():
            known = events.get(name, EventType())
            place = f"events.{name}"
            together = _merged_attributes(place, known.attributes, event.attributes, part)
            events[name] = EventType(attributes=together)
        for feature in part.features.values():
            for needed in _state_features(feature):
                key = _state_key(needed)
                known_in = features[key].entities if key in features else []
                everywhere = sorted({*known_in, *needed.entities})
                features[key] = needed.model_copy(update={"entities": everywhere})
    return StateDefinitions(
        domain=domain,
        entities={name: entities[name] for name in sorted(entities)},
        events={name: events[name] for name in sorted(events)},
        features={name: features[name] for name in sorted(features)},
    )


def covers(state: StateDefinitions, parts: Sequence[StateDefinitions | Domain]) -> bool:
    """Whether a store filled for ``state`` can serve every part as it is."""
    try:
        together = merged(state.domain, [state, *parts])
    except FailedPrecondition:
        return False
    return together.schema_hash == state.schema_hash


def view_reader(document: ViewDocument, plans: Mapping[str, EntityPlan]) -> RowReader:
    """Reads a view's rows from states kept by ``plans``, which cover it.

    Raises ``FailedPrecondition`` (VIEW_UNREADABLE) where the document's features do not give its
    hash any more: it was written by another version of this code.
    """
    domain = document.as_domain()
    views = compile_views(domain)
    view = views.get(document.entity)
    if view is None or (view.name, view.hash) != (document.name, document.hash):
        raise FailedPrecondition(
            f"view {document.name} with hash {document.hash} was registered by another version",
            reason="VIEW_UNREADABLE",
        )
    readers: dict[str, RowReader] = {}
    for entity, found in views.items():
        readers[entity] = RowReader(domain, found, plans[entity], readers)
    return readers[document.entity]


def _document(domain: Domain, view: FeatureView) -> ViewDocument:
    needed = _needed_features(domain, view)
    about = (*CATALOGUE_EVENTS, REFUND)
    events: dict[str, EventType] = {n: EventType() for n in about if n in domain.events}
    attributes: dict[str, set[str]] = {view.entity: set()}
    for feature in needed.values():
        _read_by(domain, feature, events, attributes)
    for column in view.features:
        if column.attribute is not None:
            attributes[view.entity].add(column.attribute)
    _add_sources(domain, attributes)
    return ViewDocument(
        domain=domain.name,
        entity=view.entity,
        name=view.name,
        hash=view.hash,
        entities={
            name: _bare(domain.entities[name], attributes[name])
            for name in domain.entities
            if name in attributes
        },
        events={name: events[name] for name in sorted(events)},
        features=needed,
    )


def _needed_features(domain: Domain, view: FeatureView) -> dict[str, Feature]:
    """The view's features, and those of pairs whose values it lists, in declared order."""
    entities: dict[str, list[str]] = {column.name: [view.entity] for column in view.features}
    for column in view.features:
        definition = column.definition
        if definition.kind != "pairs" or definition.emit == "id":
            continue
        names = [definition.emit]
        while names:
            name = names.pop()
            had = entities.setdefault(name, [])
            if definition.of not in had:
                had.append(definition.of)
                names += inputs_of(domain.features[name])
    return {
        name: feature.model_copy(update={"entities": entities[name]})
        for name, feature in domain.features.items()
        if name in entities
    }


def _read_by(
    domain: Domain,
    feature: Feature,
    events: dict[str, EventType],
    attributes: dict[str, set[str]],
) -> None:
    """Adds what a feature reads of events and entity types."""
    fields = feature.model_dump()
    value = fields.get("value")
    for field in ("events", "numerator", "denominator"):
        for name in fields.get(field) or ():
            known = dict(events.get(name, EventType()).attributes)
            declared = domain.events[name].attributes
            if value is not None and value in declared:
                known[value] = declared[value]
            events[name] = EventType(attributes=known)
    other = fields.get("of")
    if other is not None and other in domain.entities:
        attributes.setdefault(other, set())
        if feature.kind == "pairs":
            attributes.setdefault(other_side(domain, other), set())


def _add_sources(domain: Domain, attributes: dict[str, set[str]]) -> None:
    """Adds the entity types and attributes that keys are derived from, and members of pairs."""
    waiting = list(attributes)
    while waiting:
        entity = domain.entities[waiting.pop()]
        for source, attribute in entity.derived_from.items():
            if source not in attributes:
                waiting.append(source)
            attributes.setdefault(source, set()).add(attribute)
        for member in entity.pair or ():
            if member not in attributes:
                waiting.append(member)
                attributes[member] = set()


def _bare(entity: Entity, attributes: Iterable[str] | None = None) -> Entity:
    """An entity type without what only models and pages read; of ``attributes`` where given."""
    wanted = set(entity.attributes) if attributes is None else set(attributes)
    kept = {name: entity.attributes[name] for name in sorted(wanted)}
    return Entity(attributes=kept, derived_from=entity.derived_from, pair=entity.pair)


def _merged_entity(
    name: str, known: Entity | None, entity: Entity, part: StateDefinitions | Domain
) -> Entity:
    if known is None:
        return _bare(entity)
    if list(known.derived_from.items()) != list(entity.derived_from.items()):
        raise _conflict(f"entities.{name}.derived_from", part)
    if known.pair != entity.pair:
        raise _conflict(f"entities.{name}.pair", part)
    together = _merged_attributes(f"entities.{name}", known.attributes, entity.attributes, part)
    return known.model_copy(update={"attributes": together})


def _merged_attributes(
    place: str,
    known: Mapping[str, Any],
    more: Mapping[str, Any],
    part: StateDefinitions | Domain,
) -> dict[str, Any]:
    for name, dtype in more.items():
        if known.get(name, dtype) != dtype:
            raise _conflict(f"{place}.attributes.{name}", part)
    together = {**known, **more}
    return {name: together[name] for name in sorted(together)}


def _conflict(place: str, part: StateDefinitions | Domain) -> FailedPrecondition:
    who = "the domain file"
    if isinstance(part, ViewDocument):
        who = f"view {part.name} ({part.hash[:12]})"
    return FailedPrecondition(
        f"{place}: {who} says something else than a view that is still registered; give the new "
        "one another name, or retire the old view (podium features retire)",
        reason="VIEW_CONFLICT",
    )


def _state_features(feature: Feature) -> Iterator[Feature]:
    """Features with the same state as ``feature``, reduced to what the state depends on."""
    match feature.kind:
        case "attribute" | "expression":
            return
        case "count" | "rate":
            yield _count(feature.entities, feature.events, feature.window)
        case "ratio":
            yield _count(feature.entities, feature.numerator, feature.window)
            yield _count(feature.entities, feature.denominator, feature.window)
        case _:
            fields = type(feature).model_fields
            plain: dict[str, Any] = {n: fields[n].get_default() for n in _READ_ONLY if n in fields}
            yield feature.model_copy(update={**plain, "events": sorted(set(feature.events))})


def _count(entities: list[str], events: Iterable[str], window: str) -> CountFeature:
    return CountFeature(kind="count", entities=entities, events=sorted(set(events)), window=window)


def _state_key(feature: Feature) -> str:
    described = feature.model_dump(mode="json", exclude={"entities"})
    text = json.dumps(described, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "f" + hashlib.sha256(text.encode()).hexdigest()[:24]
