"""Takes events into the log: decides which are new, writes them, answers when they are on disk.

One task owns the log. While one group of requests is being synced, the next gathers: the cost of a
sync is shared by all that wait (group commit).

A write that fails is tried anew with the next request: a full disk may have room then. After a sync
that failed nobody knows what is on disk. The owner takes nothing more then and says so by
``broken``: the service has to end, and the log to be opened anew.

A store that is shared with other replicas is asked for duplicates once for a whole group. Whether
it answers or not, events are taken: the log is what counts, and duplicates that were not seen here
are found when it is applied.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from errno import EDQUOT, ENOSPC

from services.common.courtesy import Courtesy
from services.common.errors import (
    FailedPrecondition,
    InvalidArgument,
    Overloaded,
    PodiumError,
    Unavailable,
)
from services.common.event_log import SyncFailed
from services.feature.definitions import remembered_days
from services.feature.ingest.types import (
    DEFAULT_LIMITS,
    IngestLimits,
    NewEvent,
    Receipt,
    RecordLog,
    RefusedEvent,
)
from services.feature.store.protocol import ReadableStore

GROUP_EVENTS = 4_000
"""Requests are written together until they have this many events."""

OVERLOAD_RETRY_MS = 250
FULL_DISK_RETRY_MS = 1_000
LOST_STORE_S = 1.0
"""How long a shared store that did not answer is not asked again."""

_EVENTS_A_SLICE = 16

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Waiting:
    events: Sequence[NewEvent]
    producer: str
    first_sequence: int | None
    answer: asyncio.Future[Receipt]


class Ingestor:
    """Owner of the log. ``start`` before the first ``ingest``, ``close`` after the last.

    ``gaps`` is called with (producer, number of missing events) when a producer's numbers jump;
    ``on_synced`` with the log position whenever more is on disk. ``courtesy`` knows the calls that
    must not wait for long work.
    """

    def __init__(
        self,
        log: RecordLog,
        store: ReadableStore,
        clock_ms: Callable[[], int],
        *,
        gaps: Callable[[str, int], None],
        on_synced: Callable[[int], None] = lambda _: None,
        courtesy: Courtesy | None = None,
        limits: IngestLimits = DEFAULT_LIMITS,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._log = log
        self._store = store
        self._clock_ms = clock_ms
        self._gaps = gaps
        self._on_synced = on_synced
        self._courtesy = courtesy or Courtesy()
        self._limits = limits
        self._monotonic_s = monotonic_s
        self._store_lost_until_s = 0.0
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
        # An event is sought in the store first, in ``_recent`` then: it must not leave meanwhile.
        self._looking = False
        self._now_ms = 0
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="log")
        self._task: asyncio.Task[None] | None = None
        self.synced = log.next_arrival
        """Log position up to which everything is on disk."""
        self.broken = asyncio.Event()
        """Set once a sync failed: nothing is taken any more."""

    @property
    def unapplied(self) -> int:
        """Records in the log that the store does not hold yet."""
        return max(0, self.synced - self._applied)

    def start(self) -> None:
        """Starts the owner's task. The store must have caught up with the log."""
        with self._store.read() as view:
            self._next_sequences = dict(view.next_sequences())
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
        if not self._looking:
            self._forget_applied()

    async def ingest(
        self, events: Sequence[NewEvent], producer: str, first_sequence: int | None
    ) -> Receipt:
        """Stores the events that are new and returns once they are on disk; see ``submit``."""
        return await self.submit(events, producer, first_sequence)

    def submit(
        self, events: Sequence[NewEvent], producer: str, first_sequence: int | None
    ) -> asyncio.Future[Receipt]:
        """Hands events in, to be stored after those handed in before.

        ``first_sequence`` numbers the producer's events of the request from index 0. Raises
        ``Overloaded`` when too much waits or is unapplied. The future fails with ``Overloaded``
        (DISK_FULL) while the disk is full and with ``Unavailable`` when the log can't be written:
        some of the events may be in it nevertheless, and count as duplicates later. Cancelling it
        leaves what is not begun yet undone.
        """
        if self._closing or self.broken.is_set():
            raise Unavailable("the event log takes no events now", reason="LOG_UNAVAILABLE")
        if self.unapplied > self._limits.max_unapplied_events:
            raise Overloaded(
                f"{self.unapplied} events wait to be applied",
                retry_after_ms=OVERLOAD_RETRY_MS,
                reason="APPLY_BACKLOG",
            )
        if self._waiting_events + len(events) > self._limits.max_waiting_events:
            raise Overloaded(
                f"{self._waiting_events} events wait to be written",
                retry_after_ms=OVERLOAD_RETRY_MS,
                reason="INGEST_BACKLOG",
            )
        answer: asyncio.Future[Receipt] = asyncio.get_running_loop().create_future()
        self._waiting.append(_Waiting(events, producer, first_sequence, answer))
        self._waiting_events += len(events)
        self._wake.set()
        return answer

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wake.wait()
            group = self._next_group()
            if not self._waiting:
                self._wake.clear()
            if group:
                try:
                    if self._failed:
                        await loop.run_in_executor(self._executor, self._log.recover)
                        self._recovered()
                    self._looking = True
                    receipts, payloads = await self._sort_out(group)
                    if payloads:
                        await loop.run_in_executor(self._executor, self._write, payloads)
                        self.synced = self._log.next_arrival
                        self._on_synced(self.synced)
                        self._complained = False
                except Exception as error:
                    self._fail(group, error)
                else:
                    for request, receipt in zip(group, receipts, strict=True):
                        receipt.log_position = self.synced
                        with suppress(asyncio.InvalidStateError):
                            request.answer.set_result(receipt)
                finally:
                    self._looking = False
                    self._forget_applied()
            if self._closing and not self._waiting:
                return

    def _next_group(self) -> list[_Waiting]:
        """What is written together; a caller who has gone gets no work done."""
        group: list[_Waiting] = []
        size = 0
        while self._waiting and size < GROUP_EVENTS:
            request = self._waiting.popleft()
            self._waiting_events -= len(request.events)
            if not request.answer.done():
                group.append(request)
                size += len(request.events)
        return group

    def _write(self, payloads: Sequence[bytes]) -> None:
        self._log.append(payloads)
        self._log.sync()

    def _fail(self, group: Sequence[_Waiting], error: Exception) -> None:
        """Answers everybody. One line tells of it until a write succeeds again."""
        self._failed = True
        if isinstance(error, SyncFailed):
            self.broken.set()
        if not self._complained:
            self._complained = True
            _logger.critical("the event log can't be written", exc_info=error)
        for request in (*group, *self._waiting):
            if not request.answer.done():
                request.answer.set_exception(_told(error))
        self._waiting.clear()
        self._waiting_events = 0

    def _forget_applied(self) -> None:
        passed = []
        for event_id, (_, arrival) in self._recent.items():
            if arrival >= self._applied:
                break
            passed.append(event_id)
        for event_id in passed:
            del self._recent[event_id]

    def _recovered(self) -> None:
        """Forgets the events that did not reach the log."""
        self._failed = False
        self.synced = end = self._log.next_arrival
        self._on_synced(end)
        for event_id in [i for i, (_, arrival) in self._recent.items() if arrival >= end]:
            del self._recent[event_id]

    async def _sort_out(self, group: Sequence[_Waiting]) -> tuple[list[Receipt], list[bytes]]:
        """Receipts as they will be once the payloads are written. Others get their turn on the
        event loop in between."""
        receipts: list[Receipt] = []
        payloads: list[bytes] = []
        # Arrival times never go back, whatever the clock does.
        self._now_ms = now_ms = max(self._now_ms, self._clock_ms())
        days = remembered_days(now_ms)
        if self._store.shared:
            event_ids = [event.event_id for request in group for event in request.events]
            in_store = await asyncio.get_running_loop().run_in_executor(
                self._executor, self._look_up, event_ids, days
            )
        for request in group:
            receipt = Receipt()
            receipts.append(receipt)
            self._count_gap(request)
            for start in range(0, len(request.events), _EVENTS_A_SLICE):
                events = request.events[start : start + _EVENTS_A_SLICE]
                if not self._store.shared:
                    in_store = self._look_up([event.event_id for event in events], days)
                for event in events:
                    recent = self._recent.get(event.event_id)
                    known = recent[0] if recent is not None else in_store.get(event.event_id)
                    self._store_event(request, receipt, event, known, payloads)
                await self._courtesy.let_pass()
        return receipts, payloads

    def _look_up(self, event_ids: Sequence[str], days: Sequence[int]) -> Mapping[str, bytes]:
        """Fingerprints that the store knows. While a shared one can't be reached nothing is known:
        duplicates are then found when the log is applied."""
        if self._monotonic_s() < self._store_lost_until_s:
            return {}
        try:
            with self._store.read() as view:
                return view.fingerprints(event_ids, days)
        except Unavailable as error:
            if not self._store.shared:
                raise
            _logger.warning("taking events without looking for duplicates: %s", error)
            self._store_lost_until_s = self._monotonic_s() + LOST_STORE_S
            return {}

    def _store_event(
        self,
        request: _Waiting,
        receipt: Receipt,
        event: NewEvent,
        known: bytes | None,
        payloads: list[bytes],
    ) -> None:
        if known is not None and not event.is_known_by(known):
            receipt.refused.append(_conflict(event))
            return
        arrival = self._log.next_arrival + len(payloads)
        sequence = None
        if request.first_sequence is not None:
            sequence = request.first_sequence + event.index
        try:
            payload = event.payload(
                arrival, self._now_ms, request.producer, sequence, duplicate=known is not None
            )
        except ValueError as error:
            _logger.error("an event can't be written as a record", exc_info=error)
            receipt.refused.append(_unstorable(event))
            return
        payloads.append(payload)
        if known is not None:
            receipt.duplicates += 1
            return
        self._recent[event.event_id] = (event.fingerprint, arrival)
        receipt.accepted += 1
        receipt.too_late += event.too_late

    def _count_gap(self, request: _Waiting) -> None:
        first = request.first_sequence
        if first is None or not request.events:
            return
        expected = self._next_sequences.get(request.producer, first)
        if first > expected:
            self._gaps(request.producer, first - expected)
        following = first + request.events[-1].index + 1
        self._next_sequences[request.producer] = max(expected, following)


def _told(error: Exception) -> PodiumError:
    """What callers are told of a failure to write."""
    if isinstance(error, OSError) and error.errno in (ENOSPC, EDQUOT):
        return Overloaded(
            "the disk of the event log is full",
            retry_after_ms=FULL_DISK_RETRY_MS,
            reason="DISK_FULL",
        )
    return Unavailable("the event log can't be written", reason="LOG_UNAVAILABLE")


def _conflict(event: NewEvent) -> RefusedEvent:
    error = FailedPrecondition(
        "event_id: another event was stored under this id", reason="EVENT_ID_CONFLICT"
    )
    return RefusedEvent(event.index, event.event_id, error)


def _unstorable(event: NewEvent) -> RefusedEvent:
    error = InvalidArgument("the event can't be stored", reason="EVENT_UNSTORABLE")
    return RefusedEvent(event.index, event.event_id, error)
