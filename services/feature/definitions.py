"""What features mean: windows, aggregates, views. Pure, and shared by online and offline.

A feature is known *as of* a point (t_ms, arrival): from LIVE events that are neither marked
duplicate nor too late, with event time <= t_ms and a log position < arrival.

Windows are sawtooth (Chronon's name): exact at the head, hopping at the tail. A window W hops by
``hop_ms(W)``, the longest of ``HOPS_MS`` that is at most W/12. At time t it starts where the hop
that t - W falls into starts, so an event counts when ``window_start_ms(t, W) <= event time <= t``:
between W and W + W/12 back. Each hop divides the next, so that windows of one aggregate share
their tiles.

Refunds reverse purchases at the purchase's own time, as soon as the refund is known:

- a sum over purchases' ``amount_minor`` falls by each refund's amount at its ``purchase_time``;
- a count, or the number that a mean divides by, falls by one at ``purchase_time`` once the refunds
  known of that ``purchase_event_id`` add up to the ``purchase_amount`` of the first of them by
  arrival;
- both whether or not the purchase itself is known yet; a total below zero (the refund came first)
  reads as zero;
- each key goes by the refunds that name it, of those that are known;
- min, max, last, distinct, recency, last_n and pairs are not reversed.

A value's *event time* is that of the latest event counted in it: for a window the latest inside
that the value is made from, refunded or not (refunds do not move it); for an attribute the event
that set it, when it is STALE too; for a list its latest entry; for pairs when the first was named;
for an expression the latest of its inputs'. It is 0 where nothing is counted, and for NULL.

A key that is *derived* (see ``Entity.derived_from``) is what the attribute said at the event's own
point: as known of the entity at the time the event arrived, from the log before it.
"""

from __future__ import annotations

import hashlib
import json
from bisect import bisect_right
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Final, Literal, NamedTuple

from services.common.domain import Domain, features_of
from services.common.domain_features import (
    ExtremeFeature,
    Feature,
    LastFeature,
    LastNFeature,
    MeanFeature,
    SumFeature,
    vector_dim,
)
from services.common.durations import duration_ms
from services.common.formula import names_in, parse_formula

USER_ENTITY: Final = "user"
PURCHASE: Final = "purchase"
REFUND: Final = "refund"
AMOUNT: Final = "amount_minor"
ENTITY_UPSERT: Final = "entity_upsert"
ENTITY_WITHDRAWAL: Final = "entity_withdrawal"
ROOM_HEARTBEAT: Final = "room_heartbeat"
"""Comes all the time and says nothing urgent: its changes are told with what moves."""

ROOM_EVENTS: Final = ("room_started", ROOM_HEARTBEAT, "room_now_selling", "room_ended")
PROFILE: Final = "profile"
ALIAS: Final = "alias"
ERASURE: Final = "erasure"
PROFILE_VERSION: Final = "profile_version"
CATALOGUE_EVENTS: Final = (ENTITY_UPSERT, ENTITY_WITHDRAWAL, *ROOM_EVENTS, PROFILE)

HOPS_MS: Final = (
    5_000,
    60_000,
    300_000,
    3_600_000,
    7_200_000,
    43_200_000,
    216_000_000,
    1_080_000_000,
    5_400_000_000,
)
"""Sizes of tiles: 5 s, 1 m, 5 m, 1 h, 2 h, 12 h, 2.5 d, 12.5 d, 62.5 d. Each divides the next."""

DEDUPLICATION_MS: Final = 7 * 86_400_000
"""How long event ids are remembered."""

LATENESS_MS: Final = 86_400_000
"""Events that happened longer ago when they arrive come too late; those about the catalogue never
do."""

LONG_LATENESS_MS: Final = 60 * 86_400_000
"""The same for ``LONG_LATE``: refunds, and what services write and ship from a spool, which may
have waited out a long outage."""

LONG_LATE: Final = frozenset((REFUND, "slate_served", "exposure", "decision"))

MAX_KEY_BYTES: Final = 128
"""Longest id, in UTF-8, that an attribute may derive; longer ones derive nothing."""

MAX_TOTAL: Final = 2**63 - 1
"""Largest total of a window that is served: what an int64 column holds."""

FeatureDType = Literal["float32", "int64", "string", "list", "vector"]
FeatureValue = float | int | str | tuple[str, ...] | tuple[float, ...]
Fold = Literal["count", "values", "sum", "min", "max"]

ATTRIBUTE_DTYPES: Final[Mapping[str, FeatureDType]] = MappingProxyType(
    {"string": "string", "int": "int64", "bool": "int64", "float": "float32", "strings": "list"}
)
_PAIR_MARK: Final = ":"


def hop_ms(window_ms: int) -> int:
    """Steps that the start of a window moves in; also the size of its coarsest tiles."""
    return HOPS_MS[bisect_right(HOPS_MS, window_ms // 12) - 1]


def window_start_ms(t_ms: int, window_ms: int) -> int:
    """First epoch millisecond counted at ``t_ms``: the start of the hop that holds t - W."""
    hop = hop_ms(window_ms)
    return (t_ms - window_ms) // hop * hop


def window_hops_ms(t_ms: int, window_ms: int) -> int:
    """First time after ``t_ms`` at which the window starts elsewhere."""
    return window_start_ms(t_ms, window_ms) + hop_ms(window_ms) + window_ms


def pair_id(first: str, second: str) -> str:
    """Id of a pair. No two pairs share one, and those with one ``first`` share a beginning."""
    return f"{len(first)}{_PAIR_MARK}{first}{second}"


def pair_members(identity: str) -> tuple[str, str]:
    """Inverse of ``pair_id``."""
    length, _, both = identity.partition(_PAIR_MARK)
    return both[: int(length)], both[int(length) :]


def is_pair_id(identity: str) -> bool:
    """Whether an id has the form of a pair's."""
    length, mark, both = identity.partition(_PAIR_MARK)
    return bool(mark) and length.isascii() and length.isdecimal() and int(length) <= len(both)


def served_total(total: int, *, reversible: bool = True) -> int:
    """Total of a window as it is served: within an int64, and where refunds reverse it not below
    zero, which a refund known before its purchase would make it."""
    return min(max(total, 0 if reversible else -MAX_TOTAL), MAX_TOTAL)


def smoothed_ratio(
    numerator: int, denominator: int, prior_numerator: float, prior_denominator: float
) -> float:
    """(numerator + prior) / (denominator + prior), each total as it is served."""
    return (served_total(numerator) + prior_numerator) / (
        served_total(denominator) + prior_denominator
    )


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
class ViewFeature:
    """One column of a view.

    ``default`` is served when the value is not PRESENT; its type is the dtype's: float, int, str,
    a tuple of str, or of ``dim`` floats. ``attribute`` is the attribute read, for kind "attribute".
    """

    name: str
    kind: str
    dtype: FeatureDType
    default: FeatureValue
    definition: Feature
    attribute: str | None = None
    dim: int = 0


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

    tiles: tuple[TileAggregate, ...]
    last_times: tuple[LastTimeAggregate, ...]
    last_values: tuple[LastValueAggregate, ...]
    last_entries: tuple[LastEntriesAggregate, ...]
    recents: tuple[RecentAggregate, ...]


Scalar = str | int | float
AttributeValue = Scalar | tuple[str, ...] | tuple[float, ...]


def declared_value(value: Any, dtype: str) -> AttributeValue | None:
    """An attribute's value as its declared dtype is kept: a bool as 0 or 1, a list as a tuple.

    None for a value of another kind. Ingest refuses those; in a bulk log they count as never said.
    """
    if isinstance(value, tuple):
        dim = vector_dim(dtype)
        if dim is None:
            return value if dtype == "strings" and all(isinstance(v, str) for v in value) else None
        numbers = all(isinstance(v, float) for v in value)
        return value if numbers and len(value) == dim else None
    if dtype == "string" or isinstance(value, str):
        return value if dtype == "string" and isinstance(value, str) else None
    if dtype == "bool":
        return int(bool(value)) if isinstance(value, int) else None
    if isinstance(value, bool):
        return None
    if dtype == "float":
        return float(value)
    return value if dtype == "int" and isinstance(value, int) else None


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


def other_side(domain: Domain, pair: str) -> str:
    """Entity type that a pair's entity type pairs users with."""
    members = domain.entities[pair].pair
    if members is None:
        raise ValueError(f"{pair} is no pair")
    return members[1]


def catalogue_entities(domain: Domain) -> frozenset[str]:
    """Entity types that can be listed and watched: neither users nor pairs."""
    return frozenset(n for n, e in domain.entities.items() if n != USER_ENTITY and e.pair is None)


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
            views[entity] = FeatureView(
                entity, name, _view_hash(domain, entity, name, columns), columns
            )
    return views


def _view_feature(domain: Domain, entity: str, name: str, feature: Feature) -> ViewFeature:
    attribute: str | None = None
    dim = 0
    dtype: FeatureDType
    default: FeatureValue
    match feature.kind:
        case "attribute":
            attribute = feature.attribute or name
            declared = domain.entities[entity].attributes[attribute]
            dim = vector_dim(declared) or 0
            dtype = "vector" if dim else ATTRIBUTE_DTYPES[declared]
            default = _NO_VALUE[dtype] if not dim else (0.0,) * dim
        case "count" | "distinct":
            dtype, default = "int64", 0
        case "sum":
            dtype = "float32" if value_dtype(domain, feature) == "float" else "int64"
            default = _NO_VALUE[dtype]
        case "min" | "max":
            floats = value_dtype(domain, feature) == "float"
            dtype = "float32" if floats else "int64"
            default = feature.default if floats else int(feature.default)
        case "last":
            dtype = ATTRIBUTE_DTYPES[value_dtype(domain, feature)]
            default = _NO_VALUE[dtype]
        case "rate":
            dtype, default = "float32", 0.0
        case "mean" | "recency" | "expression":
            dtype, default = "float32", feature.default
        case "ratio":
            dtype = "float32"
            default = smoothed_ratio(0, 0, feature.prior.numerator, feature.prior.denominator)
        case "pairs" if feature.emit != "id":
            dtype, dim = "vector", feature.limit
            default = (0.0,) * dim
        case _:
            dtype, default = "list", ()
    return ViewFeature(name, feature.kind, dtype, default, feature, attribute, dim)


_NO_VALUE: Final[Mapping[FeatureDType, FeatureValue]] = MappingProxyType(
    {"string": "", "int64": 0, "float32": 0.0, "list": ()}
)


ValueFeature = SumFeature | MeanFeature | ExtremeFeature | LastFeature


def value_dtype(domain: Domain, feature: ValueFeature) -> str:
    """Declared type of the event attribute that a feature reads, the same in all its events."""
    if feature.value == AMOUNT and feature.events[0] in (PURCHASE, REFUND):
        return "int"
    return domain.events[feature.events[0]].attributes.get(feature.value, "int")


def values_read(domain: Domain) -> dict[tuple[str, str], str]:
    """Event attributes that features read: declared type by (event type, attribute)."""
    found: dict[tuple[str, str], str] = {}
    for feature in domain.features.values():
        if feature.kind in ("sum", "mean", "min", "max", "last"):
            dtype = value_dtype(domain, feature)
            found |= {(event, feature.value): dtype for event in feature.events}
    return found


def inputs_of(feature: Feature) -> tuple[str, ...]:
    """Names of the features that an expression reads."""
    return names_in(parse_formula(feature.formula)) if feature.kind == "expression" else ()


def _view_hash(domain: Domain, entity: str, name: str, columns: tuple[ViewFeature, ...]) -> str:
    described: list[Any] = [_described(domain, column) for column in columns]
    keyed = _keyed(domain, entity)
    if keyed:
        described.append(keyed)
    text = json.dumps([name, described], sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(text.encode()).hexdigest()


def _described(domain: Domain, column: ViewFeature) -> dict[str, Any]:
    # What a feature says about itself and which other entities have it do not change its values;
    # what is not said must not either, so that a later option leaves the hash as it was.
    described: dict[str, Any] = {
        "name": column.name,
        "dtype": column.dtype,
        "attribute": column.attribute,
        "definition": column.definition.model_dump(
            mode="json", exclude={"entities", "description"}, exclude_defaults=True
        ),
    }
    if column.dim:
        described["dim"] = column.dim
    definition = column.definition
    if definition.kind in ("distinct", "pairs"):
        keyed = _keyed(domain, definition.of)
        if keyed:
            described["of"] = keyed
    if definition.kind == "pairs" and definition.emit != "id":
        emitted = domain.features[definition.emit]
        described["emitted"] = [
            _described(domain, _view_feature(domain, definition.of, name, domain.features[name]))
            for name in (definition.emit, *inputs_of(emitted))
        ]
    return described


def _keyed(domain: Domain, entity: str) -> dict[str, Any]:
    """What leads events to keys of this type, if they are not named outright."""
    declared = domain.entities[entity]
    keyed: dict[str, Any] = {}
    if declared.derived_from:
        # Their order counts.
        keyed["derived_from"] = list(declared.derived_from.items())
    if declared.pair is not None:
        keyed["pair"] = [[member, _keyed(domain, member)] for member in declared.pair]
    return keyed
