"""Events and points of each id in one order, running totals at the points, and what was late."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from offline.dataset.histories import SINCE
from offline.dataset.log_tables import LogTables
from services.feature.definitions import hop_ms

_BEFORE_ALL = -1
_START, _POINT, _EVENT = 0, 1, 2

_STRETCH = 4_096
"""Records in the least stretch of the log; most stretches that one event may be spread over."""


@dataclass(frozen=True)
class Timeline:
    """What running over events by (time, arrival) within an id found.

    ``points``: point, id, time_ms, arrival and every total at the point; ``starts``: id, time_ms
    and the totals over events before time_ms; ``entries``: the events with the totals up to and
    with each; ``late``: the columns of each late event with the ``point`` that did not know it and
    that point's time as ``point_time_ms``; None when no event was late. Totals are named by
    ``upto``; the others have the names they have in the events.
    """

    points: ir.Table
    starts: ir.Table
    entries: ir.Table
    late: ir.Table | None


def upto(total: str) -> str:
    """Column of a running total."""
    return f"upto_{total}"


def timeline(
    tables: LogTables,
    events: ir.Table,
    points: ir.Table,
    starts: Sequence[ir.Table],
    totals: Sequence[str],
) -> Timeline:
    """Runs over ``events`` (id, time_ms, arrival, numbers ``totals``, and anything else).

    ``points``: point, id, time_ms, arrival; ``starts``: tables id, time_ms.
    """
    types = {name: events[name].type() for name in totals}
    others = [n for n in events.columns if n not in ("id", "time_ms", "arrival")]
    empty = {name: ibis.null(events[name].type()) for name in others}
    place = ("id", "time_ms", "arrival", "kind", "point", "point_arrival", *others)
    rows = [
        events.mutate(
            kind=ibis.literal(_EVENT, "int64"),
            point=ibis.null("int64"),
            point_arrival=ibis.null("int64"),
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
                point=ibis.null("int64"),
                point_arrival=ibis.null("int64"),
                **empty,
            ).select(*place)
        )
    marks = ibis.union(*rows)
    order = [marks.time_ms, marks.arrival, marks.kind]
    before = ibis.window(group_by=marks.id, order_by=order, rows=(None, 0))
    after = ibis.window(group_by=marks.id, order_by=order, rows=(0, None))
    # A backend may widen sums; the casts give them their types again.
    running = {
        upto(n): marks[n].sum().over(before).fill_null(0).cast(dtype) for n, dtype in types.items()
    }
    earliest_after = marks.point_arrival.min().over(after)
    read = tables.stored(marks.mutate(earliest_after=earliest_after, **running))
    at = read.filter(read.kind == _POINT).select(
        "point", "id", "time_ms", "arrival", *map(upto, totals)
    )
    begun = read.filter(read.kind == _START).select("id", "time_ms", *map(upto, totals))
    happened = read.filter(read.kind == _EVENT)
    unknown = happened.filter(happened.earliest_after <= seen_after(happened))
    entries = happened.select(*events.columns, *map(upto, totals))
    if not tables.has_rows(unknown):
        return Timeline(at, begun, entries, None)
    # They meet by stretches of the log. By id alone each late event of a key that much of the log
    # names would be held against each of its points.
    stretch = max(_STRETCH, tables.next_arrival // _STRETCH)
    first, last = (
        tile_of(position, stretch) for position in (unknown.earliest_after, seen_after(unknown))
    )
    unknown = unknown.mutate(stretch=ibis.range(first, last + 1).unnest())
    unknown = unknown.select(*events.columns, "stretch")
    others_of = points.select(
        "point",
        point_id=points.id,
        point_time_ms=points.time_ms,
        point_arrival=points.arrival,
        point_stretch=tile_of(points.arrival, stretch),
    )
    after = others_of.point_time_ms > unknown.time_ms
    if SINCE in unknown.columns:
        after |= (others_of.point_time_ms == unknown.time_ms) & (
            others_of.point_arrival > unknown.arrival
        )
    here = [
        unknown.id == others_of.point_id,
        unknown.stretch == others_of.point_stretch,
        others_of.point_arrival <= seen_after(unknown),
    ]
    late = unknown.join(others_of, [*here, after])
    late = late.drop("point_id", "point_arrival", "stretch", "point_stretch")
    return Timeline(at, begun, entries, tables.stored(late))


def knows(points: ir.Table, events: ir.Table) -> list[ir.BooleanValue]:
    """The point in time itself: join predicates of points (``point_…`` columns) with events."""
    return [
        points.point_id == events.id,
        events.time_ms <= points.point_time_ms,
        seen_after(events) < points.point_arrival,
    ]


def seen_after(events: ir.Table) -> ir.IntegerColumn:
    """The position after which each event is known: its arrival, but for what was inherited."""
    return events[SINCE] if SINCE in events.columns else events.arrival


def place_columns(events: ir.Table) -> list[str]:
    """Columns that say where events belong: id, time_ms, arrival and, where histories have ended,
    since when they are known."""
    return [name for name in ("id", "time_ms", "arrival", SINCE) if name in events.columns]


def renamed_points(points: ir.Table) -> ir.Table:
    """Points with their columns named ``point_…``, to be joined with events."""
    return points.select(
        "point",
        point_id=points.id,
        point_time_ms=points.time_ms,
        point_arrival=points.arrival,
    )


def window_start(time_ms: ir.IntegerValue, window_ms: int) -> ir.IntegerValue:
    """``definitions.window_start_ms`` as an expression, in exact integers."""
    begin, hop = time_ms - window_ms, hop_ms(window_ms)
    return begin - _remainder(begin, hop)


def tile_of(place: ir.IntegerValue, size: int) -> ir.IntegerValue:
    """Number of the tile of ``size`` ms or records that a time or position lies in."""
    # The difference divides without a rest, so that no backend's rounding matters.
    return ((place - _remainder(place, size)) / size).cast("int64")


def _remainder(number: ir.IntegerValue, divisor: int) -> ir.IntegerValue:
    # The backend's remainder has the sign of the dividend.
    return (number % divisor + divisor) % divisor


def joined(table: ir.Table, part: ir.Table, key: str = "point") -> ir.Table:
    """``table`` with the other columns of ``part``, null where that has no such key."""
    part = part.rename({"joined_key": key})
    return table.left_join(part, table[key] == part.joined_key).drop("joined_key")


def replaced(table: ir.Table, again: ir.Table, anew: ir.Table, names: Sequence[str]) -> ir.Table:
    """``table`` (point, names) with the rows of the points in ``again`` taken from ``anew``, null
    where that has none."""
    fresh = joined(again.select("point"), anew)
    fresh = fresh.select(fresh_point=fresh.point, **{f"fresh_{n}": fresh[n] for n in names})
    both = table.left_join(fresh, table.point == fresh.fresh_point)
    values: Mapping[str, ir.Value] = {
        n: ibis.ifelse(both.fresh_point.notnull(), both[f"fresh_{n}"], both[n]) for n in names
    }
    return both.mutate(**values).select("point", *names)
