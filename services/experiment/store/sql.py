"""The store over a database."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Row, delete, insert, select, update

from services.common.assign.canonical import EXPERIMENT, Item, ItemKey
from services.common.errors import FailedPrecondition
from services.experiment.registry.ports import (
    Entry,
    NumberedEntry,
    Report,
    ReportInfo,
    Snapshot,
    Transaction,
)
from services.experiment.registry.record import Record, State, unreadable
from services.experiment.store.engine import transaction
from services.experiment.store.migrate import migrate
from services.experiment.store.tables import AUDIT, DEFINITIONS, REGISTRY, REPORTS

_NUMBERS = ("version", "revision", "evaluator_version", "created_ms", "updated_ms")
_INFO = [c for c in REPORTS.columns if c.name not in ("json", "html")]


class SqlStore:
    """Implements ``Store``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def migrate(self) -> None:
        """Brings the tables up to date."""
        migrate(self._engine)

    def close(self) -> None:
        """Closes the connections."""
        self._engine.dispose()

    @contextmanager
    def writing(self) -> Iterator[Transaction]:
        """A change, alone."""
        with transaction(self._engine, writes=True) as connection:
            taken = select(REGISTRY.c.version).with_for_update()
            yield _Writing(connection, connection.execute(taken).scalar_one())

    def snapshot(self, unless_version: int | None = None) -> Snapshot | None:
        """Everything, of one moment."""
        with transaction(self._engine, whole=True) as connection:
            version = connection.execute(select(REGISTRY.c.version)).scalar_one()
            if version == unless_version:
                return None
            return Snapshot(version, _records(connection))

    def record(self, key: ItemKey) -> Record | None:
        """One record."""
        with transaction(self._engine) as connection:
            row = _row_of(connection, key)
        return None if row is None else _record(row)

    def experiments(self, states: Collection[State], after_key: str, limit: int) -> list[Record]:
        """Experiments in order of their keys."""
        columns = DEFINITIONS.c
        wanted = (
            select(DEFINITIONS)
            .where(
                columns.kind == EXPERIMENT,
                columns.state.in_([state.value for state in states]),
                columns.key > after_key,
            )
            .order_by(columns.key)
            .limit(limit)
        )
        with transaction(self._engine) as connection:
            return [_listed(row) for row in connection.execute(wanted)]

    def entries(self, key: str, before: int, limit: int) -> list[NumberedEntry]:
        """The audit trail, newest first."""
        wanted = select(AUDIT).order_by(AUDIT.c.number.desc()).limit(limit)
        if key:
            wanted = wanted.where(AUDIT.c.key == key)
        if before:
            wanted = wanted.where(AUDIT.c.number < before)
        with transaction(self._engine) as connection:
            return [_entry(row) for row in connection.execute(wanted)]

    def put_report(self, info: ReportInfo, json: str, html: str, kept: int) -> ReportInfo:
        """Stores a report."""
        columns = REPORTS.c
        of_experiment = columns.experiment_key == info.experiment_key
        newest = select(REPORTS).where(of_experiment).order_by(columns.number.desc())
        with transaction(self._engine, writes=True) as connection:
            connection.execute(select(REGISTRY.c.id).with_for_update())
            latest = connection.execute(newest.limit(1)).one_or_none()
            if latest is not None and (latest.json, latest.html) == (json, html):
                return _info(latest)
            row = {
                "experiment_key": info.experiment_key,
                "created_ms": info.created_ms,
                "caller": info.caller,
                "revision": info.revision,
                "json": json,
                "html": html,
            }
            stored = connection.execute(insert(REPORTS).values(row).returning(*_INFO)).one()
            numbers = select(columns.number).where(of_experiment).order_by(columns.number.desc())
            old = connection.execute(numbers.offset(kept)).scalars().all()
            connection.execute(delete(REPORTS).where(columns.number.in_(old)))
            return _info(stored)

    def report(self, experiment_key: str, number: int) -> Report | None:
        """A report; the latest where the number is 0."""
        columns = REPORTS.c
        wanted = select(REPORTS).where(columns.experiment_key == experiment_key)
        if number:
            wanted = wanted.where(columns.number == number)
        with transaction(self._engine) as connection:
            newest = wanted.order_by(columns.number.desc()).limit(1)
            row = connection.execute(newest).one_or_none()
        return None if row is None else Report(_info(row), row.json, row.html)

    def reports(self, experiment_key: str) -> Sequence[ReportInfo]:
        """Which reports there are, newest first."""
        columns = REPORTS.c
        wanted = select(*_INFO).where(columns.experiment_key == experiment_key)
        with transaction(self._engine) as connection:
            found = connection.execute(wanted.order_by(columns.number.desc()))
            return [_info(row) for row in found]


class _Writing:
    """Implements ``Transaction``. The registry's row is taken: whoever comes next waits."""

    def __init__(self, connection: Connection, version: int) -> None:
        self._connection = connection
        self._raised = False
        self.version = version

    def records(self) -> dict[ItemKey, Record]:
        """All records."""
        return _records(self._connection)

    def record(self, key: ItemKey) -> Record | None:
        """One record."""
        row = _row_of(self._connection, key)
        return None if row is None else _listed(row)

    def put(self, record: Record) -> None:
        """Stores a record."""
        self._connection.execute(delete(DEFINITIONS).where(*_is(record.id)))
        self._connection.execute(insert(DEFINITIONS).values(_row(record)))
        self._raise_version()

    def remove(self, key: ItemKey) -> None:
        """Removes a record."""
        self._connection.execute(delete(DEFINITIONS).where(*_is(key)))
        self._raise_version()

    def append(self, entry: Entry) -> None:
        """Appends to the audit trail."""
        self._connection.execute(
            insert(AUDIT).values(
                at_ms=entry.at_ms,
                caller=entry.caller,
                action=entry.action,
                kind=entry.kind,
                key=entry.key,
                version_before=entry.version_before,
                version_after=entry.version_after,
                changed_fields=json.dumps(entry.changed_fields),
                state_before=_value(entry.state_before),
                state_after=_value(entry.state_after),
                remark=entry.remark,
            )
        )

    def _raise_version(self) -> None:
        if not self._raised:
            self._connection.execute(update(REGISTRY).values(version=self.version + 1))
            self._raised = True


def _is(key: ItemKey) -> tuple[Any, Any]:
    kind, name = key
    return DEFINITIONS.c.kind == kind, DEFINITIONS.c.key == name


def _row_of(connection: Connection, key: ItemKey) -> Row[Any] | None:
    return connection.execute(select(DEFINITIONS).where(*_is(key))).one_or_none()


def _records(connection: Connection) -> dict[ItemKey, Record]:
    found = map(_listed, connection.execute(select(DEFINITIONS)))
    return {record.id: record for record in found}


def _listed(row: Row[Any]) -> Record:
    """A record among others: one that can't be read is told as that, and takes no other with it."""
    try:
        return _record(row)
    except FailedPrecondition:
        return Record(unreadable((row.kind, row.key)), row.authored_json, 1, None, 0, 0)


def _row(record: Record) -> dict[str, object]:
    item = record.item
    return {
        "kind": item.kind,
        "key": item.key,
        "version": record.version,
        "state": _value(record.state),
        "revision": item.revision,
        "evaluator_version": item.evaluator_version,
        "canonical_json": item.text,
        "authored_json": record.authored,
        "winner": record.winner,
        "rolled_out": record.rolled_out,
        "created_ms": record.created_ms,
        "updated_ms": record.updated_ms,
        "started_ms": record.started_ms,
        "concluded_ms": record.concluded_ms,
    }


def _record(row: Row[Any]) -> Record:
    """Raises ``FailedPrecondition`` for a row that can't be read."""
    for name in _NUMBERS:
        if not isinstance(getattr(row, name), int):
            raise _unreadable(row, f"its {name} is no number")
    item = Item(row.kind, row.key, row.revision, row.evaluator_version, row.canonical_json)
    return Record(
        item,
        row.authored_json,
        row.version,
        _state(row, "state"),
        row.created_ms,
        row.updated_ms,
        row.winner,
        row.rolled_out,
        row.started_ms,
        row.concluded_ms,
    )


def _entry(row: Row[Any]) -> NumberedEntry:
    entry = Entry(
        row.at_ms,
        row.caller,
        row.action,
        row.kind,
        row.key,
        row.version_before,
        row.version_after,
        tuple(json.loads(row.changed_fields)),
        _state(row, "state_before"),
        _state(row, "state_after"),
        row.remark,
    )
    return NumberedEntry(row.number, entry)


def _info(row: Row[Any]) -> ReportInfo:
    return ReportInfo(row.number, row.experiment_key, row.created_ms, row.caller, row.revision)


def _state(row: Row[Any], name: str) -> State | None:
    text = getattr(row, name)
    try:
        return None if text is None else State(text)
    except ValueError as error:
        raise _unreadable(row, f"its {name} {text!r} is not known here") from error


def _unreadable(row: Row[Any], why: str) -> FailedPrecondition:
    return FailedPrecondition(
        f"the registry's {row.kind} {row.key!r} can't be read: {why}",
        reason="UNREADABLE_DEFINITION",
    )


def _value(state: State | None) -> str | None:
    return None if state is None else state.value
