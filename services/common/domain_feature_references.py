"""Checks that features, derived keys and pairs refer to something of the right kind."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from services.common.domain_features import HEARD, AttributeFeature, Feature, vector_dim
from services.common.formula import names_in, parse_formula
from services.common.yaml_config import Location

if TYPE_CHECKING:
    from services.common.domain import Domain

NUMERIC = ("int", "float", "bool")
_USER = "user"
_AMOUNT = "amount_minor"
_HELD = {
    "count": "int",
    "distinct": "int",
    "mean": "float",
    "rate": "float",
    "ratio": "float",
    "recency": "float",
    "expression": "float",
    "last_n": "list",
}


def held_by(domain: Domain, entity: str) -> dict[str, str]:
    """What each feature of an entity holds: string, int, float, bool, list or vector.

    A feature with a wrong reference is left out.
    """
    found: dict[str, str] = {}
    for name, feature in domain.features.items():
        held = _holds(domain, entity, name, feature) if entity in feature.entities else None
        if held is not None:
            found[name] = held
    return found


def shown_by(domain: Domain, entity: str) -> dict[str, str]:
    """What each feature of an item holds as the ranker sees it: its own, and what it carries."""
    carries = domain.entities[entity].carries
    own = held_by(domain, entity)
    if carries is None or carries.entity not in domain.entities:
        return own
    theirs = held_by(domain, carries.entity)
    return {name: theirs[name] for name in carries.features if name in theirs} | own


def carried_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    """What is wrong with what entities carry of others."""
    for name, entity in domain.entities.items():
        carries = entity.carries
        if carries is None:
            continue
        at: Location = ("entities", name, "carries")
        own = held_by(domain, name)
        if own.get(carries.by) != "string":
            yield (*at, "by"), f"{carries.by!r} is not a feature of {name} that holds string"
        if carries.entity not in domain.entities or carries.entity == name:
            yield (*at, "entity"), f"{carries.entity!r} is not {one_of(domain.entities)}"
            continue
        theirs = held_by(domain, carries.entity)
        for index, feature in enumerate(carries.features):
            if theirs.get(feature) not in (*NUMERIC, "string", "list"):
                message = f"{feature!r} is not a feature of {carries.entity} that can be carried"
                yield (*at, "features", index), message
            elif feature in own:
                message = f"{name} has a feature {feature!r} of its own"
                yield (*at, "features", index), message
        if not domain.log.impressions:
            yield at, "needs a log with impressions: what was carried before is not recorded"


def key_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    """What is wrong with derived keys and pairs."""
    for name, entity in domain.entities.items():
        at: Location = ("entities", name)
        if (entity.derived_from or entity.pair) and name == _USER:
            yield at, "a user is named by events themselves"
        if entity.pair is not None and (entity.derived_from or entity.attributes or entity.tower):
            yield (*at, "pair"), "a pair has features only: no attributes, no tower, no derivation"
        for source, attribute in entity.derived_from.items():
            if source not in domain.entities or source in (name, _USER):
                others = domain.entities.keys() - {name, _USER}
                yield (*at, "derived_from", source), f"{source!r} is not {one_of(others)}"
            elif domain.entities[source].attributes.get(attribute) != "string":
                yield (
                    (*at, "derived_from", source),
                    f"{attribute!r} is not a string attribute of {source}",
                )
        for index, member in enumerate(entity.pair or ()):
            if member not in domain.entities or domain.entities[member].pair is not None:
                yield (*at, "pair", index), f"{member!r} is not an entity, or is a pair itself"
        if entity.pair is not None and (entity.pair[0] != _USER or entity.pair[1] == _USER):
            yield (*at, "pair"), "must be a user and another entity, in this order"


def feature_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    """What is wrong with features."""
    for name, feature in domain.features.items():
        at: Location = ("features", name)
        before = 0
        for error in (
            *_entity_errors(domain, at, name, feature),
            *_event_errors(domain, at, feature),
        ):
            before += 1
            yield error
        if not before:
            yield from _kind_errors(domain, at, feature)


def one_of(names: Iterable[str]) -> str:
    """The names as a message lists them."""
    return "one of " + ", ".join(sorted(names))


def _holds(domain: Domain, entity: str, name: str, feature: Feature) -> str | None:
    match feature.kind:
        case "attribute":
            declared = domain.entities[entity].attributes.get(feature.attribute or name)
            if declared is None:
                return None
            return (
                "vector" if vector_dim(declared) else "list" if declared == "strings" else declared
            )
        case "sum" | "min" | "max" | "last":
            return _value_dtype(domain, feature.events[0], feature.value)
        case "pairs":
            return "list" if feature.emit == "id" else "vector"
        case _:
            return _HELD[feature.kind]


def _value_dtype(domain: Domain, event: str, value: str) -> str | None:
    if value == _AMOUNT and event in ("purchase", "refund"):
        return "int"
    return domain.events[event].attributes.get(value) if event in domain.events else None


def _entity_errors(
    domain: Domain, at: Location, name: str, feature: Feature
) -> Iterator[tuple[Location, str]]:
    for index, entity in enumerate(feature.entities):
        if entity not in domain.entities:
            yield (*at, "entities", index), f"{entity!r} is not {one_of(domain.entities)}"
            continue
        if feature.kind == "attribute":
            attribute = feature.attribute or name
            if attribute not in domain.entities[entity].attributes:
                yield (*at, "attribute"), f"{attribute!r} is not an attribute of {entity}"
            elif attribute == HEARD and "live" in domain.entities[entity].attributes:
                yield from _silence_errors(domain, at, entity, feature)
        elif domain.log.times == "ordinal" and entity != _USER:
            yield (*at, "kind"), "times are ordinal per user: no windows over other users"
        if feature.kind == "pairs" and entity != _USER:
            yield (*at, "entities", index), "only a user has pairs"


def _silence_errors(
    domain: Domain, at: Location, entity: str, feature: AttributeFeature
) -> Iterator[tuple[Location, str]]:
    """A room of which nothing is ever too old to have been heard would never count as silent."""
    if feature.ttl is None:
        yield (*at, "ttl"), f"is required: after which time a {entity} counts as silent"
    if domain.entities[entity].attributes[HEARD] != "bool":
        yield ("entities", entity, "attributes", HEARD), "must be bool: events of its state set it"


def _event_errors(domain: Domain, at: Location, feature: Feature) -> Iterator[tuple[Location, str]]:
    for field in ("events", "numerator", "denominator"):
        for index, event in enumerate(getattr(feature, field, ())):
            if event not in domain.events:
                yield (*at, field, index), f"{event!r} is not {one_of(domain.events)}"


def _kind_errors(domain: Domain, at: Location, feature: Feature) -> Iterator[tuple[Location, str]]:
    match feature.kind:
        case "sum" | "mean" | "min" | "max" | "last":
            yield from _value_errors(domain, at, feature.kind, feature.events, feature.value)
            if (
                feature.kind in ("min", "max")
                and _value_dtype(domain, feature.events[0], feature.value) == "int"
                and not feature.default.is_integer()
            ):
                yield (*at, "default"), f"{feature.value!r} is an int: so must this be"
        case "distinct" | "last_n":
            if feature.of not in domain.entities or domain.entities[feature.of].pair:
                yield (*at, "of"), f"{feature.of!r} is not {one_of(domain.entities)}"
            elif feature.kind == "last_n" and (
                feature.of == _USER or domain.entities[feature.of].derived_from
            ):
                yield (*at, "of"), f"{feature.of!r} is not named by events as an entity"
        case "expression":
            yield from _formula_errors(domain, at, feature.formula, feature.entities)
        case "pairs":
            yield from _pairs_errors(domain, at, feature.of, feature.emit)
        case _:
            return


def _value_errors(
    domain: Domain, at: Location, kind: str, events: list[str], value: str
) -> Iterator[tuple[Location, str]]:
    allowed = ("int", "float", "string", "bool") if kind == "last" else ("int", "float")
    found = {event: _value_dtype(domain, event, value) for event in events}
    for event, dtype in found.items():
        if dtype not in allowed:
            wanted = " or ".join(allowed)
            yield (*at, "value"), f"{value!r} is not an attribute of {event} that holds {wanted}"
    if len(set(found.values())) > 1:
        yield (*at, "value"), f"{value!r} is not of one type in {', '.join(events)}"


def _formula_errors(
    domain: Domain, at: Location, formula: str, entities: list[str]
) -> Iterator[tuple[Location, str]]:
    try:
        names = names_in(parse_formula(formula))
    except ValueError as error:
        yield (*at, "formula"), str(error)
        return
    if not names:
        yield (*at, "formula"), "reads no feature"
    for name in names:
        read = domain.features.get(name)
        for entity in entities:
            held = held_by(domain, entity).get(name)
            if read is None or held not in NUMERIC or read.kind == "expression":
                yield (
                    (*at, "formula"),
                    f"{name!r} is not a numeric feature of {entity}, or an expression itself",
                )


def _pairs_errors(
    domain: Domain, at: Location, of: str, emit: str
) -> Iterator[tuple[Location, str]]:
    pair = domain.entities[of].pair if of in domain.entities else None
    if pair is None:
        pairs = [name for name, entity in domain.entities.items() if entity.pair]
        yield (*at, "of"), f"{of!r} is not {one_of(pairs)}" if pairs else f"{of!r} is not a pair"
    elif emit != "id" and held_by(domain, of).get(emit) not in NUMERIC:
        yield (*at, "emit"), f"{emit!r} is neither id nor a numeric feature of {of}"
