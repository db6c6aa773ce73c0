"""Counts and integer sums of windows: a running total at the point less the one at the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir

from offline.dataset.log_tables import LogTables
from offline.dataset.refunds import refund_changes
from offline.dataset.timeline import Timeline, joined, renamed_points, upto, window_start
from services.feature.definitions import REFUND, WindowAggregate

EXACT = "decimal(38, 0)"
"""Type of sums of amounts: they are capped only once they are whole, as those served online are."""


def window_totals(
    line: Timeline, windows: Mapping[str, WindowAggregate], totals: Mapping[str, str]
) -> ir.Table:
    """point, and each of ``windows`` by name; ``totals``: the running total behind each."""
    table = line.points
    sizes = sorted({window.window_ms for window in windows.values()})
    for size in sizes:
        table = table.mutate(**{f"start_{size}": window_start(table.time_ms, size)})
        of_size = {totals[n] for n, window in windows.items() if window.window_ms == size}
        before = line.starts.select(
            start_id=line.starts.id,
            start_time_ms=line.starts.time_ms,
            **{f"{total}_{size}": line.starts[upto(total)] for total in sorted(of_size)},
        )
        here = [table.id == before.start_id, table[f"start_{size}"] == before.start_time_ms]
        table = table.left_join(before, here).drop("start_id", "start_time_ms")
    if line.late is not None:
        late = line.late
        sums = {
            f"late_{name}": ibis.ifelse(
                late.time_ms >= window_start(late.point_time_ms, window.window_ms),
                late[totals[name]],
                0,
            )
            .sum()
            .cast(EXACT)
            for name, window in windows.items()
        }
        table = joined(table, late.group_by("point").aggregate(**sums))
    values: dict[str, ir.Value] = {}
    for name, window in windows.items():
        total = table[upto(totals[name])].fill_null(0).cast(EXACT)
        total -= table[f"{totals[name]}_{window.window_ms}"].fill_null(0).cast(EXACT)
        if line.late is not None:
            total -= table[f"late_{name}"].fill_null(0)
        values[name] = total.cast(EXACT)
    return table.select("point", **values)


def taken_back(
    tables: LogTables,
    about: ir.Table,
    points: ir.Table,
    windows: Mapping[str, WindowAggregate],
) -> ir.Table | None:
    """point, and what known refunds change of each of ``windows`` that they reverse, by name; None
    when there is no refund. A refund is joined with each point of its ids that knows it."""
    refunds = about.filter((about.type == REFUND) & about.purchase_event_id.notnull())
    refunds = refunds.select("id", "arrival")
    changes = refund_changes(tables)
    changes = changes.rename({"refund_arrival": "arrival"})
    named = tables.stored(
        refunds.join(changes, refunds.arrival == changes.refund_arrival).drop("refund_arrival")
    )
    if not tables.has_rows(named):
        return None
    longest = max(window.window_ms for window in windows.values())
    places = renamed_points(points)
    places = places.mutate(horizon_ms=window_start(places.point_time_ms, longest))
    known = places.join(
        named,
        [
            places.point_id == named.id,
            named.visible_ms <= places.point_time_ms,
            named.arrival < places.point_arrival,
            named.purchase_ms >= places.horizon_ms,
        ],
    )
    sums: dict[str, ir.Value] = {}
    for name, window in windows.items():
        inside = known.purchase_ms >= window_start(known.point_time_ms, window.window_ms)
        change = -known.back_minor if window.fold == "sum" else known.purchases
        sums[name] = ibis.ifelse(inside, change, 0).cast(EXACT).sum().cast(EXACT)
    return tables.stored(known.group_by("point").aggregate(**sums))


def starts_of(points: ir.Table, windows: Sequence[WindowAggregate]) -> list[ir.Table]:
    """Where windows start for each point: tables id, time_ms."""
    sizes = sorted({window.window_ms for window in windows})
    return [points.select("id", time_ms=window_start(points.time_ms, size)) for size in sizes]


def summed(parts: Sequence[ir.Table], names: Sequence[str]) -> ir.Table:
    """point, and the sums of ``names`` over the parts, which may lack points and names."""
    first, *others = parts
    table = first
    for number, part in enumerate(others):
        had = [name for name in names if name in part.columns]
        table = joined(table, part.rename({f"{name}_{number}": name for name in had}))
        added = {n: (table[n] + table[f"{n}_{number}"].fill_null(0)).cast(EXACT) for n in had}
        table = table.mutate(**added)
    return table.select("point", *names)
