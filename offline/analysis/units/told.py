"""What is told of rows beside their outcomes: segments, and other experiments that they are in."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from offline.analysis.plan import AnalysisPlan
from offline.analysis.units.exposed import Rows
from offline.analysis.units.log import KnownLog
from offline.dataset.changes import latest_changes
from offline.dataset.keys import said_about
from offline.dataset.schema import attribute_column
from services.common.assign.registered import Segment
from services.feature.definitions import USER_ENTITY


def segment_values(log: KnownLog, rows: Rows, segment: Segment) -> ir.Table:
    """row, value: what each row's exposure, or what profile events had told of its person by then,
    says; rows of which it is not known are left out."""
    table = rows.table
    if segment.source == "exposure":
        found = table.select("row", value=table.attributes.get(segment.attribute))
        return found.filter(found.value.notnull())
    name = attribute_column(segment.attribute)
    points = log.tables.stored(
        table.filter(table.person.notnull()).select(
            id=table.person,
            point=table.row,
            time_ms=table.exposed_ms,
            arrival=table.exposed_arrival,
        )
    )
    changes = said_about(log.tables, USER_ENTITY)
    columns = [c for c in ("id", "time_ms", "arrival", "since", name) if c in changes.columns]
    known = latest_changes(log.tables, changes.select(*columns), points, (name,))
    return known.filter(known[name].notnull()).select(row=known.point, value=known[name])


def overlaps(log: KnownLog, plan: AnalysisPlan, rows: Rows) -> ir.Table:
    """row, experiment, variant: the first variant that each row's person saw of others."""
    others = log.exposures
    others = others.filter(
        (others.experiment != plan.experiment) & (others.variant != "") & others.person.notnull()
    )
    people = rows.table.filter(rows.table.person.notnull()).select("row", met="person")
    both = people.join(
        others.select("person", "experiment", "variant", "time_ms", "arrival"),
        people.met == others.person,
    )
    first = ibis.window(group_by=[both.row, both.experiment], order_by=[both.time_ms, both.arrival])
    numbered = both.mutate(place=ibis.row_number().over(first))
    return numbered.filter(numbered.place == 0).select("row", "experiment", "variant")
