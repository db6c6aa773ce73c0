"""Running values at points in time, and what came too late to be known at them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from offline.dataset.log_tables import LogTables
from services.feature.definitions import hop_ms

_BEFORE_ALL = -1
_START, _POINT, _EVENT = 0, 1, 2


@dataclass(frozen=True)
class Running:
    """Running values at the points, the same at window starts, and what was late."""

    ends: ir.Table
    starts: ir.Table
    late: ir.Table | None


def running_values(
    tables: LogTables,
    events: ir.Table,
    points: ir.Table,
    starts: Sequence[ir.Table],
    totals: Sequence[str],
    maxima: Sequence[str],
) -> Running:
    """Running totals and maxima over ``events`` by (time, arrival) within an id, of the types that
    ``events`` has them in.

    ``starts``: tables id, time_ms; totals there cover events before time_ms. ``ends`` has point
    and all columns; ``starts`` id, time_ms and totals; ``late`` pairs each late event's columns
    with the ``point`` that did not know it, and that point's time as ``point_time_ms``; None when
    no event was late.
    """
    columns = (*totals, *maxima)
    types = {name: events[name].type() for name in columns}
    empty = {name: ibis.null(dtype) for name, dtype in types.items()}
    place = ("id", "time_ms", "arrival", "kind", "point", "point_arrival", *columns)
    rows = [
        events.mutate(
            kind=ibis.literal(_EVENT, "int64"),
            point=ibis.literal(None, "int64"),
            point_arrival=ibis.literal(None, "int64"),
        ).select(*place),
        # A point comes before the event of the same arrival: it does not know it.
        points.mutate(
            kind=ibis.literal(_POINT, "int64"), point_arrival=points.arrival, **empty
        ).select(*place),
    ]
    if starts:
        # Windows of different lengths may start together.
        start = ibis.union(*starts, distinct=True) if len(starts) > 1 else starts[0].distinct()
        rows.append(
            start.mutate(
                arrival=ibis.literal(_BEFORE_ALL, "int64"),
                kind=ibis.literal(_START, "int64"),
                point=ibis.literal(None, "int64"),
                point_arrival=ibis.literal(None, "int64"),
                **empty,
            ).select(*place)
        )
    marks = ibis.union(*rows)
    order = [marks.time_ms, marks.arrival, marks.kind]
    before = ibis.window(group_by=marks.id, order_by=order, rows=(None, 0))
    after = ibis.window(group_by=marks.id, order_by=order, rows=(0, None))
    running = {name: marks[name].sum().over(before).fill_null(0) for name in totals}
    running |= {name: marks[name].max().over(before) for name in maxima}
    # A backend may widen sums; the casts give them their types again.
    read = tables.stored(
        marks.select(
            "id",
            "time_ms",
            "arrival",
            "kind",
            "point",
            earliest_after=marks.point_arrival.min().over(after),
            **{name: value.cast(types[name]) for name, value in running.items()},
        )
    )
    ends = read.filter(read.kind == _POINT).select("point", *columns)
    begun = read.filter(read.kind == _START).select("id", "time_ms", *totals)
    late_keys = read.filter((read.kind == _EVENT) & (read.earliest_after <= read.arrival))
    if not tables.has_rows(late_keys):
        return Running(ends, begun, None)
    late_events = events.semi_join(late_keys, ["id", "arrival"])
    known_by = points.select(
        "id", "point", point_time_ms=points.time_ms, point_arrival=points.arrival
    )
    late = late_events.join(
        known_by,
        [
            late_events.id == known_by.id,
            known_by.point_time_ms > late_events.time_ms,
            known_by.point_arrival <= late_events.arrival,
        ],
    )
    return Running(ends, begun, tables.stored(late.drop("id_right")))


def knows(points: ir.Table, events: ir.Table) -> list[ir.BooleanValue]:
    """The point in time itself: join predicates of points (``point_…`` columns) with events."""
    return [
        points.point_id == events.id,
        events.time_ms <= points.point_time_ms,
        events.arrival < points.point_arrival,
    ]


def renamed_points(points: ir.Table) -> ir.Table:
    return points.select(
        "point",
        point_id=points.id,
        point_time_ms=points.time_ms,
        point_arrival=points.arrival,
    )


def window_start(time_ms: ir.IntegerValue, window_ms: int) -> ir.IntegerValue:
    """``definitions.window_start_ms`` as an expression, in exact integers."""
    begin, hop = time_ms - window_ms, hop_ms(window_ms)
    # The backend's remainder has the sign of the dividend.
    return begin - (begin % hop + hop) % hop


def replaced(table: ir.Table, again: ir.Table, anew: ir.Table, names: Sequence[str]) -> ir.Table:
    """``table`` (point, names) with the rows of the points in ``again`` taken from ``anew``, null
    where that has none."""
    fresh = again.select("point").left_join(anew, "point").drop("point_right")
    fresh = fresh.select(fresh_point=fresh.point, **{f"fresh_{n}": fresh[n] for n in names})
    joined = table.left_join(fresh, table.point == fresh.fresh_point)
    values = {
        n: ibis.ifelse(joined.fresh_point.notnull(), joined[f"fresh_{n}"], joined[n]) for n in names
    }
    return joined.mutate(**values).select("point", *names)
