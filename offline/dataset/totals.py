"""Counts and integer sums of windows: a running total at the point less the one at the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import ibis
import ibis.expr.types as ir

from offline.dataset.refunds import EXACT
from offline.dataset.timeline import Timeline, joined, upto, window_start
from services.feature.definitions import WindowAggregate


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
