"""What the registry asks of whoever stores it."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from services.common.assign.canonical import ItemKey
from services.experiment.registry.record import Record, State


@dataclass(frozen=True)
class Entry:
    """One change, for the audit trail. It names fields and never what they hold: conditions and
    saved groups may name users. Versions are 0, states None, where there is none."""

    at_ms: int
    caller: str
    action: str
    kind: str
    key: str
    version_before: int
    version_after: int
    changed_fields: tuple[str, ...] = ()
    state_before: State | None = None
    state_after: State | None = None
    remark: str = ""


class NumberedEntry(NamedTuple):
    """An entry with its number, from 1, growing."""

    number: int
    entry: Entry


@dataclass(frozen=True)
class ReportInfo:
    """Which report: its number, of which experiment, stored when (epoch ms) and by whom, at which
    revision (0 for an experiment of a flag's rule)."""

    number: int
    experiment_key: str
    created_ms: int
    caller: str
    revision: int


class Report(NamedTuple):
    """A stored report."""

    info: ReportInfo
    json: str
    html: str


class Snapshot(NamedTuple):
    """Everything at a version of the registry."""

    version: int
    records: Mapping[ItemKey, Record]


class Transaction(Protocol):
    """One change, alone: nobody else changes anything meanwhile. All of it is kept or nothing."""

    version: int
    """That of the registry before."""

    def records(self) -> dict[ItemKey, Record]:
        """All records; ``unreadable`` ones for those that can't be read."""

    def record(self, key: ItemKey) -> Record | None:
        """One record, the same way."""

    def put(self, record: Record) -> None:
        """Stores a record instead of the one of its id. Raises the registry's version by one, once
        a transaction."""

    def remove(self, key: ItemKey) -> None:
        """Removes a record; the version as with ``put``."""

    def append(self, entry: Entry) -> None:
        """Appends to the audit trail."""


class Store(Protocol):
    """Keeps records, audit trail and reports. Every method may wait, and raises ``Unavailable``
    while the database is gone. May be used from several threads."""

    def migrate(self) -> None:
        """Brings the tables up to date; several may do so at once."""

    def writing(self) -> AbstractContextManager[Transaction]:
        """A transaction, kept where the block ends without an error."""

    def snapshot(self, unless_version: int | None = None) -> Snapshot | None:
        """Everything; None where the registry's version is ``unless_version``."""

    def record(self, key: ItemKey) -> Record | None:
        """One record."""

    def experiments(self, states: Collection[State], after_key: str, limit: int) -> list[Record]:
        """Experiments of these states, in order of their keys, after one."""

    def entries(self, key: str, before: int, limit: int) -> list[NumberedEntry]:
        """The audit trail, newest first: of the definitions of a key where it is not empty, before
        a number where it is not 0."""

    def put_report(self, info: ReportInfo, json: str, html: str, kept: int) -> ReportInfo:
        """Stores a report (its number is given by the store), and removes all but the last
        ``kept`` of its experiment. The latest one is returned instead where it is the same."""

    def report(self, experiment_key: str, number: int) -> Report | None:
        """A report; the latest where the number is 0."""

    def reports(self, experiment_key: str) -> Sequence[ReportInfo]:
        """Which reports there are, newest first."""

    def close(self) -> None:
        """Closes the connections."""
