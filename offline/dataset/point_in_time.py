"""Features and attributes as they were known at a point (time_ms, arrival).

An event is known at the point (t, A) when its time is <= t and its arrival is < A. Two orders are
involved, and a running total follows only one. So it is done in two steps, in expressions that
any Ibis backend runs (union and window functions, no as-of join):

1. Events and points of an entity are put into one order, by (time, arrival), and running totals
   are read off at the points. This is right but for *late* events: before the point in that
   order, yet of an arrival >= A.
2. Late events are told by the smallest arrival of a point after them. They are joined with the
   few points that did not know them: totals are corrected by subtraction, the last events are
   looked for that much further back, the rest is said in ``tiles`` and ``distinct``.

Refunds are joined with the points that know them, and counted at the time of their purchase.
The meaning of each feature is that of ``services.feature.definitions``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import reduce

import ibis
import ibis.expr.types as ir
import pyarrow as pa

from offline.dataset.changes import latest_changes
from offline.dataset.distinct import last_named
from offline.dataset.event_features import KNOWN, EventFeatures
from offline.dataset.formulas import formula_value
from offline.dataset.histories import TOLD, histories, paired
from offline.dataset.keys import about, said_about
from offline.dataset.log_tables import LogTables
from offline.dataset.plan import named_by
from offline.dataset.schema import attribute_column
from offline.dataset.timeline import joined, place_columns
from services.common.domain import Domain
from services.common.domain_features import (
    AttributeFeature,
    DistinctFeature,
    ExpressionFeature,
    PairsFeature,
)
from services.common.durations import duration_ms
from services.common.formula import parse_formula
from services.feature.definitions import (
    USER_ENTITY,
    ViewFeature,
    compile_views,
    inputs_of,
    other_side,
)

POINT_KEYS = ("id", "time_ms", "arrival")
_BACKEND_TYPES = {
    "float32": "float32",
    "int64": "int64",
    "string": "string",
    "list": "array<string>",
    "vector": "array<float32>",
}


def point_in_time(
    domain: Domain,
    tables: LogTables,
    entity: str,
    probes: pa.Table,
    *,
    features: Sequence[str] | None = None,
    defaults: bool = True,
) -> pa.Table:
    """Rows of ``entity`` as known at each probe, in the order of ``probes``.

    ``probes`` has columns id (string), time_ms (int64) and arrival (int64). The result has these
    and one column a feature (all features of the entity, or ``features``), in declared order, of
    the view's dtype: int64, float32, string, list<string>, or list<float> for vectors. What has no
    value carries its default; null without ``defaults``.
    """
    numbered = probes.select(list(POINT_KEYS)).append_column(
        "_row", pa.array(range(probes.num_rows), pa.int64())
    )
    table = tables.imported(numbered)
    columns = selected_features(domain, entity, features)
    known = _Known(domain, tables, entity, table, columns, defaults=defaults).table(())
    names = [column.name for column in columns]
    both = table.join(known, list(POINT_KEYS)).order_by("_row")
    return tables.engine.read(both.select(*POINT_KEYS, *names))


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
    domain: Domain,
    tables: LogTables,
    entity: str,
    probes: ir.Table,
    columns: Sequence[ViewFeature],
    attributes: Sequence[str] = (),
) -> ir.Table:
    """One row a distinct probe: id, time_ms, arrival, the features, and the latest values of
    ``attributes`` as ``attribute_column`` names them, null where never set."""
    return _Known(domain, tables, entity, probes, columns).table(attributes)


class _Known:
    """Features of one entity type at distinct probes."""

    def __init__(
        self,
        domain: Domain,
        tables: LogTables,
        entity: str,
        probes: ir.Table,
        columns: Sequence[ViewFeature],
        *,
        of_histories: bool = False,
        defaults: bool = True,
    ) -> None:
        """``of_histories``: ids are names of histories already. Without ``defaults`` what has no
        value is null."""
        self._defaults = defaults
        self._domain = domain
        self._tables = tables
        self._entity = entity
        points = _numbered(probes)
        ended = None if of_histories else histories(tables)
        are_pairs = domain.entities[entity].pair is not None
        self._told = ended is not None and (are_pairs or entity == USER_ENTITY)
        if ended is not None and self._told:
            points = ended.at_points(points, are_pairs=are_pairs)
        self._points = tables.stored(points)
        self._columns = columns
        read = {name for column in columns for name in inputs_of(column.definition)}
        wanted = {column.name for column in columns}
        self._read = [*columns, *selected_features(domain, entity, read - wanted)]

    def table(self, attributes: Sequence[str]) -> ir.Table:
        """See ``known_features``."""
        parts = [self._points]
        from_events = [c for c in self._read if not _is_made_of_others(c)]
        expressions = [c for c in self._read if isinstance(c.definition, ExpressionFeature)]
        lists = [c for c in self._read if isinstance(c.definition, PairsFeature)]
        if from_events or expressions or lists:
            events = self._about(from_events, lists)
        if from_events or expressions:
            parts.append(
                EventFeatures(
                    self._domain,
                    self._tables,
                    self._entity,
                    events,
                    self._points,
                    from_events,
                    with_known=bool(expressions),
                ).table()
            )
        parts += [self._pairs(events, column) for column in lists]
        said = [c for c in self._read if isinstance(c.definition, AttributeFeature)]
        named = dict.fromkeys([*(c.attribute or c.name for c in said), *attributes])
        if named:
            columns = [attribute_column(name) for name in named]
            changes = said_about(self._tables, self._entity)
            changes = changes.select(*place_columns(changes), *columns)
            parts.append(latest_changes(self._tables, changes, self._points, columns))
        table = self._tables.stored(reduce(joined, parts))
        values = {column.name: _raw(table, column) for column in self._read}
        for column in expressions:
            values[column.name] = self._expression(table, column, values)
        served = {c.name: self._served(values[c.name], c) for c in self._columns}
        served |= {attribute_column(n): table[attribute_column(n)] for n in attributes}
        told = table[TOLD].name("id") if self._told else table.id
        return self._tables.stored(table.select(told, *POINT_KEYS[1:], **served))

    def _served(self, value: ir.Value, column: ViewFeature) -> ir.Value:
        filled = _or_default(value, column) if self._defaults else value
        return filled.cast(_BACKEND_TYPES[column.dtype])

    def _about(self, from_events: Sequence[ViewFeature], lists: Sequence[ViewFeature]) -> ir.Table:
        definitions = [column.definition for column in (*from_events, *lists)]
        named = {d.of for d in definitions if isinstance(d, DistinctFeature)}
        named |= {other_side(self._domain, d.of) for d in definitions if d.kind == "pairs"}
        return about(self._domain, self._tables, self._entity, tuple(sorted(named)))

    def _pairs(self, events: ir.Table, column: ViewFeature) -> ir.Table:
        """point and the list of a pairs feature."""
        feature = column.definition
        assert isinstance(feature, PairsFeature)  # noqa: S101 - chosen by its class
        other = named_by(other_side(self._domain, feature.of))
        types = tuple(sorted(set(feature.events)))
        listed = last_named(events, self._points, types, other, feature.limit)
        listed = self._tables.stored(listed)
        if feature.emit == "id":
            emitted = listed.select("point", "place", entry=listed.other)
        else:
            emitted = self._of_pairs(listed, feature)
        entry = ibis.struct({"place": emitted.place, "entry": emitted.entry})
        lists = emitted.group_by("point").aggregate(found=entry.collect().sort())
        entries = lists.found.map(lambda each: each["entry"])
        return self._tables.stored(lists.select("point", **{column.name: entries}))

    def _of_pairs(self, listed: ir.Table, feature: PairsFeature) -> ir.Table:
        """point, place, ``entry``: a feature of each pair listed, and 0 for the places left."""
        pairs = listed.mutate(pair=paired(listed.id, listed.other))
        probes = pairs.select("time_ms", "arrival", id=pairs.pair)
        columns = selected_features(self._domain, feature.of, [feature.emit])
        of_pairs = _Known(
            self._domain, self._tables, feature.of, probes, columns, of_histories=True
        )
        known = of_pairs.table(())
        known = known.select(
            pair_id=known.id,
            pair_time_ms=known.time_ms,
            pair_arrival=known.arrival,
            entry=known[feature.emit].cast("float32"),
        )
        found = pairs.join(
            known,
            [
                pairs.pair == known.pair_id,
                pairs.time_ms == known.pair_time_ms,
                pairs.arrival == known.pair_arrival,
            ],
        ).select("entry", point_of=ibis._.point, place_of=ibis._.place)
        places = listed.select("point").distinct()
        places = places.mutate(place=ibis.range(0, feature.limit).unnest())
        padded = places.left_join(
            found, [places.point == found.point_of, places.place == found.place_of]
        )
        zero = ibis.literal(0.0, "float32")
        return padded.select("point", "place", entry=padded.entry.fill_null(zero))

    def _expression(
        self, table: ir.Table, column: ViewFeature, values: dict[str, ir.Value]
    ) -> ir.Value:
        """A formula of what is served of the entity; null where no event named it."""
        read = {c.name: c for c in self._read}
        names = inputs_of(column.definition)
        operands = {n: _or_default(values[n], read[n]).cast("float64") for n in names}
        definition = column.definition
        assert isinstance(definition, ExpressionFeature)  # noqa: S101 - chosen by its class
        result = formula_value(parse_formula(definition.formula), operands)
        return ibis.ifelse(table[KNOWN], result, ibis.null("float64"))


def _is_made_of_others(column: ViewFeature) -> bool:
    return isinstance(column.definition, AttributeFeature | ExpressionFeature | PairsFeature)


def _raw(table: ir.Table, column: ViewFeature) -> ir.Value:
    """A value as it is in states, null for the default."""
    definition = column.definition
    if isinstance(definition, ExpressionFeature):
        return ibis.null("float64")
    if not isinstance(definition, AttributeFeature):
        return table[column.name]
    name = attribute_column(column.attribute or column.name)
    value = table[name]
    if value.type().is_boolean():
        value = value.cast("int64")
    if definition.ttl is None:
        return value
    fresh = table[f"{name}_ms"] >= table.time_ms - duration_ms(definition.ttl)
    return ibis.ifelse(fresh, value, ibis.null(value.type()))


def _or_default(value: ir.Value, column: ViewFeature) -> ir.Value:
    if column.dtype == "float32":
        return value.cast("float64").fill_null(ibis.literal(column.default, "float64"))
    dtype = _BACKEND_TYPES[column.dtype]
    default = column.default
    literal = ibis.literal(list(default) if isinstance(default, tuple) else default, dtype)
    return value.cast(dtype).fill_null(literal)


def _numbered(probes: ir.Table) -> ir.Table:
    """Distinct probes, numbered as points."""
    distinct = probes.select(*POINT_KEYS).distinct()
    number = ibis.row_number().over(order_by=[distinct[key] for key in POINT_KEYS])
    return distinct.mutate(point=number.cast("int64"))
