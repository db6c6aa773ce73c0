"""Who is no longer counted among the distinct users of something: ``services.feature.identity``'s
``forget_actor`` as expressions.

What an erased actor did is theirs up to the erasure and nobody's from then on. In a list that was
full by then a nameless one keeps the place, at the time of the last that was seen of the actor. A
list that was full once stays so, since only erasures make lists shorter.
"""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from offline.dataset.log_tables import LogTables

_NOBODY = "nobody:"


def erasures(tables: LogTables) -> ir.Table | None:
    """actor, position and ``clock_ms`` of all erasures; None where there is none."""
    if tables.endings is None:
        return None
    found = tables.endings.filter(tables.endings.heir.isnull())
    if not tables.has_rows(found):
        return None
    return tables.once(
        "erasures",
        lambda: found.select(gone=found.actor, position=found.arrival, clock_ms=found.time_ms),
    )


def forgotten(
    tables: LogTables, named: ir.Table, erased: ir.Table, cap: int
) -> tuple[ir.Table, ir.Table]:
    """(those of ``named`` that are forgotten ``until`` says when, nameless ones in their places).

    ``named``: id, time_ms, arrival, other (actors). The second has the same columns: as if somebody
    had come at the erasure's arrival.
    """
    later = named.join(erased, [named.other == erased.gone, named.arrival < erased.position])
    gone = later.group_by("id", "time_ms", "arrival", "other").aggregate(
        until=later.position.min(), clock_ms=later.clock_ms.argmin(later.position)
    )
    gone = tables.stored(gone)
    there = gone.filter(gone.time_ms <= gone.clock_ms)
    left = there.group_by("id", "other", "until", "clock_ms").aggregate(last_ms=there.time_ms.max())
    full = _full(named, gone, left, cap)
    left = left.semi_join(full, ["id", "until"])
    nameless = left.select(
        "id",
        time_ms=left.last_ms,
        arrival=left.until,
        other=ibis.literal(_NOBODY) + left.until.cast("string") + ":" + left.other,
    )
    return gone, tables.stored(nameless)


def _full(named: ir.Table, gone: ir.Table, left: ir.Table, cap: int) -> ir.Table:
    """id, until: erasures at which the id's list was full."""
    at = left.select("id", "until", "clock_ms").distinct()
    numbers = named.semi_join(at, "id").group_by("id").aggregate(number=named.other.nunique())
    long = numbers.filter(numbers.number >= cap)
    at = at.semi_join(long, "id").rename({"at_id": "id", "at_until": "until"})
    told = named.left_join(
        gone.select("id", "time_ms", "arrival", "other", "until"),
        ["id", "time_ms", "arrival", "other"],
    )
    told = told.select("id", "time_ms", "arrival", "other", "until")
    seen = at.join(
        told,
        [
            at.at_id == told.id,
            told.arrival < at.at_until,
            told.time_ms <= at.clock_ms,
            told.until.isnull() | (told.until >= at.at_until),
        ],
    )
    counted = seen.group_by(id=seen.at_id, until=seen.at_until).aggregate(
        number=seen.other.nunique()
    )
    before = ibis.window(group_by=counted.id, order_by=counted.until, rows=(None, 0))
    counted = counted.mutate(most=counted.number.max().over(before))
    return counted.filter(counted.most >= cap).select("id", "until")
