"""What features mean: windows, aggregates, views. Pure, and shared by online and offline.

A feature is known *as of* a point (t_ms, arrival): from LIVE events that are neither marked
duplicate nor too late, with event time <= t_ms and a log position < arrival.

Windows are sawtooth (Chronon's name): exact at the head, hopping at the tail. Tile k of a window W
covers [k*W/12, (k+1)*W/12). At time t the window starts with the tile that t - W falls into, so an
event counts when ``window_start_ms(t, W) <= event time <= t``: between W and W + W/12 back.

Refunds reverse purchases at the purchase's own time, as soon as the refund is known:

- a sum over purchases falls by each refund's amount at the refund's ``purchase_time``;
- a count that includes purchases falls by one at ``purchase_time`` once the refunds known of that
  ``purchase_event_id`` add up to the ``purchase_amount`` of the first of them by arrival;
- both whether or not the purchase itself is known yet; a total below zero (the refund came first)
  reads as zero;
- recency and last_n are not reversed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal

from services.common.domain import Domain, Feature, LastNFeature, features_of
from services.common.durations import duration_ms

USER_ENTITY: Final = "user"
PURCHASE: Final = "purchase"
REFUND: Final = "refund"
AMOUNT: Final = "amount_minor"
ENTITY_UPSERT: Final = "entity_upsert"
ENTITY_WITHDRAWAL: Final = "entity_withdrawal"
ROOM_EVENTS: Final = ("room_started", "room_heartbeat", "room_now_selling", "room_ended")
CATALOGUE_EVENTS: Final = (ENTITY_UPSERT, ENTITY_WITHDRAWAL, *ROOM_EVENTS)
WINDOW_TILES: Final = 12
"""Tiles a window is cut into: the tail of the sawtooth is at most 1/12 of the window too long."""

DEDUPLICATION_MS: Final = 7 * 86_400_000
"""How long event ids are remembered; older events other than catalogue ones arrive too late."""

MAX_TOTAL: Final = 2**63 - 1
"""Largest total of a window that is served: what an int64 column holds."""

FeatureDType = Literal["float32", "int64", "string", "list"]
FeatureValue = float | int | str | tuple[str, ...]

ATTRIBUTE_DTYPES: Final[Mapping[str, FeatureDType]] = MappingProxyType(
    {"string": "string", "int": "int64", "bool": "int64", "float": "float32"}
)


def tile_index(time_ms: int, window_ms: int) -> int:
    """Tile of ``window_ms`` that ``time_ms`` (epoch ms) falls into."""
    return time_ms * WINDOW_TILES // window_ms


def window_start_ms(t_ms: int, window_ms: int) -> int:
    """First epoch millisecond counted at ``t_ms``: the start of the tile that holds t - W."""
    return -(-tile_index(t_ms - window_ms, window_ms) * window_ms // WINDOW_TILES)


def served_total(total: int) -> int:
    """Total of a window as it is served: a refund known before its purchase reads as zero, and
    more than ``MAX_TOTAL`` as that."""
    return min(max(total, 0), MAX_TOTAL)


def smoothed_ratio(
    numerator: int, denominator: int, prior_numerator: float, prior_denominator: float
) -> float:
    """(numerator + prior) / (denominator + prior), each total as it is served."""
    return (served_total(numerator) + prior_numerator) / (
        served_total(denominator) + prior_denominator
    )


@dataclass(frozen=True)
class WindowAggregate:
    """Events of some types in a window: how many, or the sum of the attribute ``value``."""

    events: tuple[str, ...]
    window_ms: int
    value: str | None = None

    @property
    def reversed_by_refunds(self) -> bool:
        """Whether refunds change it: it covers purchases, by number or by amount."""
        return PURCHASE in self.events and self.value in (None, AMOUNT)


@dataclass(frozen=True)
class LastTimeAggregate:
    """Time of the last event of some types."""

    events: tuple[str, ...]


@dataclass(frozen=True)
class LastEntriesAggregate:
    """The last ``limit`` events of some types that name an entity of type ``of``, by event time,
    then arrival."""

    events: tuple[str, ...]
    of: str
    limit: int


@dataclass(frozen=True)
class ViewFeature:
    """One column of a view.

    ``default`` is served when the value is not PRESENT; its type is the dtype's: float, int, str
    or a tuple of str. ``attribute`` is the catalogue attribute read, for kind "attribute".
    """

    name: str
    kind: str
    dtype: FeatureDType
    default: FeatureValue
    definition: Feature
    attribute: str | None = None


@dataclass(frozen=True)
class FeatureView:
    """All features of one entity type in declared order. ``hash`` covers name and definitions."""

    entity: str
    name: str
    hash: str
    features: tuple[ViewFeature, ...]

    def names(self, dtype: FeatureDType) -> tuple[str, ...]:
        """Columns of ``dtype``, in order."""
        return tuple(f.name for f in self.features if f.dtype == dtype)


@dataclass(frozen=True)
class EntityAggregates:
    """State that the features of one entity type need, shared where definitions agree."""

    windows: tuple[WindowAggregate, ...]
    last_times: tuple[LastTimeAggregate, ...]
    last_entries: tuple[LastEntriesAggregate, ...]


def declared_value(value: str | int | float | bool, dtype: str) -> str | int | float | None:
    """A catalogue attribute's value as its declared dtype is kept: a bool as 0 or 1.

    None for a value of another kind. Ingest refuses those; in a bulk log they count as never said.
    """
    if dtype == "string" or isinstance(value, str):
        return value if dtype == "string" and isinstance(value, str) else None
    if dtype == "bool":
        return int(bool(value)) if isinstance(value, int) else None
    if isinstance(value, bool):
        return None
    if dtype == "float":
        return float(value)
    return value if isinstance(value, int) else None


def count_aggregate(events: list[str], window: str) -> WindowAggregate:
    """Aggregate behind a count, and behind either side of a ratio."""
    return WindowAggregate(tuple(sorted(set(events))), duration_ms(window))


def sum_aggregate(events: list[str], window: str, value: str) -> WindowAggregate:
    """Aggregate behind a sum."""
    return WindowAggregate(tuple(sorted(set(events))), duration_ms(window), value)


def last_time_aggregate(events: list[str]) -> LastTimeAggregate:
    """Aggregate behind a recency."""
    return LastTimeAggregate(tuple(sorted(set(events))))


def window_aggregates(feature: Feature) -> tuple[WindowAggregate, ...]:
    """Window aggregates that ``feature`` reads: one, or numerator and denominator, or none."""
    if feature.kind == "count":
        return (count_aggregate(feature.events, feature.window),)
    if feature.kind == "sum":
        return (sum_aggregate(feature.events, feature.window, feature.value),)
    if feature.kind == "ratio":
        return (
            count_aggregate(feature.numerator, feature.window),
            count_aggregate(feature.denominator, feature.window),
        )
    return ()


def compile_aggregates(view: FeatureView) -> EntityAggregates:
    """State needed to serve ``view``, in order of first use."""
    windows: dict[WindowAggregate, None] = {}
    last_times: dict[LastTimeAggregate, None] = {}
    limits: dict[tuple[tuple[str, ...], str], int] = {}
    for column in view.features:
        definition = column.definition
        windows |= dict.fromkeys(window_aggregates(definition))
        if definition.kind == "recency":
            last_times[last_time_aggregate(definition.events)] = None
        elif definition.kind == "last_n":
            key = last_entries_key(definition)
            limits[key] = max(limits.get(key, 0), definition.limit)
    entries = (LastEntriesAggregate(events, of, limit) for (events, of), limit in limits.items())
    return EntityAggregates(tuple(windows), tuple(last_times), tuple(entries))


def last_entries_key(feature: LastNFeature) -> tuple[tuple[str, ...], str]:
    """What last_n features must agree on to share one list."""
    return tuple(sorted(set(feature.events))), feature.of


def compile_views(domain: Domain) -> dict[str, FeatureView]:
    """The view of every entity type that has features, by entity type in declared order."""
    views: dict[str, FeatureView] = {}
    for entity in domain.entities:
        columns = tuple(
            _view_feature(domain, entity, name, feature)
            for name, feature in features_of(domain, entity).items()
        )
        if columns:
            name = f"{domain.name}.{entity}"
            views[entity] = FeatureView(entity, name, _view_hash(name, columns), columns)
    return views


def _view_feature(domain: Domain, entity: str, name: str, feature: Feature) -> ViewFeature:
    attribute: str | None = None
    dtype: FeatureDType
    default: FeatureValue
    if feature.kind == "attribute":
        attribute = feature.attribute or name
        dtype = ATTRIBUTE_DTYPES[domain.entities[entity].attributes[attribute]]
        default = "" if dtype == "string" else 0 if dtype == "int64" else 0.0
    elif feature.kind in ("count", "sum"):
        dtype, default = "int64", 0
    elif feature.kind == "ratio":
        dtype = "float32"
        default = smoothed_ratio(0, 0, feature.prior.numerator, feature.prior.denominator)
    elif feature.kind == "recency":
        dtype, default = "float32", feature.default
    else:
        dtype, default = "list", ()
    return ViewFeature(name, feature.kind, dtype, default, feature, attribute)


def _view_hash(name: str, columns: tuple[ViewFeature, ...]) -> str:
    # What a feature says about itself and which other entities have it do not change its values.
    described: list[dict[str, Any]] = [
        {
            "name": column.name,
            "dtype": column.dtype,
            "attribute": column.attribute,
            "definition": column.definition.model_dump(
                mode="json", exclude={"entities", "description"}
            ),
        }
        for column in columns
    ]
    text = json.dumps([name, described], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()
