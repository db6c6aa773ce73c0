"""Checks that filters, and what callers may filter by, refer to something of the right kind."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from services.common.domain_feature_references import NUMERIC, held_by, one_of, shown_by
from services.common.domain_features import LastNFeature
from services.common.domain_filters import (
    AgeFilter,
    Filter,
    NotInListFilter,
    PriceCapFilter,
    SeenFilter,
)
from services.common.yaml_config import Location

if TYPE_CHECKING:
    from services.common.domain import Domain

_USER = "user"
_TEXTS = ("string", "list")
_NUMBERS = ("int", "float")
_FILTERABLE = ("string", *NUMERIC, "list")
Read = tuple[Location, str, tuple[str, ...]]
"""(field, feature, what it may hold)."""


def filter_errors(
    domain: Domain, surface: str, held: dict[str, str]
) -> Iterator[tuple[Location, str]]:
    """What is wrong with a surface's filters; ``held`` is what the features of its items hold."""
    entity = domain.surfaces[surface].entity
    user = held_by(domain, _USER)
    for index, rule in enumerate(domain.surfaces[surface].filters):
        at: Location = ("surfaces", surface, "filters", index)
        for field, feature, wanted in item_reads(rule):
            if held.get(feature) not in wanted:
                yield (
                    (*at, *field),
                    f"{feature!r} is not a feature of {entity} that holds " + " or ".join(wanted),
                )
        for field, feature, wanted in _user_reads(rule):
            if user.get(feature) not in wanted:
                yield (
                    (*at, *field),
                    f"{feature!r} is not a feature of {_USER} that holds " + " or ".join(wanted),
                )
        yield from _listing_errors(domain, at, rule)


def filterable_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    """What is wrong with what callers may filter by."""
    for name, entity in domain.entities.items():
        held = shown_by(domain, name)
        for index, feature in enumerate(entity.filterable):
            at: Location = ("entities", name, "filterable", index)
            if feature in entity.filterable[:index]:
                yield at, f"{feature!r} is named twice"
            elif feature != "id" and held.get(feature) not in _FILTERABLE:
                wanted = one_of({"id", *(n for n, kind in held.items() if kind in _FILTERABLE)})
                yield at, f"{feature!r} is not {wanted}"


def filterable_fields(domain: Domain, entity: str) -> dict[str, str]:
    """What callers may filter an entity type by, and what each holds: string, int, float, bool or
    list."""
    held = {"id": "string", **shown_by(domain, entity)}
    return {name: held[name] for name in domain.entities[entity].filterable}


def item_reads(rule: Filter) -> list[Read]:
    """What a filter reads of an item; its own id aside."""
    match rule.kind:
        case "open_window":
            return [(("opens",), rule.opens, ("int",)), (("closes",), rule.closes, ("int",))]
        case "live_or_starting":
            flags = [("live", rule.live), ("heard", rule.heard)]
            read: list[Read] = [((f,), name, ("bool",)) for f, name in flags if name is not None]
            return [*read, (("starts",), rule.starts, ("int",))]
        case "heard_within":
            return [(("attribute",), rule.attribute, ("int",))]
        case "not_in_list" | "seen":
            return [] if rule.attribute == "id" else [(("attribute",), rule.attribute, ("string",))]
        case "exclude":
            if rule.attribute is not None:
                return [(("attribute",), rule.attribute, ("bool",))]
            named = enumerate(rule.attributes)
            return [(("attributes", place), flag, ("bool",)) for place, flag in named]
        case "require":
            return [(("attribute",), rule.attribute, ("bool",))]
        case "language" | "region":
            return [(("attribute",), rule.attribute, _TEXTS)]
        case "prerequisites":
            return [(("attribute",), rule.attribute, ("list",))]
        case "positive" | "age" | "price_cap":
            return [(("attribute",), rule.attribute, _NUMBERS)]


def _user_reads(rule: Filter) -> list[Read]:
    if rule.kind == "prerequisites":
        return [(("feature",), rule.feature, ("list",))]
    if rule.kind == "language" and rule.feature is not None:
        return [(("feature",), rule.feature, _TEXTS)]
    if isinstance(rule, AgeFilter | PriceCapFilter) and rule.feature is not None:
        return [(("feature",), rule.feature, _NUMBERS)]
    return []


def _listing_errors(domain: Domain, at: Location, rule: Filter) -> Iterator[tuple[Location, str]]:
    """Of filters by what the user did: it is a list of ids, and of a window if ``seen`` asks it."""
    if not isinstance(rule, NotInListFilter | SeenFilter):
        return
    field: Location = (*at, "feature")
    feature = domain.features.get(rule.feature)
    if held_by(domain, _USER).get(rule.feature) != "list" or getattr(feature, "emit", "id") != "id":
        yield field, f"{rule.feature!r} is not a last_n feature of user that emits id"
    elif isinstance(rule, SeenFilter):
        if not isinstance(feature, LastNFeature) or feature.ttl is None:
            yield field, f"{rule.feature!r} is not a last_n feature with a ttl, which is the window"
        elif rule.times > feature.limit:
            yield (*at, "times"), f"{rule.feature!r} lists {feature.limit} at most"
