"""Keeps the tables up to date by watching the feature service; one thread a replica.

A snapshot is gathered beside the tables in force and installed when it is complete; a delta
yields new tables. What is not complete is never seen by a request.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from services.common.errors import FailedPrecondition, PodiumError, UnknownFeatureView
from services.ranker.catalogue.disk import Copy, ReplicaDisk
from services.ranker.catalogue.table import EntityTable
from services.ranker.feature_rows import FeatureRows, View
from services.ranker.state import Tables
from services.ranker.types import Reason
from services.ranker.watch_loop import Stream, WatchLoop, WatchTimes

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Reset:
    """A snapshot follows."""


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    """Part of a snapshot."""

    entity: str
    rows: FeatureRows


@dataclass(frozen=True, slots=True)
class SnapshotEnd:
    """The snapshot is complete; it had ``rows`` rows."""

    rows: int


@dataclass(frozen=True, slots=True)
class Delta:
    """Changed rows and withdrawn ids, by entity type."""

    upserts: Sequence[tuple[str, FeatureRows]]
    tombstones: Sequence[tuple[str, str]]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing changed."""


@dataclass(frozen=True, slots=True)
class WatchMessage:
    """One message of the stream. ``as_of_ms`` (epoch ms, 0 for unknown): what was in the log then
    is in the rows."""

    step: Reset | SnapshotChunk | SnapshotEnd | Delta | Heartbeat
    resume_token: bytes
    as_of_ms: int


WatchOpener = Callable[[Mapping[str, View], bytes], Stream[WatchMessage]]
"""Opens a watch of views by entity type, from a resume token."""


@dataclass(frozen=True)
class ReplicaTimes:
    """Patience of a replica, in seconds: without a message it is stale after ``stale_s``; the copy
    on disk is at most ``save_s`` behind; a broken watch is opened again after ``retry_s``, doubled
    each time up to ``retry_most_s``; plans are prepared anew every ``refresh_s`` without change,
    while the watch is broken, too (at its next opening)."""

    stale_s: float = 10.0
    save_s: float = 30.0
    retry_s: float = 0.2
    retry_most_s: float = 5.0
    refresh_s: float = 5.0


class Replica:
    """The catalogue under one set of views. ``changed`` is called with every new installation, and
    ``aged`` with how old (in seconds) what each step of the watch completes is by then, both on the
    replica's thread.

    A stream without a step for ``stale_s``, not even a heartbeat, is given up and opened anew.
    """

    def __init__(
        self,
        views: Mapping[str, View],
        open_watch: WatchOpener,
        disk: ReplicaDisk,
        changed: Callable[[Tables], None],
        *,
        times: ReplicaTimes = ReplicaTimes(),
        aged: Callable[[float], None] = lambda _: None,
    ) -> None:
        self.views = dict(views)
        self._open_watch = open_watch
        self._disk = disk
        self._changed = changed
        self._aged = aged
        self._times = times
        self._tables: Tables | None = None
        self._token = b""
        self._as_of_ms = 0
        self._heard_s: float | None = None
        self._installed_s = 0.0
        self._saved_number = 0
        self._saved_s = 0.0
        self._number = 0
        self._rows_number = 0
        self._rows_saved = 0
        self._epoch = 0
        self._snapshot: dict[str, EntityTable] | None = None
        self._snapshot_rows = 0
        self._installed = threading.Condition()
        self._refusal: PodiumError | None = None
        patience = WatchTimes(times.stale_s, times.retry_s, times.retry_most_s)
        self._loop = WatchLoop("catalogue", self._opened, self._take, patience, self._broke)

    def start(self) -> None:
        """Installs the copy on disk, when there is one, and starts watching."""
        copy = self._disk.load()
        if copy is not None:
            self._token, self._as_of_ms = copy.resume_token, copy.as_of_ms
            self._install(copy.tables)
            _logger.info("catalogue installed from %s", self._disk.path)
        self._saved_number = self._number
        self._rows_saved = self._rows_number
        self._saved_s = time.monotonic()
        self._loop.start()

    def close(self) -> None:
        """Stops watching, saves the copy and lets go of the tables."""
        self._loop.close()
        self._save()
        # They name the replica: a cycle, which nothing would free once it is kept for good.
        self._tables = None

    def latest(self) -> Tables:
        """The installed tables. Raises ``FailedPrecondition`` before there are any and once
        the replica is closed."""
        tables = self._tables
        if tables is None:
            raise FailedPrecondition("no catalogue is installed yet")
        return tables

    def wait_installed(self, timeout_s: float) -> bool:
        """Waits for tables. Raises ``UnknownFeatureView`` when the feature service refuses a view
        and no copy is there."""
        with self._installed:
            self._installed.wait_for(
                lambda: self._tables is not None or self._refusal is not None, timeout_s
            )
            if self._tables is None and self._refusal is not None:
                raise self._refusal
            return self._tables is not None

    def stale(self) -> Reason | None:
        """STALE while the last message, or what it held, is too old; None while all is fresh."""
        heard_s = self._heard_s
        if heard_s is None or time.monotonic() - heard_s > self._times.stale_s:
            return Reason.STALE
        return Reason.STALE if self.age_ms() > self._times.stale_s * 1000 else None

    def age_ms(self) -> int:
        """How far the rows are behind the clock; 0 when the stream does not say."""
        return max(0, time.time_ns() // 1_000_000 - self._as_of_ms) if self._as_of_ms else 0

    def _opened(self) -> Stream[WatchMessage]:
        self._snapshot = None
        # What opens by the clock alone is to be found without the feature service, too.
        self._refresh_alone()
        return self._open_watch(self.views, self._token)

    def _take(self, message: WatchMessage) -> None:
        self._apply(message)
        self._save_sometimes()

    def _apply(self, message: WatchMessage) -> None:
        step = message.step
        if isinstance(step, Reset):
            self._snapshot = {e: EntityTable.empty(e, view) for e, view in self.views.items()}
            self._snapshot_rows = 0
            self._heard_s = time.monotonic()
            return
        if isinstance(step, SnapshotChunk):
            if self._snapshot is None:
                raise FailedPrecondition("part of a snapshot came without its beginning")
            table = self._snapshot[step.entity]
            self._snapshot[step.entity] = table.changed([step.rows], (), self._number + 1)
            self._snapshot_rows += len(step.rows.ids)
            return
        # A token and a time count from the moment that what they stand for is in the tables.
        if isinstance(step, SnapshotEnd):
            if self._snapshot is None or step.rows != self._snapshot_rows:
                raise FailedPrecondition(
                    f"a snapshot of {step.rows} rows ended after {self._snapshot_rows}"
                )
            snapshot, self._snapshot = self._snapshot, None
            self._epoch += 1
            self._heard(message)
            self._install(snapshot)
            _logger.info("catalogue installed: %d rows", step.rows)
        elif isinstance(step, Delta):
            tables = self._after(step)
            self._heard(message)
            self._install(tables)
        else:
            self._heard(message)
            self._refresh()

    def _heard(self, message: WatchMessage) -> None:
        self._heard_s = time.monotonic()
        if message.resume_token:
            self._token = message.resume_token
        if message.as_of_ms:
            self._as_of_ms = message.as_of_ms
            self._aged(self.age_ms() / 1000)

    def _after(self, delta: Delta) -> dict[str, EntityTable]:
        tables = dict(self.latest().by_entity)
        for entity, table in self.latest().by_entity.items():
            rows = [rows for kind, rows in delta.upserts if kind == entity]
            gone = [id_ for kind, id_ in delta.tombstones if kind == entity]
            if rows or gone:
                tables[entity] = table.changed(rows, gone, self._number + 1)
        return tables

    def _install(self, tables: Mapping[str, EntityTable]) -> None:
        self._number += 1
        before = self._tables
        if before is None or any(before.by_entity[e] is not tables[e] for e in tables):
            self._rows_number = self._number
        installed = Tables(self, self._epoch, self._number, dict(tables), self.stale, self.age_ms)
        with self._installed:
            self._tables = installed
            self._installed.notify_all()
        self._changed(installed)
        self._installed_s = time.monotonic()

    def _refresh(self) -> None:
        if self._tables and time.monotonic() - self._installed_s > self._times.refresh_s:
            self._install(self._tables.by_entity)

    def _refresh_alone(self) -> None:
        try:
            self._refresh()
        except Exception:
            _logger.exception("the catalogue can't be prepared anew")

    def _broke(self, error: PodiumError) -> None:
        if isinstance(error, UnknownFeatureView):
            with self._installed:
                self._refusal = error
                self._installed.notify_all()

    def _save_sometimes(self) -> None:
        if time.monotonic() - self._saved_s > self._times.save_s or self._saved_number == 0:
            self._save()

    def _save(self) -> None:
        tables = self._tables
        if tables is None or tables.number == self._saved_number:
            return
        try:
            if self._rows_saved == self._rows_number:
                self._disk.renew(self._token, self._as_of_ms)
            else:
                self._disk.save(Copy(tables.by_entity, self._token, self._as_of_ms))
                self._rows_saved = self._rows_number
        except OSError as error:
            _logger.warning("%s: the catalogue can't be saved: %s", self._disk.path, error)
        self._saved_number, self._saved_s = tables.number, time.monotonic()
