"""Windows that no difference of running totals gives: min, max, and sums of floats.

A window at a point in tile h, whose first tile is s, is the tiles s to h - 1 whole (its tail) and
of h what comes before the point (its head). Tiles are folded once; the tails, each once for all
points that share (id, s, h), are joined from their tiles, at most 144 of them and 12 to 36 for
windows of an hour or more; heads are running folds within a tile. So the cost grows with events
plus tails x tiles, not with points x events.

A late event of a window matters only where the least (greatest) value is its own: those points are
folded anew from all events of their window. Sums subtract late values, and are summed anew where
the late ones were so much larger that the difference would not be exact to nine digits.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import reduce

import ibis
import ibis.expr.types as ir

from offline.dataset.log_tables import LogTables
from offline.dataset.timeline import (
    joined,
    place_columns,
    replaced,
    seen_after,
    tile_of,
    window_start,
)
from services.feature.definitions import WindowAggregate, hop_ms

_EVENT, _POINT = 1, 0
_LARGER = 1e6


def tiled_windows(
    tables: LogTables,
    events: ir.Table,
    points: ir.Table,
    late: ir.Table | None,
    windows: Mapping[str, WindowAggregate],
    values: Mapping[str, str],
) -> ir.Table:
    """point, and each of ``windows`` by name, null where it holds nothing.

    ``events``: id, time_ms, arrival and the columns named in ``values``, by name of the window;
    ``points``: point, id, time_ms, arrival; ``late``: as in ``Timeline``.
    """
    table = points.select("point")
    for hop in sorted({hop_ms(window.window_ms) for window in windows.values()}):
        sharing = {n: w for n, w in windows.items() if hop_ms(w.window_ms) == hop}
        columns = sorted({values[name] for name in sharing})
        told = reduce(lambda a, b: a | b, [events[name].notnull() for name in columns])
        tiled = events.filter(told).select(*place_columns(events), *columns)
        tiled = tiled.mutate(tile=tile_of(tiled.time_ms, hop))
        places = points.mutate(tile=tile_of(points.time_ms, hop))
        heads = tables.stored(_heads(tiled, places, sharing, values))
        table = joined(table, heads)
        for size in sorted({window.window_ms for window in sharing.values()}):
            of_size = {n: w for n, w in sharing.items() if w.window_ms == size}
            first = tile_of(window_start(places.time_ms, size), hop)
            anchored = tables.stored(places.mutate(first=first))
            tails = _tails(tiled, anchored, of_size, values)
            part = tables.stored(_both(heads, tails, of_size))
            if late is not None:
                part = _without_late(tables, part, tiled, anchored, late, of_size, values)
            table = joined(table.drop(*of_size), part)
    return table.select("point", *windows)


def _heads(
    tiled: ir.Table,
    places: ir.Table,
    windows: Mapping[str, WindowAggregate],
    values: Mapping[str, str],
) -> ir.Table:
    """point, and the fold of what comes before it in its own tile, by name of the window."""
    columns = sorted({values[name] for name in windows})
    keys = ("id", "tile", "time_ms", "arrival", "kind", "point", *columns)
    marks = ibis.union(
        tiled.mutate(kind=ibis.literal(_EVENT, "int64"), point=ibis.null("int64")).select(*keys),
        places.mutate(
            kind=ibis.literal(_POINT, "int64"), **{n: ibis.null(tiled[n].type()) for n in columns}
        ).select(*keys),
    )
    before = ibis.window(
        group_by=[marks.id, marks.tile],
        order_by=[marks.time_ms, marks.arrival, marks.kind],
        rows=(None, 0),
    )
    running = {n: _folded(w, marks[values[n]]).over(before) for n, w in windows.items()}
    read = marks.select("kind", "point", **running)
    return read.filter(read.kind == _POINT).select("point", *windows)


def _tails(
    tiled: ir.Table,
    anchored: ir.Table,
    windows: Mapping[str, WindowAggregate],
    values: Mapping[str, str],
) -> ir.Table:
    """point, and the fold of the tiles from ``first`` to before its own."""
    tiles = tiled.group_by("id", "tile").aggregate(
        **{name: _folded(window, tiled[values[name]]) for name, window in windows.items()}
    )
    tiles = tiles.rename({"tile_id": "id", "tile_number": "tile"})
    anchors = anchored.select("id", "first", "tile").distinct()
    wanted = anchors.mutate(step=ibis.range(0, anchors.tile - anchors["first"]).unnest())
    wanted = wanted.mutate(wanted_tile=wanted["first"] + wanted.step)
    here = [wanted.id == tiles.tile_id, wanted.wanted_tile == tiles.tile_number]
    held = wanted.join(tiles, here)
    tails = held.group_by("id", "first", "tile").aggregate(
        **{name: _folded(window, held[name]) for name, window in windows.items()}
    )
    tails = tails.rename({"tail_id": "id", "tail_first": "first", "tail_tile": "tile"})
    here = [
        anchored.id == tails.tail_id,
        anchored["first"] == tails.tail_first,
        anchored.tile == tails.tail_tile,
    ]
    return anchored.join(tails, here).select("point", *windows)


def _both(heads: ir.Table, tails: ir.Table, windows: Mapping[str, WindowAggregate]) -> ir.Table:
    tails = tails.rename({f"tail_{name}": name for name in windows})
    both = joined(heads.select("point", *windows), tails)
    values = {n: _either(window, both[n], both[f"tail_{n}"]) for n, window in windows.items()}
    return both.select("point", **values)


def _without_late(
    tables: LogTables,
    part: ir.Table,
    tiled: ir.Table,
    anchored: ir.Table,
    late: ir.Table,
    windows: Mapping[str, WindowAggregate],
    values: Mapping[str, str],
) -> ir.Table:
    """``part`` as it is without the late events in it."""
    size = next(iter(windows.values())).window_ms
    inside = late.filter(late.time_ms >= window_start(late.point_time_ms, size))
    unknown = inside.group_by("point").aggregate(
        **{f"late_{n}": _folded(window, inside[values[n]]) for n, window in windows.items()}
    )
    unknown = unknown.filter(
        reduce(lambda a, b: a | b, [unknown[f"late_{n}"].notnull() for n in windows])
    )
    both = joined(part, unknown)
    anew: ir.BooleanValue = ibis.literal(False)
    kept: dict[str, ir.Value] = {}
    for name, window in windows.items():
        found, missing = both[name], both[f"late_{name}"]
        if window.fold == "sum":
            kept[name] = found - missing.fill_null(0.0)
            # A sum of nothing but late values is no sum; one of much larger ones is not exact.
            anew |= missing.notnull() & ((found - missing).abs() * _LARGER <= missing.abs())
        else:
            kept[name] = found
            anew |= (missing == found).fill_null(False)
    both = tables.stored(both.mutate(again=anew.fill_null(False), **kept))
    again = both.filter(both.again).select("point")
    part = both.select("point", *windows)
    if not tables.has_rows(again):
        return part
    wanted = anchored.semi_join(again, "point")
    wanted = wanted.rename(
        {"point_id": "id", "point_time_ms": "time_ms", "point_arrival": "arrival"}
    )
    wanted = wanted.mutate(step=ibis.range(0, wanted.tile - wanted["first"] + 1).unnest())
    wanted = wanted.mutate(wanted_tile=wanted["first"] + wanted.step).drop("tile")
    known = wanted.join(
        tiled,
        [
            wanted.point_id == tiled.id,
            wanted.wanted_tile == tiled.tile,
            tiled.time_ms <= wanted.point_time_ms,
            seen_after(tiled) < wanted.point_arrival,
        ],
    )
    fresh = known.group_by("point").aggregate(
        **{name: _folded(window, known[values[name]]) for name, window in windows.items()}
    )
    return tables.stored(replaced(part, again, fresh, [*windows]))


def _folded(window: WindowAggregate, value: ir.NumericColumn) -> ir.NumericScalar:
    if window.fold == "min":
        return value.min()
    return value.max() if window.fold == "max" else value.sum()


def _either(window: WindowAggregate, head: ir.Value, tail: ir.Value) -> ir.Value:
    """The fold of two, of which either may be null."""
    if window.fold == "sum":
        return ibis.ifelse(
            head.isnull() & tail.isnull(),
            ibis.null("float64"),
            head.fill_null(0) + tail.fill_null(0),
        )
    least = ibis.least if window.fold == "min" else ibis.greatest
    return least(head.fill_null(tail), tail.fill_null(head))
