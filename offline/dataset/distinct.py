"""How many different others the events of a window name, and which were named last.

As in ``tiles``, a window is whole tiles and a head. Who is named in the tiles of a tail is counted
once for all points that share (id, first tile, tile); in the head, whoever the tail does not have
counts at the first mention. Others that only late events name are taken off again: those of a
point's late events are joined with all that the window has of them. Those who were forgotten by a
point are taken off in the same way.

What pairs list is read from each point's own join with what its user named: a user's history is
short beside a room's.
"""

from __future__ import annotations

from dataclasses import dataclass

import ibis
import ibis.expr.types as ir

from offline.dataset.forgotten import forgotten
from offline.dataset.log_tables import LogTables
from offline.dataset.timeline import (
    joined,
    knows,
    place_columns,
    renamed_points,
    tile_of,
    window_start,
)
from services.feature.definitions import hop_ms

_POINT, _EVENT = 0, 1


@dataclass(frozen=True)
class Distinct:
    """``events`` that name an ``other`` (a column), over a window."""

    events: tuple[str, ...]
    other: str
    window_ms: int


@dataclass(frozen=True)
class Forgetting:
    """``erased``: actor, position, clock_ms; ``cap``: how many a list of theirs holds."""

    erased: ir.Table
    cap: int


def distinct_counts(
    tables: LogTables,
    events: ir.Table,
    points: ir.Table,
    late: ir.Table | None,
    wanted: Distinct,
    forgetting: Forgetting | None = None,
) -> ir.Table:
    """point, ``found``: different others in the window, null for none.

    ``events``: id, time_ms, arrival, type and the other's column; ``points``: point, id, time_ms,
    arrival; ``late``: as in ``Timeline``. ``forgetting``: where others are actors of whom some were
    erased.
    """
    hop = hop_ms(wanted.window_ms)
    named = _naming(events, wanted.events, wanted.other)
    unseen = [_late(late, wanted)] if late is not None else []
    if forgetting is not None:
        gone, nameless = forgotten(tables, named, forgetting.erased, forgetting.cap)
        named = ibis.union(named, nameless.select(*named.columns))
        unseen += [_gone(gone, points, wanted), _not_yet(nameless, points, wanted)]
    named = tables.stored(named.mutate(tile=tile_of(named.time_ms, hop)))
    first = tile_of(window_start(points.time_ms, wanted.window_ms), hop)
    places = tables.stored(points.mutate(tile=tile_of(points.time_ms, hop), first=first))
    anchors = places.select("id", "first", "tile").distinct()
    tail = tables.stored(_tail(named, anchors))
    heads = _heads(named, anchors, tail)
    counted = tail.group_by("id", "first", "tile").aggregate(behind=tail.count())
    counted = counted.rename({f"tail_{n}": n for n in ("id", "first", "tile")})
    running = _running(heads, places)
    here = [running[name] == counted[f"tail_{name}"] for name in ("id", "first", "tile")]
    both = running.left_join(counted, here)
    found = both.ahead.fill_null(0) + both.behind.fill_null(0)
    table = both.select("point", found=found.cast("int64"))
    if not unseen:
        return table
    every = ibis.union(*unseen) if len(unseen) > 1 else unseen[0]
    table = joined(table, _only_unseen(named, points, every, wanted))
    return table.select("point", found=table.found - table.unknown.fill_null(0))


def last_named(
    events: ir.Table, points: ir.Table, types: tuple[str, ...], other: str, limit: int
) -> ir.Table:
    """point, id, time_ms, arrival, ``other`` and its ``place`` (0 for the latest) of the ``limit``
    others that known events named last, by event time, then id."""
    named = _naming(events, types, other)
    places = renamed_points(points)
    known = places.join(named, knows(places, named))
    keys = ["point", "point_id", "point_time_ms", "point_arrival", "other"]
    latest = known.group_by(keys).aggregate(last_ms=known.time_ms.max())
    order = [latest.last_ms.desc(), latest.other.desc()]
    place = ibis.row_number().over(ibis.window(group_by=latest.point, order_by=order))
    latest = latest.mutate(place=place.cast("int64"))
    return latest.filter(latest.place < limit).select(
        "point",
        "other",
        "place",
        id=latest.point_id,
        time_ms=latest.point_time_ms,
        arrival=latest.point_arrival,
    )


def _naming(events: ir.Table, types: tuple[str, ...], other: str) -> ir.Table:
    identity = events[other]
    chosen = events.filter(events.type.isin(types) & identity.notnull() & (identity != ""))
    return chosen.select(*place_columns(chosen), other=chosen[other])


def _tail(named: ir.Table, anchors: ir.Table) -> ir.Table:
    """id, first, tile and each other that the tiles from first to before tile name."""
    mentions = named.select(tile_id=named.id, tile_number=named.tile, other=named.other).distinct()
    wanted = anchors.mutate(step=ibis.range(0, anchors.tile - anchors["first"]).unnest())
    wanted = wanted.mutate(wanted_tile=wanted["first"] + wanted.step)
    here = [wanted.id == mentions.tile_id, wanted.wanted_tile == mentions.tile_number]
    return wanted.join(mentions, here).select("id", "first", "tile", "other").distinct()


def _heads(named: ir.Table, anchors: ir.Table, tail: ir.Table) -> ir.Table:
    """id, first, tile, time_ms, arrival of first mentions in a tile of others not in its tail."""
    mention = ibis.window(
        group_by=[named.id, named.tile, named.other], order_by=[named.time_ms, named.arrival]
    )
    ranked = named.mutate(mention=ibis.row_number().over(mention))
    mentions = ranked.filter(ranked.mention == 0).rename({"in_id": "id", "in_tile": "tile"})
    here = [anchors.id == mentions.in_id, anchors.tile == mentions.in_tile]
    new = anchors.join(mentions, here)
    new = new.select("id", "first", "tile", "other", "time_ms", "arrival")
    return new.anti_join(tail, ["id", "first", "tile", "other"])


def _running(heads: ir.Table, places: ir.Table) -> ir.Table:
    """point, id, first, tile, ``ahead``: how many heads come before each point."""
    keys = ("id", "first", "tile", "time_ms", "arrival", "kind", "point")
    marks = ibis.union(
        heads.mutate(kind=ibis.literal(_EVENT, "int64"), point=ibis.null("int64")).select(*keys),
        places.mutate(kind=ibis.literal(_POINT, "int64")).select(*keys),
    )
    before = ibis.window(
        group_by=[marks.id, marks["first"], marks.tile],
        order_by=[marks.time_ms, marks.arrival, marks.kind],
        rows=(None, 0),
    )
    counted = marks.mutate(ahead=marks.kind.sum().over(before))
    return counted.filter(counted.kind == _POINT).select("point", "id", "first", "tile", "ahead")


def _late(late: ir.Table, wanted: Distinct) -> ir.Table:
    """point, ``missed``: a row each time that an event late for the point names somebody in its
    window."""
    inside = late.filter(
        late.type.isin(wanted.events)
        & late[wanted.other].notnull()
        & (late.time_ms >= window_start(late.point_time_ms, wanted.window_ms))
    )
    return inside.select("point", missed=inside[wanted.other])


def _gone(gone: ir.Table, points: ir.Table, wanted: Distinct) -> ir.Table:
    """The same of those who are forgotten by then."""
    places = renamed_points(points)
    places = places.mutate(start_ms=window_start(places.point_time_ms, wanted.window_ms))
    here = [
        places.point_id == gone.id,
        gone.time_ms <= places.point_time_ms,
        gone.time_ms >= places.start_ms,
        gone.until < places.point_arrival,
    ]
    found = places.join(gone, here)
    return found.select("point", missed=found.other)


def _not_yet(nameless: ir.Table, points: ir.Table, wanted: Distinct) -> ir.Table:
    """The same of the nameless ones whose time to come is later in the log."""
    places = renamed_points(points)
    places = places.mutate(start_ms=window_start(places.point_time_ms, wanted.window_ms))
    here = [
        places.point_id == nameless.id,
        nameless.time_ms < places.point_time_ms,
        nameless.time_ms >= places.start_ms,
        nameless.arrival >= places.point_arrival,
    ]
    found = places.join(nameless, here)
    return found.select("point", missed=found.other)


def _only_unseen(named: ir.Table, points: ir.Table, unseen: ir.Table, wanted: Distinct) -> ir.Table:
    """point, ``unknown``: others whom only what the point does not see names in its window."""
    missed = unseen.group_by("point", "missed").aggregate(late=unseen.count())
    missed = joined(missed, renamed_points(points))
    start = window_start(missed.point_time_ms, wanted.window_ms)
    missed = missed.mutate(start_ms=start)
    before_point = (named.time_ms < missed.point_time_ms) | (
        (named.time_ms == missed.point_time_ms) & (named.arrival < missed.point_arrival)
    )
    every = missed.join(
        named,
        [
            missed.point_id == named.id,
            missed.missed == named.other,
            named.time_ms >= missed.start_ms,
            before_point,
        ],
    )
    mentions = every.group_by("point", "missed", "late").aggregate(mentions=every.count())
    only = mentions.filter(mentions.mentions == mentions.late)
    return only.group_by("point").aggregate(unknown=only.count())
