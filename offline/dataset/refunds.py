"""What known refunds take back from windows: ``services.feature.states.refunds`` as expressions."""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir

from offline.dataset.log_tables import LogTables
from offline.dataset.timeline import joined, knows, renamed_points, window_start
from services.feature.definitions import REFUND, WindowAggregate

EXACT = "decimal(38, 0)"
"""Type of sums of amounts: they are capped only once they are whole, as those served online are."""


def taken_back(
    tables: LogTables, about: ir.Table, points: ir.Table, windows: Mapping[str, WindowAggregate]
) -> ir.Table | None:
    """point, and what known refunds add (nothing or less) to each of ``windows``, by name; None
    when there is no refund.

    ``about``: events by id; ``windows``: those that refunds reverse. A refund is joined with each
    point of its ids that knows it and whose windows may reach back to the purchase.
    """
    refunds = about.filter((about.type == REFUND) & about.purchase_event_id.notnull()).select(
        "id",
        "time_ms",
        "arrival",
        purchase=about.purchase_event_id,
        purchase_ms=about.purchase_time_ms,
        paid_minor=about.purchase_amount_minor,
        back_minor=about.given_back_minor,
    )
    # Refunds of one purchase are kept or left together: the first known one speaks for all.
    of_purchase = ibis.window(group_by=[refunds.id, refunds.purchase])
    refunds = tables.stored(refunds.mutate(latest_ms=refunds.purchase_ms.max().over(of_purchase)))
    if not tables.has_rows(refunds):
        return None
    longest = max(window.window_ms for window in windows.values())
    places = renamed_points(points)
    places = places.mutate(horizon_ms=window_start(places.point_time_ms, longest))
    known = tables.stored(
        places.join(refunds, [*knows(places, refunds), refunds.latest_ms >= places.horizon_ms])
    )
    amounts = {name: window for name, window in windows.items() if window.fold == "sum"}
    numbers = {name: window for name, window in windows.items() if window.fold != "sum"}
    table = known.select("point").distinct()
    if amounts:
        table = joined(table, _amounts_back(known, amounts))
    if numbers:
        table = joined(table, _purchases_back(known, numbers))
    return tables.stored(table)


def _amounts_back(known: ir.Table, windows: Mapping[str, WindowAggregate]) -> ir.Table:
    """point, and less each known refund's amount where its purchase lies."""
    past = known.filter(known.purchase_ms <= known.point_time_ms)
    return past.group_by("point").aggregate(
        **{
            name: ibis.ifelse(_inside(past, window), -past.back_minor, 0).cast(EXACT).sum()
            for name, window in windows.items()
        }
    )


def _purchases_back(known: ir.Table, windows: Mapping[str, WindowAggregate]) -> ir.Table:
    """point, and less one for each purchase that known refunds cover: they add up to what the first
    of them by arrival says it cost, and lie where that says it was."""
    by_purchase = known.group_by("point", "purchase").aggregate(
        given_minor=known.back_minor.cast(EXACT).sum(), first_arrival=known.arrival.min()
    )
    first = known.select(
        "point_time_ms",
        "purchase_ms",
        "paid_minor",
        first_point=known.point,
        first_of=known.purchase,
        arrival=known.arrival,
    )
    whole = by_purchase.join(
        first,
        [
            by_purchase.point == first.first_point,
            by_purchase.purchase == first.first_of,
            by_purchase.first_arrival == first.arrival,
        ],
    )
    covered = whole.given_minor >= whole.paid_minor
    whole = whole.filter(covered & (whole.purchase_ms <= whole.point_time_ms))
    return whole.group_by("point").aggregate(
        **{
            name: ibis.ifelse(_inside(whole, window), -1, 0).cast(EXACT).sum()
            for name, window in windows.items()
        }
    )


def _inside(table: ir.Table, window: WindowAggregate) -> ir.BooleanValue:
    return table.purchase_ms >= window_start(table.point_time_ms, window.window_ms)
