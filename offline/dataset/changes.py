"""What events said about entities, as known at points."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from offline.dataset.log_tables import LogTables
from offline.dataset.sequences import newest, numbered_points
from offline.dataset.timeline import joined, timeline


def latest_changes(
    tables: LogTables, changes: ir.Table, points: ir.Table, names: Sequence[str]
) -> ir.Table:
    """The latest value by event time, then arrival, of columns of ``changes`` (id, time_ms,
    arrival, names; null: left as it was) at ``points`` (point, id, time_ms, arrival).

    point, and for each name the value and, as ``<name>_ms``, when it was said; null where it never
    was.
    """
    said = {f"said_{name}": changes[name].notnull().cast("int64") for name in names}
    events = changes.semi_join(points.select("id").distinct(), "id").mutate(**said)
    line = timeline(tables, events.select("id", "time_ms", "arrival", *said), points, (), [*said])
    table = points.select("point")
    for name, told in zip(names, said, strict=True):
        entry = newest(numbered_points(line, told), line, told, 1)
        entry = entry.select("point", "id", "entry_time_ms", "entry_arrival")
        value = changes.select(
            changed_id=changes.id,
            changed_arrival=changes.arrival,
            **{name: changes[name]},
        )
        found = entry.join(
            value,
            [entry.id == value.changed_id, entry.entry_arrival == value.changed_arrival],
        )
        table = joined(
            table, found.select("point", name, **{f"{name}_ms": found.entry_time_ms})
        )
    return tables.stored(table)
