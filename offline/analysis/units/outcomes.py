"""What units did: values of metrics and covariates by row."""

from __future__ import annotations

from typing import Literal

import ibis
import ibis.expr.types as ir

from offline.analysis.plan import AMOUNT, AnalysisPlan, PlannedCovariate, PlannedMetric
from offline.analysis.units.exposed import GROUP, PERSON, Rows, group_of
from offline.analysis.units.log import KnownLog
from offline.analysis.units.table import PARTS_OF_WINDOW
from offline.dataset.schema import entity_column, value_column
from services.common.domain_metrics import Counted
from services.feature.definitions import PURCHASE, REFUND

Moment = Literal["after", "before"]
Part = Literal["numerator", "denominator"]
_KEPT = ("event_id", "type", "time_ms", "arrival", "rank_id", "value")


def outcomes(
    log: KnownLog, plan: AnalysisPlan, rows: Rows, metric: PlannedMetric, part: Part
) -> ir.Table:
    """row, value float64: what a metric counts in the window after each row's exposure; rows with
    nothing are left out."""
    found = counted_events(log, plan, rows, metric, part)
    return _values(found, metric, part, found.exposed_ms + metric.window_ms)


def slopes(log: KnownLog, plan: AnalysisPlan, rows: Rows, metric: PlannedMetric) -> ir.Table:
    """row, value float64: ``UnitTable.slopes``; rows with nothing are left out.

    Least squares is a weighted sum, so that each event counts with the weight of its part.
    """
    found = counted_events(log, plan, rows, metric, "numerator")
    age_ms = found.time_ms - found.exposed_ms
    part = (age_ms * PARTS_OF_WINDOW) // metric.window_ms
    spread = PARTS_OF_WINDOW * (PARTS_OF_WINDOW**2 - 1) / 12
    weight = (part - (PARTS_OF_WINDOW - 1) / 2) / spread
    weighted = found.mutate(weighted=found.value.cast("float64") * weight)
    inside = weighted.filter(age_ms < metric.window_ms)
    return inside.group_by("row").aggregate(value=inside.weighted.sum())


def counted_events(
    log: KnownLog, plan: AnalysisPlan, rows: Rows, metric: PlannedMetric, part: Part
) -> ir.Table:
    """The events of which ``outcomes`` are made, each with its ``row`` and ``value``, who did it
    (``doer``), rank_id and entities."""
    table = rows.table
    ends = table.exposed_ms + metric.window_ms + metric.within_ms
    ends = ibis.ifelse(table.until_ms < ends, table.until_ms, ends)
    rows_with = table.mutate(from_ms=table.exposed_ms, to_ms=ends)
    return _counted(log, plan, rows, rows_with, _counted_of(metric, part), metric)


def before(
    log: KnownLog, plan: AnalysisPlan, rows: Rows, covariate: PlannedCovariate, part: Part
) -> ir.Table:
    """The same of what had happened, and was known, before each row's exposure."""
    table, metric = rows.table, covariate.metric
    rows_with = table.mutate(from_ms=table.exposed_ms - covariate.window_ms, to_ms=table.exposed_ms)
    found = _counted(log, plan, rows, rows_with, _counted_of(metric, part), metric, moment="before")
    return _values(found, metric, part, found.exposed_ms)


def _counted_of(metric: PlannedMetric, part: Part) -> Counted:
    if part == "numerator":
        return metric.numerator
    if metric.denominator is None:
        raise ValueError(f"{metric.name} is no ratio")
    return metric.denominator


def _counted(
    log: KnownLog,
    plan: AnalysisPlan,
    rows: Rows,
    rows_with: ir.Table,
    counted: Counted,
    metric: PlannedMetric,
    moment: Moment = "after",
) -> ir.Table:
    """Events from ``from_ms`` until before ``to_ms`` of each row; what was given back is off."""
    events = _events_of(log, counted)
    events = events.select(
        *(c for c in events.columns if c in _KEPT or c.startswith(entity_column(""))),
        doer=events.person,
    )
    if GROUP in rows.keys:
        events = events.mutate(happened_in=group_of(events, plan))
    here = [rows_with.from_ms <= events.time_ms, events.time_ms < rows_with.to_ms]
    if PERSON in rows.keys:
        here.append(rows_with.person == events.doer)
    if GROUP in rows.keys:
        here.append(rows_with.group == events.happened_in)
    if moment == "before":
        here.append(events.arrival < rows_with.exposed_arrival)
    wanted = ["row", "exposed_ms", "exposed_arrival"]
    happened = rows_with.select(*wanted, "from_ms", "to_ms", *rows.keys).join(events, here)
    happened = happened.select(*wanted, *(c for c in events.columns if c != "happened_in"))
    if PURCHASE not in counted.events:
        return happened
    return _less_refunds(log, happened, counted, metric.refund_delay_ms, moment)


def _events_of(log: KnownLog, counted: Counted) -> ir.Table:
    """Events that are counted, each with its ``value`` (int64), refunds aside."""
    events = log.events.filter(log.events.type.isin(counted.events))
    for name, least in counted.at_least.items():
        events = events.filter(events[value_column(name)] >= least)
    one = ibis.literal(1, "int64")
    if counted.value is None:
        return events.mutate(value=one)
    return events.mutate(value=events[value_column(counted.value)].fill_null(0))


def _less_refunds(
    log: KnownLog,
    happened: ir.Table,
    counted: Counted,
    delay_ms: int | None,
    moment: Moment,
) -> ir.Table:
    """Purchases that were wholly given back are left out, amounts fall by what was given back. The
    cost is what the first refund by arrival says it was."""
    log_events = log.events
    refunds = log_events.filter(
        (log_events.type == REFUND) & log_events.purchase_event_id.notnull()
    ).select(
        "purchase_event_id",
        "given_back_minor",
        "purchase_amount_minor",
        refund_ms=log_events.time_ms,
        refund_arrival=log_events.arrival,
    )
    here = [happened.type == PURCHASE, happened.event_id == refunds.purchase_event_id]
    if moment == "before":
        here += [
            refunds.refund_ms < happened.exposed_ms,
            refunds.refund_arrival < happened.exposed_arrival,
        ]
    elif delay_ms is not None:
        here.append(refunds.refund_ms <= happened.time_ms + delay_ms)
    both = happened.join(refunds, here)
    back = both.group_by(back_row=both.row, back_arrival=both.arrival).aggregate(
        back_minor=both.given_back_minor.sum(),
        cost_minor=both.purchase_amount_minor.argmin(both.refund_arrival),
    )
    told = happened.left_join(
        back, [happened.row == back.back_row, happened.arrival == back.back_arrival]
    )
    told = told.filter(told.back_minor.isnull() | (told.back_minor < told.cost_minor))
    if counted.value != AMOUNT:
        return told.select(*happened.columns)
    left = ibis.greatest(told.value - told.back_minor.fill_null(0), 0)
    return told.mutate(value=left).select(*happened.columns)


def _values(
    found: ir.Table, metric: PlannedMetric, part: Part, first_before: ir.IntegerValue
) -> ir.Table:
    if metric.within_ms:
        in_order = ibis.window(group_by=found.row, order_by=[found.time_ms, found.arrival])
        pairs = found.mutate(next_ms=found.time_ms.lead().over(in_order), limit_ms=first_before)
        again = pairs.next_ms <= pairs.time_ms + metric.within_ms
        found = pairs.filter(again & (pairs.time_ms < pairs.limit_ms))
    if metric.statistic == "share" and part == "numerator":
        return found.select("row").distinct().mutate(value=ibis.literal(1.0, "float64"))
    return found.group_by("row").aggregate(value=found.value.cast("float64").sum())
