"""Leaders of an entity type by a score over their features. Pure."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from services.common.durations import duration_ms
from services.common.errors import InvalidArgument
from services.feature.definitions import ViewFeature, window_aggregates
from services.feature.rows.rows import PRESENT, Row


class Leader(NamedTuple):
    """An entity and its score."""

    identity: str
    score: float


@dataclass(frozen=True)
class FeatureScore:
    """The value of a feature."""

    feature: str


@dataclass(frozen=True)
class RisingScore:
    """(recent + prior) / (baseline x shorter window / longer window + prior); none without
    anything recent."""

    recent: str
    baseline: str
    prior: float


@dataclass(frozen=True)
class DecayedScore:
    """Totals of different windows, an event in them halving every ``half_life_ms``.

    What lies between a window and the next shorter one is weighted by the mean of 2^(-age /
    half-life) over the ages in between; none where there is nothing.
    """

    features: tuple[str, ...]
    half_life_ms: float


Score = FeatureScore | RisingScore | DecayedScore
_ScoreRow = Callable[[Row], float | None]


def leaders(
    columns: Sequence[ViewFeature],
    rows: Iterable[tuple[str, Row]],
    score: Score,
    *,
    limit: int,
    required: str = "",
) -> list[Leader]:
    """At most ``limit`` of the entities, the greatest score first, of equal ones the smaller id.

    ``rows`` are of these ``columns``. An entity of which a value that is read is not PRESENT has no
    score, nor has one whose ``required`` feature is not PRESENT, 0 or empty. Raises
    ``InvalidArgument`` for a feature that the view does not have or that does not fit.
    """
    places = {column.name: place for place, column in enumerate(columns)}
    scored = _scorer(columns, places, score)
    holds = _requirement(places, required)
    found = (
        (-value, identity)
        for identity, row in rows
        if holds(row) and (value := scored(row)) is not None
    )
    return [Leader(identity, -negative) for negative, identity in heapq.nsmallest(limit, found)]


def ring_weights(windows_ms: Sequence[int], half_life_ms: float) -> list[float]:
    """Weight of what lies between each window and the one before, from the shortest on: the mean of
    2^(-age / half-life) there."""
    rate = math.log(2) / half_life_ms
    weights: list[float] = []
    start = 0
    for end in windows_ms:
        area = math.exp(-rate * start) * -math.expm1(-rate * (end - start))
        weights.append(area / (rate * (end - start)))
        start = end
    return weights


def _scorer(columns: Sequence[ViewFeature], places: dict[str, int], score: Score) -> _ScoreRow:
    match score:
        case FeatureScore(feature):
            place = _numeric(columns, places, "feature", feature)
            return lambda row: _value(row, place)
        case RisingScore(recent, baseline, prior):
            first, short_ms = _window(columns, places, "rising.recent", recent)
            second, long_ms = _window(columns, places, "rising.baseline", baseline)
            _require_same_events(columns, "rising.baseline", first, second)
            if short_ms >= long_ms:
                raise InvalidArgument.field("rising.recent", "must have the shorter window")
            share = short_ms / long_ms

            def rising(row: Row) -> float | None:
                now, before = _value(row, first), _value(row, second)
                if now is None or before is None or now <= 0:
                    return None
                return (now + prior) / (before * share + prior)

            return rising
        case DecayedScore(features, half_life_ms):
            windows = sorted(
                (_window(columns, places, f"decayed.features[{number}]", name)[::-1])
                for number, name in enumerate(features)
            )
            for number, name in enumerate(features):
                _require_same_events(
                    columns, f"decayed.features[{number}]", places[features[0]], places[name]
                )
            sizes = [size for size, _ in windows]
            if len(set(sizes)) < len(sizes):
                raise InvalidArgument.field("decayed.features", "must have different windows")
            weights = ring_weights(sizes, half_life_ms)
            at = [place for _, place in windows]

            def decayed(row: Row) -> float | None:
                total, inner = 0.0, 0.0
                for place, weight in zip(at, weights, strict=True):
                    value = _value(row, place)
                    if value is None:
                        return None
                    # A hop more at the tail of a shorter window may hold what is not in a ring.
                    total += weight * max(0.0, value - inner)
                    inner = max(inner, value)
                return total if total > 0 else None

            return decayed


def _value(row: Row, place: int) -> float | None:
    value = row.values[place]
    if row.statuses[place] != PRESENT or not isinstance(value, int | float):
        return None
    return value


def _requirement(places: dict[str, int], required: str) -> Callable[[Row], bool]:
    if not required:
        return lambda row: True  # noqa: ARG005 - a filter's signature
    if required not in places:
        raise InvalidArgument.field("required", f"the view has no feature {required!r}")
    place = places[required]
    return lambda row: row.statuses[place] == PRESENT and bool(row.values[place])


def _numeric(columns: Sequence[ViewFeature], places: dict[str, int], field: str, name: str) -> int:
    place = places.get(name)
    if place is None:
        raise InvalidArgument.field(field, f"the view has no feature {name!r}")
    if columns[place].dtype not in ("float32", "int64"):
        raise InvalidArgument.field(field, f"{name!r} is no number")
    return place


def _window(
    columns: Sequence[ViewFeature], places: dict[str, int], field: str, name: str
) -> tuple[int, int]:
    """(column, window in ms) of a count or sum."""
    place = _numeric(columns, places, field, name)
    definition = columns[place].definition
    if definition.kind not in ("count", "sum"):
        raise InvalidArgument.field(field, f"{name!r} is no count or sum over a window")
    return place, duration_ms(definition.window)


def _require_same_events(
    columns: Sequence[ViewFeature], field: str, first: int, second: int
) -> None:
    """Windows of different events can't be compared, or taken from one another."""
    one, other = (window_aggregates(columns[place].definition)[0] for place in (first, second))
    if (one.events, one.value, one.fold) != (other.events, other.value, other.fold):
        raise InvalidArgument.field(
            field, f"{columns[second].name!r} is not over what {columns[first].name!r} is over"
        )
