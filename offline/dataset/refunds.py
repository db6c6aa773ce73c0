"""What known refunds take back from windows: ``services.feature.states.refunds`` as expressions.

Where histories have ended a refund's amount goes with it, as any event does. Whether a purchase is
given back as a whole is told from all refunds under one name, whoever has the earlier ones now: in
a history it is counted if its own refunds make the difference.
"""

from __future__ import annotations

from collections.abc import Mapping

import ibis
import ibis.expr.types as ir

from offline.dataset.histories import HISTORY, LEDGER, SINCE
from offline.dataset.log_tables import LogTables
from offline.dataset.timeline import (
    knows,
    place_columns,
    renamed_points,
    window_start,
)
from services.feature.definitions import REFUND, WindowAggregate

EXACT = "decimal(38, 0)"
"""Type of sums of amounts: they are capped only once they are whole, as those served online are."""


def taken_back(
    tables: LogTables,
    about: ir.Table,
    about_all: ir.Table,
    points: ir.Table,
    windows: Mapping[str, WindowAggregate],
) -> list[ir.Table]:
    """Tables of point, and what known refunds add (nothing or less) to each of ``windows``, by
    name; they are to be added up, and may lack points.

    ``about``: events by id, of the points' ids, ``about_all`` of any; ``windows``: those that
    refunds reverse. A refund is joined with each point of its ids that knows it and whose windows
    may reach back to the purchase. Those that are alone with their purchase are added up as they
    are joined; what has to be told from several is stored, once a point and refund.
    """
    refunds = _refunds(about)
    if HISTORY in about.columns:
        refunds = _with_earlier(tables.stored(refunds), _refunds(about_all))
    # Refunds of one purchase are kept or left together: the first known one speaks for all.
    of_purchase = ibis.window(group_by=[refunds.id, refunds.purchase])
    refunds = tables.stored(
        refunds.mutate(
            latest_ms=refunds.purchase_ms.max().over(of_purchase),
            alone=refunds.count().over(of_purchase) == 1,
        )
    )
    if not tables.has_rows(refunds):
        return []
    longest = max(window.window_ms for window in windows.values())
    places = renamed_points(points)
    places = places.mutate(horizon_ms=window_start(places.point_time_ms, longest))
    parts: list[ir.Table] = []
    together = refunds
    if HISTORY not in refunds.columns:
        alone, together = refunds.filter(refunds.alone), refunds.filter(~refunds.alone)
        parts.append(_back_alone(_known(places, alone), windows))
        if not tables.has_rows(together):
            return parts
    known = tables.stored(_known(places, together))
    amounts = {name: window for name, window in windows.items() if window.fold == "sum"}
    numbers = {name: window for name, window in windows.items() if window.fold != "sum"}
    parts += [_amounts_back(known, amounts)] if amounts else []
    parts += [_purchases_back(known, numbers)] if numbers else []
    return parts


def _known(places: ir.Table, refunds: ir.Table) -> ir.Table:
    """Refunds with each point that knows them."""
    return places.join(refunds, [*knows(places, refunds), refunds.latest_ms >= places.horizon_ms])


def _back_alone(known: ir.Table, windows: Mapping[str, WindowAggregate]) -> ir.Table:
    """point, and less the amount or the purchase of each known refund that is the only one of its
    purchase."""
    past = known.filter(known.purchase_ms <= known.point_time_ms)
    whole = past.back_minor >= past.paid_minor

    def taken(window: WindowAggregate) -> ir.Value:
        inside = _inside(past, window)
        if window.fold == "sum":
            return ibis.ifelse(inside, -past.back_minor, 0)
        return ibis.ifelse(inside & whole, -1, 0)

    return past.group_by("point").aggregate(
        **{name: taken(window).cast(EXACT).sum() for name, window in windows.items()}
    )


def _refunds(about: ir.Table) -> ir.Table:
    """Those of purchases that they name."""
    refunds = about.filter((about.type == REFUND) & about.purchase_event_id.notnull())
    return refunds.select(
        *place_columns(about),
        *(name for name in (HISTORY, LEDGER) if name in about.columns),
        purchase=refunds.purchase_event_id,
        purchase_ms=refunds.purchase_time_ms,
        paid_minor=refunds.purchase_amount_minor,
        back_minor=refunds.given_back_minor,
    )


def _with_earlier(refunds: ir.Table, every: ir.Table) -> ir.Table:
    """Refunds by history, and to those of a purchase in one history the ones of ``every`` that the
    same name had before, marked as ``earlier``."""
    own = every.filter(every[SINCE] == every.arrival)
    begun = refunds.group_by("id", HISTORY, LEDGER, "purchase").aggregate(
        begun=refunds.arrival.min()
    )
    begun = begun.rename({f"in_{n}": n for n in ("id", HISTORY, LEDGER, "purchase")})
    earlier = own.join(
        begun,
        [
            own[LEDGER] == begun[f"in_{LEDGER}"],
            own.purchase == begun.in_purchase,
            own.arrival < begun.begun,
            own[HISTORY] != begun[f"in_{HISTORY}"],
        ],
    )
    earlier = earlier.mutate(**{"id": earlier.in_id, HISTORY: earlier[f"in_{HISTORY}"]})
    return ibis.union(
        refunds.mutate(earlier=ibis.literal(False)),
        earlier.select(*refunds.columns, earlier=ibis.literal(True)),
    )


def _amounts_back(known: ir.Table, windows: Mapping[str, WindowAggregate]) -> ir.Table:
    """point, and less each known refund's amount where its purchase lies."""
    past = known.filter(known.purchase_ms <= known.point_time_ms)
    if HISTORY in known.columns:
        past = past.filter(~past.earlier)
    return past.group_by("point").aggregate(
        **{
            name: ibis.ifelse(_inside(past, window), -past.back_minor, 0).cast(EXACT).sum()
            for name, window in windows.items()
        }
    )


def _purchases_back(known: ir.Table, windows: Mapping[str, WindowAggregate]) -> ir.Table:
    """point, and less one for each purchase that known refunds cover; in a history, whose own
    refunds make that so."""
    whole = _covered(known, -1)
    if HISTORY in known.columns:
        whole = ibis.union(whole, _covered(known.filter(known.earlier), 1))
    return whole.group_by("point").aggregate(
        **{
            name: ibis.ifelse(_inside(whole, window), whole.change, 0).cast(EXACT).sum()
            for name, window in windows.items()
        }
    )


def _covered(known: ir.Table, change: int) -> ir.Table:
    """point_time_ms, purchase_ms and ``change`` of each point's purchases that refunds cover: they
    add up to what the first of them by arrival says it cost, and lie where that says it was."""
    of = [name for name in ("point", "purchase", HISTORY) if name in known.columns]
    by_purchase = known.group_by(of).aggregate(
        given_minor=known.back_minor.cast(EXACT).sum(), first_arrival=known.arrival.min()
    )
    first = known.select(
        "point_time_ms",
        "purchase_ms",
        "paid_minor",
        "arrival",
        **{f"first_{name}": known[name] for name in of},
    )
    whole = by_purchase.join(
        first,
        [
            *(by_purchase[name] == first[f"first_{name}"] for name in of),
            by_purchase.first_arrival == first.arrival,
        ],
    )
    covered = whole.given_minor >= whole.paid_minor
    whole = whole.filter(covered & (whole.purchase_ms <= whole.point_time_ms))
    return whole.select(
        "point", "point_time_ms", "purchase_ms", change=ibis.literal(change, "int64")
    )


def _inside(table: ir.Table, window: WindowAggregate) -> ir.BooleanValue:
    return table.purchase_ms >= window_start(table.point_time_ms, window.window_ms)
