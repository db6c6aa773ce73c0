"""What refunds take back, of whom, from when on: ``services.feature.refunds`` as expressions."""

from __future__ import annotations

import ibis
import ibis.expr.types as ir

from offline.dataset.log_tables import LogTables
from offline.dataset.timeline import joined
from services.feature.definitions import REFUND


def refund_changes(tables: LogTables) -> ir.Table:
    """What each refund changes, once the log holds it.

    arrival of the refund; visible_ms, the time from which the change is known; purchase_ms, where
    it is counted; ``purchases`` (-1 when the refunds known of a purchase now cover it, +1 when what
    was said before no longer holds, else 0); ``back_minor``, the amount given back, else 0.
    """
    return tables.once("refund_changes", lambda: _changes(tables))


def _changes(tables: LogTables) -> ir.Table:
    log = tables.events
    refunds = log.filter((log.type == REFUND) & log.purchase_event_id.notnull()).select(
        "arrival",
        "time_ms",
        purchase=log.purchase_event_id,
        purchase_ms=log.purchase_time_ms,
        paid_minor=log.purchase_amount_minor,
        back_minor=log.given_back_minor,
    )
    by_arrival = ibis.window(group_by=refunds.purchase, order_by=refunds.arrival, rows=(None, 0))
    refunds = tables.stored(
        refunds.mutate(
            first_ms=refunds.purchase_ms.first().over(by_arrival),
            cost_minor=refunds.paid_minor.first().over(by_arrival),
        )
    )
    steps = joined(refunds, _completed(refunds), "arrival")
    order = ibis.window(group_by=steps.purchase, order_by=steps.arrival)
    steps = steps.mutate(before_ms=steps.complete_ms.lag().over(order))
    changed = steps.filter(~steps.complete_ms.identical_to(steps.before_ms))

    def count_change(complete_ms: ir.Value, delta: int) -> ir.Table:
        return changed.filter(complete_ms.notnull()).select(
            "arrival",
            "purchase_ms",
            visible_ms=ibis.greatest(complete_ms, changed.first_ms),
            purchases=ibis.literal(delta, "int64"),
            back_minor=ibis.literal(0, "int64"),
        )

    amounts = refunds.select(
        "arrival",
        "purchase_ms",
        visible_ms=ibis.greatest(refunds.time_ms, refunds.purchase_ms),
        purchases=ibis.literal(0, "int64"),
        back_minor=refunds.back_minor,
    )
    return ibis.union(
        amounts, count_change(changed.before_ms, 1), count_change(changed.complete_ms, -1)
    )


def _completed(refunds: ir.Table) -> ir.Table:
    """(arrival, complete_ms): from which event time on the refunds of a purchase that the log held
    with this one cover what it cost; without a row where they do not."""
    first = refunds.select("arrival", "purchase", "cost_minor")
    other = refunds.select(
        other_arrival=refunds.arrival,
        other_purchase=refunds.purchase,
        time_ms=refunds.time_ms,
        back_minor=refunds.back_minor,
    )
    held = first.join(
        other,
        [first.purchase == other.other_purchase, other.other_arrival <= first.arrival],
    )
    by_time = ibis.window(
        group_by=held.arrival,
        order_by=[held.time_ms, held.back_minor, held.other_arrival],
        rows=(None, 0),
    )
    given = held.back_minor.cast("decimal(38, 0)").sum().over(by_time)
    held = held.mutate(given_minor=given)
    covering = held.filter(held.given_minor >= held.cost_minor)
    return covering.group_by("arrival").aggregate(complete_ms=covering.time_ms.min())
