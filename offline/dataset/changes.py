"""What events said about entities, as known at points."""

from __future__ import annotations

from collections.abc import Sequence

import ibis.expr.types as ir

from offline.dataset.log_tables import LogTables
from offline.dataset.sequences import newest, numbered_points
from offline.dataset.timeline import joined, place_columns, timeline


def latest_changes(
    tables: LogTables, changes: ir.Table, points: ir.Table, names: Sequence[str]
) -> ir.Table:
    """The latest value by event time, then arrival, of columns of ``changes`` (id, time_ms,
    arrival, names and perhaps since; null: left as it was) at ``points`` (point, id, time_ms,
    arrival).

    point, and for each name the value and, as ``<name>_ms``, when it was said; null where it never
    was.
    """
    said = {f"said_{name}": changes[name].notnull().cast("int64") for name in names}
    events = changes.semi_join(points.select("id").distinct(), "id").mutate(**said)
    events = events.select(*place_columns(events), *names, *said)
    line = timeline(tables, events, points, (), [*said])
    table = points.select("point")
    for name, told in zip(names, said, strict=True):
        found = newest(numbered_points(line, told), line, told, 1, (name,))
        part = found.select("point", name, **{f"{name}_ms": found.entry_time_ms})
        table = joined(table, part)
    return tables.stored(table)
