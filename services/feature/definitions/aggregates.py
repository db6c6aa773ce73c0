"""What has to be kept of events to serve features. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, NamedTuple

from services.common.domain import Domain
from services.common.domain_features import (
    Feature,
    LastFeature,
    LastNFeature,
)
from services.common.durations import duration_ms
from services.feature.definitions.entities import other_side
from services.feature.definitions.events import AMOUNT, PURCHASE
from services.feature.definitions.views import ViewFeature
from services.feature.definitions.windows import hop_ms

Fold = Literal["count", "values", "sum", "min", "max"]


@dataclass(frozen=True)
class WindowAggregate:
    """Events of some types in a window, folded into one number.

    ``fold``: "count" the events; of the attribute ``value``, the "sum", "min" or "max", or how
    many events have it ("values").
    """

    events: tuple[str, ...]
    window_ms: int
    value: str | None = None
    fold: Fold = "count"

    @property
    def reversed_by_refunds(self) -> bool:
        """Whether refunds change it: it covers purchases, by number or by amount."""
        return PURCHASE in self.events and (
            self.fold == "count" or (self.fold in ("sum", "values") and self.value == AMOUNT)
        )


class Level(NamedTuple):
    """Tiles of one size, and the longest of the windows that hop by it."""

    hop_ms: int
    longest_ms: int


@dataclass(frozen=True)
class TileAggregate:
    """Window aggregates that differ in their windows only, on shared tiles.

    An event lies in the finest tile that a window may still need by itself; once none does, the
    tile is folded into the next level's. A window is the sum of the tiles from its start on, of
    its own level and all finer ones.
    """

    events: tuple[str, ...]
    value: str | None
    fold: Fold
    levels: tuple[Level, ...]

    @property
    def reversed_by_refunds(self) -> bool:
        """See ``WindowAggregate``."""
        aggregate = WindowAggregate(self.events, self.levels[0].longest_ms, self.value, self.fold)
        return aggregate.reversed_by_refunds


@dataclass(frozen=True)
class LastTimeAggregate:
    """Time of the last event of some types."""

    events: tuple[str, ...]


@dataclass(frozen=True)
class LastValueAggregate:
    """The attribute ``value`` in the last event of some types that has it, by event time, then
    arrival."""

    events: tuple[str, ...]
    value: str


@dataclass(frozen=True)
class LastEntriesAggregate:
    """The last ``limit`` events of some types that name an entity of type ``of``, by event time,
    then arrival."""

    events: tuple[str, ...]
    of: str
    limit: int


@dataclass(frozen=True)
class RecentAggregate:
    """When each of the ``cap`` entities of type ``of`` that were named last was named, by event
    time, then id. Enough to say how many different ones any window names, up to ``cap``."""

    events: tuple[str, ...]
    of: str
    cap: int


@dataclass(frozen=True)
class EntityAggregates:
    """State that the features of one entity type need, shared where definitions agree."""

    tiles: tuple[TileAggregate, ...]
    last_times: tuple[LastTimeAggregate, ...]
    last_values: tuple[LastValueAggregate, ...]
    last_entries: tuple[LastEntriesAggregate, ...]
    recents: tuple[RecentAggregate, ...]


def window_aggregates(feature: Feature) -> tuple[WindowAggregate, ...]:
    """Window aggregates that ``feature`` reads: one, two (of a ratio numerator and denominator, of
    a mean sum and number), or none."""
    match feature.kind:
        case "count" | "rate":
            return (_window(feature.events, feature.window),)
        case "sum":
            return (_window(feature.events, feature.window, feature.value, "sum"),)
        case "mean":
            return (
                _window(feature.events, feature.window, feature.value, "sum"),
                _window(feature.events, feature.window, feature.value, "values"),
            )
        case "min" | "max":
            return (_window(feature.events, feature.window, feature.value, feature.kind),)
        case "ratio":
            return (
                _window(feature.numerator, feature.window),
                _window(feature.denominator, feature.window),
            )
        case _:
            return ()


def _window(
    events: Iterable[str], window: str, value: str | None = None, fold: Fold = "count"
) -> WindowAggregate:
    return WindowAggregate(tuple(sorted(set(events))), duration_ms(window), value, fold)


def last_time_aggregate(events: list[str]) -> LastTimeAggregate:
    """Aggregate behind a recency."""
    return LastTimeAggregate(tuple(sorted(set(events))))


def last_value_aggregate(feature: LastFeature) -> LastValueAggregate:
    """Aggregate behind a last."""
    return LastValueAggregate(tuple(sorted(set(feature.events))), feature.value)


def last_entries_key(feature: LastNFeature) -> tuple[tuple[str, ...], str]:
    """What last_n features must agree on to share one list."""
    return tuple(sorted(set(feature.events))), feature.of


def recent_key(events: Iterable[str], of: str) -> tuple[tuple[str, ...], str]:
    """What distinct and pairs features must agree on to share one aggregate."""
    return tuple(sorted(set(events))), of


def compile_aggregates(domain: Domain, features: Iterable[ViewFeature]) -> EntityAggregates:
    """State needed to serve ``features`` of one entity type, in order of first use."""
    tiles: dict[tuple[tuple[str, ...], str | None, Fold], dict[int, int]] = {}
    last_times: dict[LastTimeAggregate, None] = {}
    last_values: dict[LastValueAggregate, None] = {}
    limits: dict[tuple[tuple[str, ...], str], int] = {}
    caps: dict[tuple[tuple[str, ...], str], int] = {}
    for column in features:
        definition = column.definition
        for window in window_aggregates(definition):
            levels = tiles.setdefault((window.events, window.value, window.fold), {})
            hop = hop_ms(window.window_ms)
            levels[hop] = max(levels.get(hop, 0), window.window_ms)
        match definition.kind:
            case "recency":
                last_times[last_time_aggregate(definition.events)] = None
            case "last":
                last_values[last_value_aggregate(definition)] = None
            case "last_n":
                key = last_entries_key(definition)
                limits[key] = max(limits.get(key, 0), definition.limit)
            case "distinct":
                key = recent_key(definition.events, definition.of)
                caps[key] = max(caps.get(key, 0), definition.cap)
            case "pairs":
                key = recent_key(definition.events, other_side(domain, definition.of))
                caps[key] = max(caps.get(key, 0), definition.limit)
            case _:
                continue
    return EntityAggregates(
        tuple(
            TileAggregate(*key, tuple(Level(hop, levels[hop]) for hop in sorted(levels)))
            for key, levels in tiles.items()
        ),
        tuple(last_times),
        tuple(last_values),
        tuple(LastEntriesAggregate(*key, limit) for key, limit in limits.items()),
        tuple(RecentAggregate(*key, cap) for key, cap in caps.items()),
    )
