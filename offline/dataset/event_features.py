"""Features that come from events, at a set of points in time."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import ibis
import ibis.expr.types as ir

from offline.dataset.log_tables import LogTables
from offline.dataset.running import (
    Running,
    knows,
    renamed_points,
    replaced,
    running_values,
    window_start,
)
from offline.dataset.schema import entity_column, value_column
from services.common.domain_features import LastNFeature
from services.feature.definitions import (
    MAX_TOTAL,
    REFUND,
    ViewFeature,
    WindowAggregate,
    last_time_aggregate,
    window_aggregates,
)

_EXACT = "decimal(38, 0)"
"""Type of sums of amounts: they are capped only once they are whole, as those served online are."""


class EventFeatures:
    """Features that come from ``about``, events by the id of what they concern, at points."""

    def __init__(
        self, tables: LogTables, about: ir.Table, points: ir.Table, columns: Sequence[ViewFeature]
    ) -> None:
        self._columns = [column for column in columns if column.kind != "attribute"]
        self._points = points
        self._tables = tables
        self._about = about.semi_join(points, "id")
        self._windows = tuple(
            dict.fromkeys(a for c in self._columns for a in window_aggregates(c.definition))
        )
        # One contribution to totals serves all windows over the same events and value.
        self._totals = {
            key: f"total_{number}"
            for number, key in enumerate(dict.fromkeys((a.events, a.value) for a in self._windows))
        }
        self._times = {
            events: f"last_{number}"
            for number, events in enumerate(
                dict.fromkeys(
                    last_time_aggregate(c.definition.events).events
                    for c in self._columns
                    if c.definition.kind == "recency"
                )
            )
        }
        self._lists: dict[tuple[tuple[str, ...], str], str] = {}
        for column in self._columns:
            if isinstance(column.definition, LastNFeature):
                key = (tuple(column.definition.events), column.definition.of)
                self._lists.setdefault(key, f"number_{len(self._lists)}")

    def table(self) -> ir.Table:
        """point, and one column a feature."""
        events = self._tables.stored(self._events())
        window_sizes = sorted({a.window_ms for a in self._windows})
        starts = [
            self._points.select("id", time_ms=window_start(self._points.time_ms, size))
            for size in window_sizes
        ]
        totals = (*self._totals.values(), *self._lists.values())
        running = running_values(
            self._tables, events, self._points, starts, totals, tuple(self._times.values())
        )
        again = self._affected(running.late)
        base = self._tables.stored(
            self._points.left_join(running.ends, "point").drop("point_right")
        )
        result = base.select("point", "time_ms")
        parts = [self._window_totals(base, running, window_sizes)] if self._windows else []
        if self._times:
            parts.append(self._last_times(base, again, events))
        parts += [
            self._last_entries(c, base, again, events) for c in self._columns if c.kind == "last_n"
        ]
        for part in parts:
            result = result.left_join(part, "point").drop("point_right")
        result = self._tables.stored(result)
        values = {column.name: self._value(result, column) for column in self._columns}
        return result.mutate(**values).select("point", *values)

    def _events(self) -> ir.Table:
        """Events that any feature reads, with their contributions to totals and maxima."""
        about = self._about
        read = {event for events, _ in (*self._totals, *self._lists) for event in events}
        read |= {event for events in self._times for event in events}
        contributions: dict[str, ir.Value] = {}
        for (events, value), name in self._totals.items():
            amount = ibis.literal(1) if value is None else about[value_column(value)].fill_null(0)
            counted = ibis.ifelse(about.type.isin(events), amount, 0)
            contributions[name] = counted.cast(_total_type(value))
        for events, name in self._times.items():
            contributions[name] = ibis.ifelse(
                about.type.isin(events), about.time_ms, ibis.null("int64")
            )
        for (events, of), name in self._lists.items():
            listed = about.type.isin(events) & about[entity_column(of)].notnull()
            contributions[name] = listed.cast("int64")
        emitted = {entity_column(of): about[entity_column(of)] for _, of in self._lists}
        return about.filter(about.type.isin(sorted(read))).select(
            "id", "time_ms", "arrival", "type", **emitted, **contributions
        )

    def _affected(self, late: ir.Table | None) -> ir.Table | None:
        """Points with a late event that changes a recency or a list, to be computed anew."""
        if late is None:
            return None
        changes: list[ir.BooleanValue] = [late[n].notnull() for n in self._times.values()]
        changes += [late[n] > 0 for n in self._lists.values()]
        anyway = reduce(lambda a, b: a | b, changes, ibis.literal(False))
        affected = late.filter(anyway).select("point").distinct()
        return self._tables.stored(renamed_points(self._points.semi_join(affected, "point")))

    def _window_totals(
        self, base: ir.Table, running: Running, window_sizes: Sequence[int]
    ) -> ir.Table:
        """point, and ``window_<number>`` of each window aggregate."""
        starts = {f"start_{size}": window_start(base.time_ms, size) for size in window_sizes}
        table = base.mutate(**starts)
        for size in window_sizes:
            columns = {f"{n}_{size}": running.starts[n] for n in self._totals.values()}
            before = running.starts.select(
                start_id=running.starts.id, start_time_ms=running.starts.time_ms, **columns
            )
            here = [table.id == before.start_id, table[f"start_{size}"] == before.start_time_ms]
            table = table.left_join(before, here).drop("start_id", "start_time_ms")
        corrections = [] if running.late is None else [self._late_totals(running.late)]
        if any(a.reversed_by_refunds for a in self._windows):
            corrections += self._refunded()
        for number, correction in enumerate(corrections):
            suffixed = correction.rename(
                {f"{c}_{number}": c for c in correction.columns if c != "point"}
            )
            table = table.left_join(suffixed, "point").drop("point_right")
        values: dict[str, ir.Value] = {}
        for index, aggregate in enumerate(self._windows):
            name = self._totals[aggregate.events, aggregate.value]
            total = table[name].fill_null(0)
            total -= table[f"{name}_{aggregate.window_ms}"].fill_null(0)
            for number in range(len(corrections)):
                total -= table[f"window_{index}_{number}"].fill_null(0)
            values[f"window_{index}"] = total
        return table.select("point", **values)

    def _late_totals(self, late: ir.Table) -> ir.Table:
        sums: dict[str, ir.Value] = {}
        for index, aggregate in enumerate(self._windows):
            counted = late.time_ms >= window_start(late.point_time_ms, aggregate.window_ms)
            amount = late[self._totals[aggregate.events, aggregate.value]]
            total = ibis.ifelse(counted, amount, 0).sum()
            sums[f"window_{index}"] = total.cast(_total_type(aggregate.value))
        return late.group_by("point").aggregate(**sums)

    def _refunded(self) -> list[ir.Table]:
        """What known refunds take back from each window: point, ``window_<number>``; none when
        there is no refund."""
        refunds = self._about.filter(self._about.type == REFUND).select(
            "id",
            "time_ms",
            "arrival",
            "given_back_minor",
            "purchase_event_id",
            "purchase_time_ms",
            "purchase_amount_minor",
        )
        # Refunds of one purchase are kept or left together: the first known one speaks for all.
        latest = ibis.window(group_by=[refunds.id, refunds.purchase_event_id])
        refunds = self._tables.stored(
            refunds.mutate(latest_ms=refunds.purchase_time_ms.max().over(latest))
        )
        if not self._tables.has_rows(refunds):
            return []
        longest = max(a.window_ms for a in self._windows)
        points = renamed_points(self._points)
        points = points.mutate(horizon_ms=window_start(points.point_time_ms, longest))
        known = self._tables.stored(
            points.join(refunds, [*knows(points, refunds), refunds.latest_ms >= points.horizon_ms])
        )
        by_purchase = known.group_by("point", "point_time_ms", "purchase_event_id").aggregate(
            given_back_minor=known.given_back_minor.sum().cast(_EXACT),
            first_arrival=known.arrival.min(),
        )
        firsts = known.select(
            "point",
            "purchase_event_id",
            first_arrival=known.arrival,
            bought_ms=known.purchase_time_ms,
            paid_minor=known.purchase_amount_minor,
        )
        purchases = by_purchase.join(firsts, ["point", "purchase_event_id", "first_arrival"])
        purchases = purchases.filter(
            (purchases.given_back_minor >= purchases.paid_minor)
            & (purchases.bought_ms <= purchases.point_time_ms)
        )
        amounts = known.filter(known.purchase_time_ms <= known.point_time_ms)
        sums: dict[str, ir.Value] = {}
        counts: dict[str, ir.Value] = {}
        for index, aggregate in enumerate(self._windows):
            name = f"window_{index}"
            if not aggregate.reversed_by_refunds:
                continue
            if aggregate.value is None:
                start = window_start(purchases.point_time_ms, aggregate.window_ms)
                counts[name] = (purchases.bought_ms >= start).cast("int64").sum().cast("int64")
            else:
                start = window_start(amounts.point_time_ms, aggregate.window_ms)
                inside = amounts.purchase_time_ms >= start
                given_back = amounts.given_back_minor
                sums[name] = ibis.ifelse(inside, given_back, 0).sum().cast(_EXACT)
        table = known.select("point").distinct()
        for part, values in ((purchases, counts), (amounts, sums)):
            if values:
                totals = part.group_by("point").aggregate(**values)
                table = table.left_join(totals, "point").drop("point_right")
        zeros = {
            f"window_{index}": ibis.literal(0, "int64")
            for index, aggregate in enumerate(self._windows)
            if not aggregate.reversed_by_refunds
        }
        return [self._tables.stored(table.mutate(**zeros))]

    def _last_times(self, base: ir.Table, again: ir.Table | None, events: ir.Table) -> ir.Table:
        """point, and the last time of each kind of event that a recency reads."""
        names = tuple(self._times.values())
        if again is None:
            return base.select("point", *names)
        known = again.join(events, knows(again, events))
        anew = known.group_by("point").aggregate(**{n: known[n].max() for n in names})
        return replaced(base.select("point", *names), again, anew, names)

    def _last_entries(
        self, column: ViewFeature, base: ir.Table, again: ir.Table | None, events: ir.Table
    ) -> ir.Table:
        """point, and the list of a last_n feature."""
        feature = column.definition
        assert isinstance(feature, LastNFeature)  # noqa: S101 - told by its kind
        number = self._lists[tuple(feature.events), feature.of]
        entries = events.filter(events[number] > 0)
        emitted = entries[entity_column(feature.of)] if feature.emit == "id" else entries.type
        entries = entries.select("id", "time_ms", "arrival", entry=emitted)
        order = [entries.time_ms, entries.arrival]
        last = ibis.window(group_by=entries.id, order_by=order, rows=(1 - feature.limit, 0))
        upto = ibis.window(group_by=entries.id, order_by=order, rows=(None, 0))
        histories = entries.select(
            entry_id=entries.id,
            entry_number=ibis.row_number().over(upto).cast("int64") + 1,
            listed=entries.entry.collect().over(last),
        )
        at = [base.id == histories.entry_id, base[number] == histories.entry_number]
        found = base.left_join(histories, at).select("point", **{column.name: histories.listed})
        if again is None:
            return found
        known = again.join(entries, knows(again, entries))
        newest = [known.time_ms.desc(), known.arrival.desc()]
        rank = ibis.row_number().over(group_by=known.point, order_by=newest)
        recent = known.mutate(rank=rank)
        recent = recent.filter(recent["rank"] < feature.limit)
        anew = recent.group_by("point").aggregate(
            **{column.name: recent.entry.collect(order_by=[recent.time_ms, recent.arrival])}
        )
        return replaced(found, again, anew, (column.name,))

    def _value(self, table: ir.Table, column: ViewFeature) -> ir.Value:
        definition = column.definition
        if definition.kind == "last_n":
            empty = ibis.literal([], "array<string>")
            return table[column.name].fill_null(empty)
        if definition.kind == "recency":
            seen = table[self._times[last_time_aggregate(definition.events).events]]
            age = (table.time_ms - seen).cast("float64") / 1_000
            return age.fill_null(definition.default).cast("float32")
        totals = [self._total(table, a) for a in window_aggregates(definition)]
        if definition.kind == "ratio":
            numerator, denominator = totals
            prior = definition.prior
            ratio = (numerator.cast("float64") + prior.numerator) / (
                denominator.cast("float64") + prior.denominator
            )
            return ratio.cast("float32")
        return totals[0]

    def _total(self, table: ir.Table, aggregate: WindowAggregate) -> ir.IntegerValue:
        total = table[f"window_{self._windows.index(aggregate)}"]
        return ibis.least(ibis.greatest(total, 0), MAX_TOTAL).cast("int64")


def _total_type(value: str | None) -> str:
    """Type of a running total: of counts, or of an attribute of the events."""
    return "int64" if value is None else _EXACT
