"""Windows over the rows of the log about one entity, in plain Python."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from offline.dataset.schema import value_column
from services.common.domain import Domain
from services.common.durations import duration_ms
from services.feature.definitions import (
    ViewFeature,
    WindowAggregate,
    served_total,
    smoothed_ratio,
    value_dtype,
    window_aggregates,
    window_start_ms,
)

Row = Mapping[str, Any]
Point = tuple[int, int]
"""(time_ms, arrival): events up to the time and before the arrival are known."""


@dataclass(frozen=True)
class Known:
    """What is known of a key at a point: its events by event time, then arrival; its refunds, each
    with those of the same purchase that came before it under the same name."""

    rows: list[Row]
    refunds: list[tuple[Row, list[Row]]]


def window_value(domain: Domain, known: Known, column: ViewFeature, point: Point) -> Any:
    """A feature that is read from windows."""
    definition = column.definition
    windows = window_aggregates(definition)
    dtype = "int"
    if definition.kind in ("sum", "mean", "min", "max"):
        dtype = value_dtype(domain, definition)
    numbers = [_numbers(known, window, dtype, point) for window in windows]
    reversible = windows[0].reversed_by_refunds
    match definition.kind:
        case "min" | "max":
            fold = min if definition.kind == "min" else max
            return fold(numbers[0]) if numbers[0] else column.default
        case "mean":
            number = sum(numbers[1])
            total = _served(sum(numbers[0]), reversible)
            return total / number if number > 0 else definition.default
        case "ratio":
            prior = definition.prior
            numerator, denominator = (sum(found) for found in numbers)
            return smoothed_ratio(numerator, denominator, prior.numerator, prior.denominator)
        case "rate":
            scale = duration_ms(definition.per) / windows[0].window_ms
            return served_total(sum(numbers[0])) * scale
        case _:
            return _served(sum(numbers[0]), reversible)


def _numbers(known: Known, window: WindowAggregate, dtype: str, point: Point) -> list[Any]:
    """What the events of a window, and the refunds known, add to it."""
    start_ms = window_start_ms(point[0], window.window_ms)
    found: list[Any] = []
    for row in known.rows:
        if row["type"] not in window.events or row["time_ms"] < start_ms:
            continue
        value = 1 if window.value is None else row[value_column(window.value, dtype)]
        if value is not None:
            found.append(1 if window.fold == "values" else value)
    if not window.reversed_by_refunds:
        return found
    for row, before in known.refunds:
        if window.fold == "sum":
            if start_ms <= row["purchase_time_ms"] <= point[0]:
                found.append(-row["given_back_minor"])
        else:
            found.append(_back(before, start_ms, point[0]))
            found.append(-_back([*before, row], start_ms, point[0]))
    return found


def _back(refunds: Sequence[Row], start_ms: int, t_ms: int) -> int:
    """1 where refunds of a purchase cover it, and it lies in the window; else 0."""
    if not refunds:
        return 0
    first = min(refunds, key=lambda row: row["arrival"])
    covered = sum(r["given_back_minor"] for r in refunds) >= first["purchase_amount_minor"]
    return int(covered and start_ms <= first["purchase_time_ms"] <= t_ms)


def _served(total: float, reversible: bool) -> float:
    return total if isinstance(total, float) else served_total(total, reversible=reversible)
