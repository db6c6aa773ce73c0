"""Features that come from events, at a set of points in time."""

from __future__ import annotations

from collections.abc import Sequence

import ibis
import ibis.expr.types as ir

from offline.dataset.distinct import Distinct, Forgetting, distinct_counts
from offline.dataset.forgotten import erasures
from offline.dataset.histories import HISTORY
from offline.dataset.log_tables import LogTables
from offline.dataset.plan import Contribution, FeaturePlan, kind_of
from offline.dataset.refunds import EXACT, taken_back
from offline.dataset.sequences import listed, newest, numbered_points
from offline.dataset.tiles import tiled_windows
from offline.dataset.timeline import Timeline, joined, place_columns, timeline, window_start
from offline.dataset.totals import starts_of, summed, window_totals
from services.common.domain import Domain
from services.common.domain_features import LastFeature, LastNFeature
from services.common.durations import duration_ms
from services.feature.definitions import (
    MAX_TOTAL,
    USER_ENTITY,
    ViewFeature,
    WindowAggregate,
    compile_aggregates,
    compile_views,
    window_aggregates,
)

KNOWN = "is_known"
"""Whether any event about the id is known at the point."""

_EVERY = "every_event"


class EventFeatures:
    """Features of an entity type that come from events, at points.

    ``about``: events by the id of what they concern; ``points``: point, id, time_ms, arrival,
    stored. Of the ``columns`` none is an attribute, an expression or one of pairs.
    """

    def __init__(
        self,
        domain: Domain,
        tables: LogTables,
        entity: str,
        about: ir.Table,
        points: ir.Table,
        columns: Sequence[ViewFeature],
        *,
        with_known: bool = False,
    ) -> None:
        self._domain = domain
        self._entity = entity
        self._tables = tables
        self._points = points
        self._about_all = about
        self._about = about.semi_join(points.select("id").distinct(), "id")
        self._columns = columns
        self._with_known = with_known
        self._plan = FeaturePlan.of(domain, columns)

    def table(self) -> ir.Table:
        """point, and one column a feature, and ``KNOWN`` if asked for.

        Numbers are int64 or float64, as in states before they are served. Null stands for the
        feature's default.
        """
        plan = self._plan
        numbers = [*plan.totals.values(), *plan.kinds.values()]
        numbers += [_EVERY] if self._with_known else []
        events = self._tables.stored(self._events())
        starts = starts_of(self._points, [*plan.prefixed])
        line = timeline(self._tables, events, self._points, starts, numbers)
        result = self._points.select("point", "time_ms")
        for part in self._parts(line, events):
            result = joined(result, part)
        result = self._tables.stored(result)
        values = {column.name: self._value(result, column) for column in self._columns}
        known = [KNOWN] if self._with_known else []
        return result.select("point", *known, **values)

    def _events(self) -> ir.Table:
        """Events that any feature reads, with what they add."""
        plan, about = self._plan, self._about
        added: dict[str, ir.Value] = {}
        for contribution, name in plan.totals.items():
            number = _added(about, contribution).fill_null(0)
            added[name] = number.cast(EXACT if contribution.fold == "sum" else "int64")
        for contribution, name in plan.extremes.items():
            added[name] = _added(about, contribution)
        for kind, name in plan.kinds.items():
            chosen = about.type.isin(kind.events)
            if kind.column is not None:
                chosen &= about[kind.column].notnull()
            added[name] = chosen.cast("int64")
        if self._with_known:
            added[_EVERY] = ibis.literal(1, "int64")
        place = place_columns(about)
        about = about.select(*place, "type", *sorted(plan.columns), **added)
        return about if self._with_known else about.filter(about.type.isin(plan.event_types))

    def _parts(self, line: Timeline, events: ir.Table) -> list[ir.Table]:
        """Tables by point of everything that values are made of."""
        plan, tables = self._plan, self._tables
        parts: list[ir.Table] = []
        if plan.prefixed:
            parts.append(self._prefixed(line))
        if plan.tiled:
            tiled = {plan.window_name(window): window for window in plan.tiled}
            columns = {name: plan.contribution(window) for name, window in tiled.items()}
            late = line.late
            parts.append(tiled_windows(tables, events, self._points, late, tiled, columns))
        if self._with_known:
            number = numbered_points(line, _EVERY)
            parts.append(number.select("point", **{KNOWN: number.number > number.late}))
        for name, distinct in plan.distincts.items():
            found = distinct_counts(
                tables, events, self._points, line.late, distinct, self._forgetting(distinct)
            )
            parts.append(found.rename({_named(name): "found"}))
        numbered = {
            name: tables.stored(numbered_points(line, name)) for name in plan.kinds.values()
        }
        for column in self._columns:
            kind = kind_of(self._domain, column.definition)
            if kind is not None:
                name = plan.kinds[kind]
                parts.append(_last(column, numbered[name], line, name, kind.column))
        return [tables.stored(part) for part in parts]

    def _forgetting(self, distinct: Distinct) -> Forgetting | None:
        """What erasures do to a list of actors. Those of users and pairs end with their history."""
        is_theirs = HISTORY in self._about.columns
        if distinct.other != "actor" or is_theirs or (erased := erasures(self._tables)) is None:
            return None
        view = compile_views(self._domain)[self._entity]
        lists = compile_aggregates(self._domain, view.features).recents
        cap = next(a.cap for a in lists if (a.events, a.of) == (distinct.events, USER_ENTITY))
        return Forgetting(erased, cap)

    def _prefixed(self, line: Timeline) -> ir.Table:
        plan = self._plan
        windows = {plan.window_name(window): window for window in plan.prefixed}
        totals = {name: plan.contribution(window) for name, window in windows.items()}
        parts = [window_totals(line, windows, totals)]
        reversible = {n: window for n, window in windows.items() if window.reversed_by_refunds}
        if reversible:
            parts += taken_back(
                self._tables, self._about, self._about_all, self._points, reversible
            )
        return summed(parts, [*windows])

    def _value(self, table: ir.Table, column: ViewFeature) -> ir.Value:
        definition = column.definition
        match definition.kind:
            case "recency":
                return (table.time_ms - table[_named(column.name)]).cast("float64") / 1_000.0
            case "last":
                start = window_start(table.time_ms, duration_ms(definition.window))
                told = table[_named(f"{column.name}_ms")] >= start
                value = table[_named(column.name)]
                return ibis.ifelse(told, value, ibis.null(value.type()))
            case "last_n":
                return table[_named(column.name)]
            case "distinct":
                found = table[_named(column.name)].fill_null(0)
                return ibis.least(found, definition.cap).cast("int64")
            case _:
                return self._window_value(table, column)

    def _window_value(self, table: ir.Table, column: ViewFeature) -> ir.Value:
        definition = column.definition
        windows = window_aggregates(definition)
        first = table[self._plan.window_name(windows[0])]
        match definition.kind:
            case "min" | "max":
                return first
            case "mean":
                number = table[self._plan.window_name(windows[1])]
                return ibis.ifelse(
                    number > 0,
                    self._served(first, windows[0]).cast("float64") / _float(number.nullif(0)),
                    ibis.null("float64"),
                )
            case "ratio":
                totals = [_float(_capped(table[self._plan.window_name(w)], 0)) for w in windows]
                prior = definition.prior
                return (totals[0] + prior.numerator) / (totals[1] + prior.denominator)
            case "rate":
                scale = duration_ms(definition.per) / windows[0].window_ms
                return _float(_capped(first, 0)) * scale
            case _:
                return self._served(first, windows[0])

    def _served(self, total: ir.Value, window: WindowAggregate) -> ir.Value:
        if window in self._plan.tiled:
            return total.fill_null(0.0)
        return _capped(total, 0 if window.reversed_by_refunds else -MAX_TOTAL)


def _added(about: ir.Table, contribution: Contribution) -> ir.Value:
    """What each event adds to a contribution; null for nothing."""
    value: ir.Value = ibis.literal(1, "int64")
    if contribution.column is not None:
        value = about[contribution.column]
        if contribution.fold == "values":
            value = ibis.ifelse(value.notnull(), 1, ibis.null("int64"))
    return ibis.ifelse(about.type.isin(contribution.events), value, ibis.null(value.type()))


def _last(
    column: ViewFeature, points: ir.Table, line: Timeline, kind: str, read: str | None
) -> ir.Table:
    """point and what a recency, last or last_n feature reads."""
    definition = column.definition
    name = _named(column.name)
    if isinstance(definition, LastNFeature):
        emitted = read if definition.emit == "id" else "type"
        ttl_ms = duration_ms(definition.ttl) if definition.ttl is not None else None
        found = listed(points, line, kind, definition.limit, emitted or "type", ttl_ms)
        return found.select("point", **{name: found.entries})
    if isinstance(definition, LastFeature):
        found = newest(points, line, kind, 1, (read or "",))
        value = found[read or ""]
        value = value.cast("int64") if value.type().is_boolean() else value
        times = {_named(f"{column.name}_ms"): found.entry_time_ms}
        return found.select("point", **{name: value}, **times)
    found = newest(points, line, kind, 1)
    return found.select("point", **{name: found.entry_time_ms})


def _named(feature: str) -> str:
    # Features may be named as columns of the computation are.
    return f"of_{feature}"


def _capped(total: ir.Value, least: int) -> ir.Value:
    bounded = ibis.least(ibis.greatest(total, least), MAX_TOTAL)
    return bounded.cast("int64")


def _float(number: ir.Value) -> ir.FloatingValue:
    return number.cast("float64")
