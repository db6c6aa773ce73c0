"""Features of a few entities in plain Python, from the rows of the log about them.

It shares no expression with the build: what the tables say is held against it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import ibis.expr.types as ir

from offline.dataset.held import Held
from offline.dataset.log_tables import LogTables
from offline.dataset.recompute_windows import Known, Point, Row, window_value
from offline.dataset.schema import attribute_column, entity_column, value_column
from services.common.domain import Domain
from services.common.domain_features import (
    AttributeFeature,
    DistinctFeature,
    LastFeature,
    LastNFeature,
    PairsFeature,
)
from services.common.durations import duration_ms
from services.common.formula import evaluator, parse_formula
from services.feature.definitions import (
    CATALOGUE_EVENTS,
    MAX_KEY_BYTES,
    REFUND,
    USER_ENTITY,
    FeatureView,
    ViewFeature,
    compile_aggregates,
    compile_views,
    inputs_of,
    other_side,
    pair_id,
    pair_members,
    value_dtype,
    window_start_ms,
)

_AT_ONCE = 1_000


class Recomputed:
    """What the log says about ``wanted``: ids by entity type; of pairs, their users."""

    def __init__(
        self, domain: Domain, tables: LogTables, wanted: Mapping[str, Iterable[str]]
    ) -> None:
        self._domain = domain
        self._tables = tables
        self._views = compile_views(domain)
        self._derived = {n: e.derived_from for n, e in domain.entities.items() if e.derived_from}
        self._changes: dict[tuple[str, str], list[Row]] = {}
        self._rows: dict[int, dict[str, Any]] = {}
        self._about: dict[tuple[str, str], list[Row]] = {}
        self._held = self._endings(wanted)
        for entity, identities in wanted.items():
            self._read(entity, sorted(set(identities)))
        self._derive()
        for row in self._rows.values():
            for key in self._keys(row):
                self._about.setdefault(key, []).append(row)

    def features(
        self, entity: str, identity: str, point: Point, names: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """Values as served but for the rounding to float32, by name in declared order."""
        view = self._views.get(entity)
        if view is None:
            return {}
        columns = [c for c in view.features if names is None or c.name in names]
        known = self._known(entity, identity, point)
        values = {c.name: self._value(view, identity, known, c, point) for c in columns}
        return {name: int(v) if isinstance(v, bool) else v for name, v in values.items()}

    def attributes(self, entity: str, identity: str, point: Point) -> dict[str, tuple[int, Any]]:
        """(when it was said, value) of every attribute that was ever set."""
        latest: dict[str, tuple[int, Any]] = {}
        said = [
            row
            for name in self._names(entity, identity)
            for row in _cut(self._changes.get((entity, name), ()), point)
            if self._is_of(entity, name, identity, row, point)
        ]
        for row in sorted(said, key=_in_time):
            for name in self._domain.entities[entity].attributes:
                value = row[attribute_column(name)]
                if value is not None:
                    latest[name] = row["time_ms"], value
        return latest

    def _endings(self, wanted: Mapping[str, Iterable[str]]) -> Held:
        """Erasures, and who turned out to be whom of those wanted."""
        table = self._tables.endings
        if table is None:
            return Held(())
        pairs = [name for name in wanted if self._domain.entities[name].pair is not None]
        users = {pair_members(identity)[0] for name in pairs for identity in wanted[name]}
        users |= set(wanted.get(USER_ENTITY, ()))
        rows = self._fetched(table, "heir", users)
        rows += self._fetched(table, "actor", users | {row["actor"] for row in rows})
        erased = table.filter(table.heir.isnull())
        return Held([*rows, *self._tables.engine.read(erased).to_pylist()])

    def _names(self, entity: str, identity: str) -> list[str]:
        """Ids under which events may have come that are now of this one."""
        if self._domain.entities[entity].pair is not None:
            user, other = pair_members(identity)
            return [pair_id(name, other) for name in self._held.names(user)]
        return self._held.names(identity) if entity == USER_ENTITY else [identity]

    def _is_of(self, entity: str, name: str, identity: str, row: Row, point: Point) -> bool:
        """Whether a row about ``name`` is at the point one of ``identity``."""
        if self._domain.entities[entity].pair is not None:
            name, identity = pair_members(name)[0], pair_members(identity)[0]
        elif entity != USER_ENTITY:
            return True
        return self._held.holder(name, row["arrival"], point[1]) == identity

    def _known(self, entity: str, identity: str, point: Point) -> Known:
        rows: list[Row] = []
        refunds: list[tuple[Row, list[Row]]] = []
        for name in self._names(entity, identity):
            came = _cut(self._about.get((entity, name), ()), point)
            own = [row for row in came if self._is_of(entity, name, identity, row, point)]
            rows += own
            of_purchase: dict[str, list[Row]] = {}
            for row in filter(_is_refund, came):
                of_purchase.setdefault(row["purchase_event_id"], []).append(row)
            refunds += [
                (row, self._before(entity, name, row, of_purchase[row["purchase_event_id"]]))
                for row in filter(_is_refund, own)
            ]
        return Known(sorted(rows, key=_in_time), refunds)

    def _before(self, entity: str, name: str, refund: Row, refunds: Sequence[Row]) -> list[Row]:
        """Refunds of its purchase that came before a refund, unless they were forgotten then."""
        is_pair = self._domain.entities[entity].pair is not None
        user = pair_members(name)[0] if is_pair else name
        of_somebody = is_pair or entity == USER_ENTITY
        return [
            row
            for row in refunds
            if row["arrival"] < refund["arrival"]
            and not (
                of_somebody
                and self._held.forgotten_between(user, row["arrival"], refund["arrival"])
            )
        ]

    def _read(self, entity: str, identities: Sequence[str]) -> None:
        log = self._tables.events
        if self._domain.entities[entity].pair is not None:
            self._read(USER_ENTITY, [pair_members(identity)[0] for identity in identities])
            return
        if entity == USER_ENTITY:
            identities = sorted({n for user in identities for n in self._held.names(user)})
        self._read_changes(entity, identities)
        columns = [entity_column(entity)] + (["actor"] if entity == USER_ENTITY else [])
        for column in columns:
            self._keep(self._fetched(log, column, identities))
        for source, attribute in self._derived.get(entity, {}).items():
            changes = self._tables.changes[source]
            said = self._fetched(changes, attribute_column(attribute), identities)
            self._keep(self._fetched(log, entity_column(source), {row["id"] for row in said}))

    def _read_changes(self, entity: str, identities: Iterable[str]) -> None:
        table = self._tables.changes.get(entity)
        missing = sorted({i for i in identities if (entity, i) not in self._changes})
        if table is None or not missing:
            return
        self._changes |= {(entity, identity): [] for identity in missing}
        for row in self._fetched(table, "id", missing):
            self._changes[entity, row["id"]].append(row)

    def _fetched(self, table: ir.Table, column: str, values: Iterable[str]) -> list[dict[str, Any]]:
        rows: list[dict[str, Any]] = []
        listed = sorted(values)
        for start in range(0, len(listed), _AT_ONCE):
            chosen = table.filter(table[column].isin(listed[start : start + _AT_ONCE]))
            rows += self._tables.engine.read(chosen).to_pylist()
        return rows

    def _keep(self, rows: Iterable[dict[str, Any]]) -> None:
        self._rows |= {row["arrival"]: row for row in rows}

    def _derive(self) -> None:
        """Fills in what events lead to."""
        sources = {source for found in self._derived.values() for source in found}
        for source in sources:
            named = (row[entity_column(source)] for row in self._rows.values())
            self._read_changes(source, [identity for identity in named if identity is not None])
        for row in self._rows.values():
            if row["type"] in CATALOGUE_EVENTS:
                continue
            for derived, found in self._derived.items():
                if row[entity_column(derived)] is None:
                    row[entity_column(derived)] = self._led_to(row, found)

    def _led_to(self, row: Row, sources: Mapping[str, str]) -> str | None:
        point = (row["clock_ms"], row["arrival"])
        for source, attribute in sources.items():
            identity = row[entity_column(source)]
            if identity is None:
                continue
            _, value = self.attributes(source, identity, point).get(attribute, (0, ""))
            if 0 < len(value.encode()) <= MAX_KEY_BYTES:
                return str(value)
        return None

    def _keys(self, row: Row) -> set[tuple[str, str]]:
        keys: set[tuple[str, str]] = set()
        for name, entity in self._domain.entities.items():
            if entity.pair is not None:
                other = row[entity_column(entity.pair[1])]
                if row["actor"] and other is not None:
                    keys.add((name, pair_id(row["actor"], other)))
            elif row[entity_column(name)] is not None:
                keys.add((name, row[entity_column(name)]))
        if row["actor"]:
            keys.add((USER_ENTITY, row["actor"]))
        return keys

    def _value(
        self,
        view: FeatureView,
        identity: str,
        known: Known,
        column: ViewFeature,
        point: Point,
    ) -> Any:
        """A feature of one of the view's entities from the events known of it, in order."""
        definition, rows = column.definition, known.rows
        match definition.kind:
            case "attribute":
                return self._attribute(view.entity, identity, column, definition, point)
            case "recency":
                times = [row["time_ms"] for row in rows if row["type"] in definition.events]
                return (point[0] - times[-1]) / 1_000 if times else definition.default
            case "last":
                return self._last(rows, column, definition, point[0])
            case "last_n":
                return _entries(rows, definition, point[0])
            case "distinct":
                return self._distinct(view, rows, definition, point)
            case "expression":
                if not rows:
                    return definition.default
                names = inputs_of(definition)
                read = [c for c in view.features if c.name in names]
                values = {c.name: self._value(view, identity, known, c, point) for c in read}
                result = evaluator(parse_formula(definition.formula))(values)
                return definition.default if result is None else result
            case "pairs":
                return self._pairs(identity, rows, definition, point)
            case _:
                return window_value(self._domain, known, column, point)

    def _attribute(
        self,
        entity: str,
        identity: str,
        column: ViewFeature,
        definition: AttributeFeature,
        point: Point,
    ) -> Any:
        found = self.attributes(entity, identity, point).get(column.attribute or column.name)
        if found is None:
            return column.default
        if definition.ttl is not None and found[0] < point[0] - duration_ms(definition.ttl):
            return column.default
        return found[1]

    def _last(
        self, known: Sequence[Row], column: ViewFeature, definition: LastFeature, t_ms: int
    ) -> Any:
        value = value_column(definition.value, value_dtype(self._domain, definition))
        start_ms = window_start_ms(t_ms, duration_ms(definition.window))
        said = [r for r in known if r["type"] in definition.events and r[value] is not None]
        inside = [row[value] for row in said if row["time_ms"] >= start_ms]
        return inside[-1] if inside else column.default

    def _distinct(
        self, view: FeatureView, rows: Sequence[Row], definition: DistinctFeature, point: Point
    ) -> int:
        of = _naming_column(definition.of)
        mentions = [
            (row["arrival"], row["time_ms"], row[of])
            for row in rows
            if row["type"] in definition.events and row[of]
        ]
        is_pair = self._domain.entities[view.entity].pair is not None
        if definition.of == USER_ENTITY and view.entity != USER_ENTITY and not is_pair:
            key = (tuple(sorted(set(definition.events))), definition.of)
            lists = compile_aggregates(self._domain, view.features).recents
            cap = next(a.cap for a in lists if (a.events, a.of) == key)
            mentions = self._held.left_of(mentions, cap, point[1])
        start_ms = window_start_ms(point[0], duration_ms(definition.window))
        others = {name for _, time_ms, name in mentions if time_ms >= start_ms}
        return min(len(others), definition.cap)

    def _pairs(
        self, user: str, known: Sequence[Row], definition: PairsFeature, point: Point
    ) -> Any:
        other = entity_column(other_side(self._domain, definition.of))
        named: dict[str, int] = {}
        for row in known:
            if row["type"] in definition.events and row[other] is not None:
                named[row[other]] = row["time_ms"]
        order = sorted(named, key=lambda identity: (named[identity], identity), reverse=True)
        listed = order[: definition.limit]
        if definition.emit == "id":
            return listed
        values = []
        for identity in listed:
            found = self.features(definition.of, pair_id(user, identity), point, [definition.emit])
            values.append(float(found[definition.emit]))
        return values + [0.0] * (definition.limit - len(values))


def _cut(rows: Iterable[Row], point: Point) -> list[Row]:
    """The log cut at the point, by event time, then arrival."""
    time_ms, arrival = point
    cut = [row for row in rows if row["time_ms"] <= time_ms and row["arrival"] < arrival]
    return sorted(cut, key=_in_time)


def _in_time(row: Row) -> Point:
    return row["time_ms"], row["arrival"]


def _entries(known: Sequence[Row], definition: LastNFeature, t_ms: int) -> list[str]:
    of = entity_column(definition.of)
    named = [r for r in known if r["type"] in definition.events and r[of] is not None]
    named = named[-definition.limit :]
    if definition.ttl is not None:
        oldest_ms = t_ms - duration_ms(definition.ttl)
        named = [row for row in named if row["time_ms"] >= oldest_ms]
    return [row[of] if definition.emit == "id" else row["type"] for row in named]


def _is_refund(row: Row) -> bool:
    return row["type"] == REFUND and row["purchase_event_id"] is not None


def _naming_column(of: str) -> str:
    return "actor" if of == USER_ENTITY else entity_column(of)
