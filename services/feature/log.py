"""Takes events into the log: decides which are new, writes them, answers when they are on disk.

One task owns the log. While one group of requests is being synced, the next gathers: the cost of a
sync is shared by all that wait (group commit).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Protocol

from services.common.errors import FailedPrecondition, Overloaded, PodiumError, Unavailable
from services.feature.apply import remembered_days
from services.feature.store.protocol import FeatureStore, StoreView

MAX_UNAPPLIED_RECORDS = 200_000
MAX_WAITING_EVENTS = 20_000
OVERLOAD_RETRY_MS = 250

_logger = logging.getLogger(__name__)


class RecordLog(Protocol):
    """The log on disk, as its one writer sees it."""

    next_arrival: int

    def append(self, payloads: Sequence[bytes]) -> int:
        """Adds records; durable only after ``sync``. Returns the arrival of the first."""
        ...

    def sync(self) -> None:
        """Waits until everything added is on disk."""
        ...

    def recover(self) -> None:
        """Makes a log usable whose last write failed; ``next_arrival`` is then where it ends."""
        ...


class NewEvent(Protocol):
    """A checked event of a request, ready to be stored."""

    index: int
    event_id: str
    fingerprint: bytes

    def payload(self, arrival: int, arrival_ms: int, producer: str, sequence: int | None) -> bytes:
        """The record as it is stored at a position."""
        ...


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that was not stored, by its index in the request."""

    index: int
    event_id: str
    error: PodiumError


@dataclass(slots=True)
class Receipt:
    """What became of a request's events; ``log_position`` is after the last stored one."""

    accepted: int = 0
    duplicates: int = 0
    refused: list[RefusedEvent] = field(default_factory=list)
    log_position: int = 0


@dataclass(slots=True)
class _Waiting:
    events: Sequence[NewEvent]
    producer: str
    first_sequence: int | None
    answer: asyncio.Future[Receipt]


class Ingestor:
    """Owner of the log. ``start`` before the first ``ingest``, ``close`` after the last.

    ``gaps`` is called with (producer, number of missing events) when a producer's numbers jump.
    """

    def __init__(
        self,
        log: RecordLog,
        store: FeatureStore,
        clock_ms: Callable[[], int],
        *,
        gaps: Callable[[str, int], None],
        max_unapplied_records: int = MAX_UNAPPLIED_RECORDS,
        max_waiting_events: int = MAX_WAITING_EVENTS,
    ) -> None:
        self._log = log
        self._store = store
        self._clock_ms = clock_ms
        self._gaps = gaps
        self._max_unapplied_records = max_unapplied_records
        self._max_waiting_events = max_waiting_events
        self._waiting: deque[_Waiting] = deque()
        self._waiting_events = 0
        self._wake = asyncio.Event()
        self._closing = False
        self._failed = False
        self._complained = False
        # Events that are in the log but perhaps not in the store yet, in order of arrival.
        self._recent: dict[str, tuple[bytes, int]] = {}
        self._next_sequences: dict[str, int] = {}
        self._applied = 0
        self._now_ms = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._task: asyncio.Task[None] | None = None
        self.synced = log.next_arrival
        """Log position up to which everything is on disk."""

    @property
    def unapplied(self) -> int:
        """Records in the log that the store does not hold yet."""
        return max(0, self.synced - self._applied)

    def start(self) -> None:
        """Starts the owner's task. The store must have caught up with the log."""
        with self._store.read() as view:
            self._next_sequences = view.next_sequences()
            self._applied = view.position()
        self._task = asyncio.create_task(self._run(), name="ingest")

    async def close(self) -> None:
        """Writes what waits, then stops."""
        self._closing = True
        self._wake.set()
        if self._task is not None:
            await self._task
        self._executor.shutdown()

    def applied_through(self, position: int) -> None:
        """Tells that the store holds the log, and so its event ids, up to ``position``."""
        self._applied = position
        recent = self._recent
        passed = []
        for event_id, (_, arrival) in recent.items():
            if arrival >= position:
                break
            passed.append(event_id)
        for event_id in passed:
            del recent[event_id]

    async def ingest(
        self, events: Sequence[NewEvent], producer: str, first_sequence: int | None
    ) -> Receipt:
        """Stores the events that are new and returns once they are on disk.

        ``first_sequence`` numbers the producer's events of the request from index 0. Raises
        ``Overloaded`` when too much waits or is unapplied, ``Unavailable`` when the log can't be
        written: some of the events may be in it nevertheless, and count as duplicates later.
        """
        if self._closing:
            raise Unavailable("the event log takes no events now", reason="LOG_UNAVAILABLE")
        if self.unapplied > self._max_unapplied_records:
            raise Overloaded(
                f"{self.unapplied} events wait to be applied",
                retry_after_ms=OVERLOAD_RETRY_MS,
                reason="APPLY_BACKLOG",
            )
        if self._waiting_events + len(events) > self._max_waiting_events:
            raise Overloaded(
                f"{self._waiting_events} events wait to be written",
                retry_after_ms=OVERLOAD_RETRY_MS,
                reason="INGEST_BACKLOG",
            )
        answer = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(events, producer, first_sequence, answer))
        self._waiting_events += len(events)
        self._wake.set()
        receipt: Receipt = await answer
        return receipt

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            self._wake.clear()
            group = list(self._waiting)
            self._waiting.clear()
            self._waiting_events = 0
            # A caller who has gone gets no work done.
            group = [request for request in group if not request.answer.done()]
            if group:
                try:
                    if self._failed:
                        await loop.run_in_executor(self._executor, self._log.recover)
                        self._recovered()
                    receipts, payloads = self._sort_out(group)
                    if payloads:
                        await loop.run_in_executor(self._executor, self._write, payloads)
                        self.synced = self._log.next_arrival
                        self._complained = False
                except Exception as error:
                    self._fail(group, error)
                else:
                    for request, receipt in zip(group, receipts, strict=True):
                        receipt.log_position = self.synced
                        with suppress(asyncio.InvalidStateError):
                            request.answer.set_result(receipt)
            if self._closing and not self._waiting:
                return

    def _write(self, payloads: Sequence[bytes]) -> None:
        self._log.append(payloads)
        self._log.sync()

    def _fail(self, group: Sequence[_Waiting], error: Exception) -> None:
        if not self._complained:
            _logger.critical("the event log can't be written", exc_info=error)
        self._failed = self._complained = True
        for request in (*group, *self._waiting):
            if not request.answer.done():
                request.answer.set_exception(
                    Unavailable("the event log can't be written", reason="LOG_UNAVAILABLE")
                )
        self._waiting.clear()
        self._waiting_events = 0

    def _recovered(self) -> None:
        """Forgets the events that did not reach the log."""
        self._failed = False
        self.synced = end = self._log.next_arrival
        for event_id in [i for i, (_, arrival) in self._recent.items() if arrival >= end]:
            del self._recent[event_id]

    def _sort_out(self, group: Sequence[_Waiting]) -> tuple[list[Receipt], list[bytes]]:
        """Receipts as they will be once the payloads, of the events that are new, are written."""
        receipts: list[Receipt] = []
        payloads: list[bytes] = []
        # Arrival times never go back, whatever the clock does.
        self._now_ms = now_ms = max(self._now_ms, self._clock_ms())
        days = remembered_days(now_ms)
        with self._store.read() as view:
            for request in group:
                receipt = Receipt()
                receipts.append(receipt)
                self._count_gap(request)
                for event in request.events:
                    known = self._known(view, event.event_id, days)
                    if known is None:
                        arrival = self._log.next_arrival + len(payloads)
                        sequence = None
                        if request.first_sequence is not None:
                            sequence = request.first_sequence + event.index
                        payloads.append(event.payload(arrival, now_ms, request.producer, sequence))
                        self._recent[event.event_id] = (event.fingerprint, arrival)
                        receipt.accepted += 1
                    elif known == event.fingerprint:
                        receipt.duplicates += 1
                    else:
                        receipt.refused.append(_conflict(event))
        return receipts, payloads

    def _known(self, view: StoreView, event_id: str, days: Sequence[int]) -> bytes | None:
        recent = self._recent.get(event_id)
        return recent[0] if recent is not None else view.fingerprint(event_id, days)

    def _count_gap(self, request: _Waiting) -> None:
        first = request.first_sequence
        if first is None or not request.events:
            return
        expected = self._next_sequences.get(request.producer, first)
        if first > expected:
            self._gaps(request.producer, first - expected)
        following = first + request.events[-1].index + 1
        self._next_sequences[request.producer] = max(expected, following)


def _conflict(event: NewEvent) -> RefusedEvent:
    error = FailedPrecondition(
        "event_id: another event was stored under this id", reason="EVENT_ID_CONFLICT"
    )
    return RefusedEvent(event.index, event.event_id, error)


def system_clock_ms() -> int:
    """Epoch milliseconds by the system's clock."""
    return time.time_ns() // 1_000_000
