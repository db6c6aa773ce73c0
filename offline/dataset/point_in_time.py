"""Features and catalogue attributes as they were known at a point (time_ms, arrival).

An event is known at the point (t, A) when its time is <= t and its arrival is < A. Two orders are
involved, and a running total follows only one. So it is done in two steps, in expressions that
any Ibis backend runs (union and window functions, no as-of join):

1. Events and points of an entity are put into one order, by (time, arrival), and running totals
   are read off at the points. This is right but for *late* events: before the point in that
   order, yet of an arrival >= A.
2. Late events are told by the smallest arrival of a point after them. They are joined with the
   few points that did not know them: totals are corrected by subtraction, everything else is
   computed anew for those points from all events they know.

Refunds are joined with the points that know them, and counted at the time of their purchase.
The meaning of each feature is that of ``services.feature.definitions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from offline.dataset.event_features import EventFeatures
from offline.dataset.log_tables import LogTables
from offline.dataset.running import knows, renamed_points, replaced, running_values
from offline.dataset.schema import attribute_column
from services.common.domain import Domain
from services.feature.definitions import ViewFeature, compile_views

POINT_KEYS = ("id", "time_ms", "arrival")


def point_in_time(
    domain: Domain,
    tables: LogTables,
    entity: str,
    probes: pa.Table,
    *,
    features: Sequence[str] | None = None,
) -> pa.Table:
    """Rows of ``entity`` as known at each probe, in the order of ``probes``.

    ``probes`` has columns id (string), time_ms (int64) and arrival (int64). The result has these
    and one column a feature (all features of the entity, or ``features``), in declared order:
    int64 for count and sum, float32 for ratio and recency, list<string> for last_n, the declared
    type for attributes (bool as int64). What has no value carries its default.
    """
    numbered = probes.select(list(POINT_KEYS)).append_column(
        "_row", pa.array(range(probes.num_rows), pa.int64())
    )
    table = ibis.memtable(numbered)
    columns = selected_features(domain, entity, features)
    known = known_features(tables, entity, table, columns)
    names = [column.name for column in columns]
    joined = table.join(known, list(POINT_KEYS)).order_by("_row")
    result: pa.Table = tables.connection.to_pyarrow(joined.select(*POINT_KEYS, *names))
    return result


def selected_features(
    domain: Domain, entity: str, names: Iterable[str] | None = None
) -> tuple[ViewFeature, ...]:
    """Columns of the entity's view, all or the named ones, in declared order."""
    view = compile_views(domain).get(entity)
    if view is None:
        return ()
    wanted = None if names is None else set(names)
    return tuple(f for f in view.features if wanted is None or f.name in wanted)


def known_features(
    tables: LogTables, entity: str, probes: ir.Table, columns: Sequence[ViewFeature]
) -> ir.Table:
    """One row a distinct probe: id, time_ms, arrival and the features."""
    read = dict.fromkeys(attribute_column(c.attribute) for c in columns if c.attribute is not None)
    changes = tables.changes[entity].select("id", "time_ms", "arrival", *read) if read else None
    table = known_at(tables, probes, tables.about(entity), columns, changes)
    values = {c.name: _attribute_value(table, c) for c in columns if c.attribute is not None}
    return table.mutate(**values).select(*POINT_KEYS, *(c.name for c in columns))


def known_at(
    tables: LogTables,
    probes: ir.Table,
    about: ir.Table,
    columns: Sequence[ViewFeature],
    changes: ir.Table | None,
) -> ir.Table:
    """One row a distinct probe: id, time_ms, arrival, features of events, latest of changes.

    ``about``: events by the ``id`` of what they concern. Only ``columns`` that come from events
    are read. ``changes``: id, time_ms, arrival, and columns whose latest value is wanted (null:
    left as it was); they keep their names, null where never set.
    """
    points = tables.stored(_points(probes))
    parts = [points]
    if any(column.kind != "attribute" for column in columns):
        parts.append(EventFeatures(tables, about, points, columns).table())
    if changes is not None:
        parts.append(_known_changes(tables, changes, points))
    table = reduce(lambda left, right: left.left_join(right, "point").drop("point_right"), parts)
    return tables.stored(table)


def _attribute_value(table: ir.Table, column: ViewFeature) -> ir.Value:
    dtype = {"string": "string", "int64": "int64", "float32": "float32"}[column.dtype]
    value = table[attribute_column(column.attribute or column.name)].cast(dtype)
    return value.fill_null(ibis.literal(column.default, dtype))


def _points(probes: ir.Table) -> ir.Table:
    """Distinct probes, numbered."""
    distinct = probes.select(*POINT_KEYS).distinct()
    number = ibis.row_number().over(order_by=[distinct[key] for key in POINT_KEYS])
    return distinct.mutate(point=number.cast("int64"))


def _known_changes(tables: LogTables, changes: ir.Table, points: ir.Table) -> ir.Table:
    """point, and the latest value by event time, then arrival, of every column of changes."""
    names = [name for name in changes.columns if name not in POINT_KEYS]
    told = reduce(lambda left, right: left | right, [changes[name].notnull() for name in names])
    changes = changes.filter(told).semi_join(points, "id")
    order = [changes.time_ms, changes.arrival, changes.id]
    number = ibis.row_number().over(order_by=order).cast("int64")
    numbered = tables.stored(changes.mutate(number=number))
    if not tables.has_rows(numbered):
        nothing = {n: ibis.null(changes[n].type()) for n in names}
        return points.select("point", **nothing)
    numbers = {
        n: ibis.ifelse(numbered[n].notnull(), numbered.number, ibis.null("int64")) for n in names
    }
    events = numbered.select(*POINT_KEYS, **numbers)
    running = running_values(tables, events, points, (), (), names)
    table = running.ends
    if running.late is not None:
        late = running.late.select("point").distinct()
        again = tables.stored(renamed_points(points.semi_join(late, "point")))
        known = again.join(events, knows(again, events))
        anew = known.group_by("point").aggregate(**{n: known[n].max() for n in names})
        table = replaced(table, again, anew, names)
    for name in names:
        value = numbered.select(**{f"number_{name}": "number", f"value_{name}": name})
        table = table.left_join(value, table[name] == value[f"number_{name}"])
    return table.select("point", **{name: table[f"value_{name}"] for name in names})
