"""The last events of a kind at points: recency, last values, last entries, attributes.

The events of a kind are numbered within their id by (time, arrival). A point that c of them come
before, L of them late, knows its last n among the entries numbered c - L - n + 1 to c: those of an
arrival before its own. So each point reads L + n entries, whatever its id's history.
"""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from offline.dataset.timeline import Timeline, joined, seen_after, upto

_NO_ARRIVAL_BOUND = 2**62


def numbered_points(line: Timeline, kind: str) -> ir.Table:
    """point, id, time_ms, arrival, ``number`` of events of the kind before the point, ``late`` of
    them."""
    points = line.points
    points = points.select("point", "id", "time_ms", "arrival", number=points[upto(kind)])
    if line.late is None:
        return points.mutate(late=ibis.literal(0, "int64"))
    late = line.late.filter(line.late[kind] > 0).group_by("point").aggregate(late=ibis._.count())
    points = joined(points, late)
    return points.mutate(late=points.late.fill_null(0).cast("int64"))


def newest(
    points: ir.Table, line: Timeline, kind: str, limit: int, columns: Sequence[str] = ()
) -> ir.Table:
    """The last ``limit`` events of a kind that each point of ``numbered_points`` knows.

    point, id, entry_time_ms, ``back`` (0 for the newest) and ``columns`` of them.
    """
    entries = line.entries.filter(line.entries[kind] > 0)
    entries = entries.select(
        entry_id=entries.id,
        entry_number=entries[upto(kind)],
        entry_time_ms=entries.time_ms,
        entry_since=seen_after(entries),
        **{name: entries[name] for name in columns},
    )
    reach = ibis.least(points.number, points.late + limit)
    wanted = points.filter(points.number > 0).mutate(reach=reach)
    if limit == 1 and line.late is None:
        wanted = wanted.mutate(entry=wanted.number)
    else:
        wanted = wanted.mutate(step=ibis.range(0, wanted.reach).unnest())
        wanted = wanted.mutate(entry=wanted.number - wanted.step)
    here = [wanted.id == entries.entry_id, wanted.entry == entries.entry_number]
    found = wanted.join(entries, here)
    if line.late is None:
        found = found.mutate(back=found.number - found.entry)
    else:
        found = found.filter(found.entry_since < found.arrival)
        newest_first = ibis.window(group_by=found.point, order_by=found.entry.desc())
        found = found.mutate(back=ibis.row_number().over(newest_first).cast("int64"))
        found = found.filter(found.back < limit)
    return found.select("point", "id", "entry_time_ms", "back", *columns)


def listed(
    points: ir.Table, line: Timeline, kind: str, limit: int, column: str, ttl_ms: int | None
) -> ir.Table:
    """point and ``entries``, what ``column`` says in the last ``limit`` events of a kind, oldest
    first, without those older than ``ttl_ms``; no row for a point without any.

    Points that share their place among the events share one list.
    """
    place = ["id", "number", "late", "bound"]
    bound = ibis.ifelse(points.late > 0, points.arrival, _NO_ARRIVAL_BOUND)
    points = points.mutate(bound=bound)
    distinct = points.select(*place).distinct()
    number = ibis.row_number().over(order_by=[distinct[name] for name in place])
    distinct = distinct.mutate(point=number.cast("int64"), arrival=distinct.bound)
    found = newest(distinct, line, kind, limit, (column,))
    entry = ibis.struct(
        {"place": -found.back, "time_ms": found.entry_time_ms, "entry": found[column]}
    )
    lists = found.group_by(list_number=found.point).aggregate(found=entry.collect().sort())
    shared = distinct.join(lists, distinct.point == lists.list_number)
    shared = shared.select("found", **{f"shared_{name}": shared[name] for name in place})
    both = points.join(shared, [points[name] == shared[f"shared_{name}"] for name in place])
    entries = both.found
    if ttl_ms is not None:
        oldest_ms = both.time_ms - ttl_ms
        entries = entries.filter(lambda each: each["time_ms"] >= oldest_ms)
    return both.select("point", entries=entries.map(lambda each: each["entry"]))
