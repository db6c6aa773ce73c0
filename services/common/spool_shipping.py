"""Ships a spool to the event log: in order, at least once, what is lost counted."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator

import grpc
from google.protobuf.message import DecodeError
from prometheus_client import CollectorRegistry, Counter, Gauge

from podium.event.v1 import event_pb2
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.errors import InvalidArgument, Overloaded, PodiumError
from services.common.event_log import LogCorrupt, LogReader, list_segments
from services.common.spool import Spool
from services.common.status import error_from_rpc

BATCH_EVENTS = 500
BATCH_BYTES = 2 << 20
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 5.0
_IDLE_WAIT_S = 0.5
GATHER_S = 0.1
"""Events that come one after another go out together: a call for each would cost the process that
answers more than the events do."""
# gRPC itself refuses a message above the receiver's limit. It gives no reason of Podium's, so that
# ``error_from_rpc`` names the status; only the text tells size from what passes, e.g. a quota.
_GRPC_EXHAUSTED = "RESOURCE_EXHAUSTED"
_GRPC_TOO_LARGE = "larger than max"
_ID_CONFLICT = "EVENT_ID_CONFLICT"

Send = Callable[[list[event_pb2.Event], int], None]

_logger = logging.getLogger(__name__)


class SpoolMetrics:
    """How shipping goes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.shipped = Counter("podium_spool_shipped", "Events shipped.", registry=registry)
        self.failures = Counter(
            "podium_spool_failures", "Attempts to ship that failed.", registry=registry
        )
        self.refused = Counter(
            "podium_spool_refused", "Events the log would not take.", registry=registry
        )
        self.repeated = Counter(
            "podium_spool_repeated",
            "Events of which the log had another account already: answers repeated elsewhere.",
            registry=registry,
        )
        self.gaps = Counter(
            "podium_spool_gaps", "Events lost before they were shipped.", registry=registry
        )
        self.lag = Gauge("podium_spool_lag", "Events waiting to be shipped.", registry=registry)


class SpoolShipper:
    """Ships a spool from a thread of its own, in order, at least once, with backoff.

    ``send`` gets events with raw ids and the number of the first; when it returns they count as
    taken. It raises ``InvalidArgument`` for a batch that will never be taken (counted, given up),
    ``Overloaded`` without a reason of Podium's for one to try in halves, and anything else for one
    to try again.

    An event that can never be read is counted as refused and given up by itself. One whose key is
    missing holds up what follows it until the key is back.
    """

    def __init__(self, spool: Spool, send: Send, metrics: SpoolMetrics) -> None:
        self._spool = spool
        self._send = send
        self._metrics = metrics
        self._reader: LogReader | None = None
        self._stop = threading.Event()
        self._give_up_at_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="spool-shipper", daemon=True)
        metrics.lag.set_function(spool.waiting)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def close(self, flush_seconds: float = 5.0) -> None:
        """Ships what is left for at most ``flush_seconds``, then stops. The rest stays on disk.

        A call under way is waited for; without ``start`` nothing is shipped.
        """
        self._give_up_at_s = time.monotonic() + flush_seconds
        self._stop.set()
        self._spool.written.set()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        backoff_s = FIRST_BACKOFF_S
        complaint = ""
        while True:
            self._spool.written.clear()
            try:
                shipped = self._ship_next()
            except Exception as error:
                # Nobody starts this thread again: whatever went wrong is tried anew.
                self._metrics.failures.inc()
                if str(error) != complaint:
                    complaint = str(error)
                    _logger.warning(
                        "shipping the spool failed: %s",
                        error,
                        exc_info=not isinstance(error, PodiumError | OSError),
                    )
                self._reader = None
                if self._given_up():
                    return
                self._wait(backoff_s)
                backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
                continue
            backoff_s = FIRST_BACKOFF_S
            complaint = ""
            if self._given_up():
                return
            if not shipped:
                if self._stop.is_set():
                    return
                self._spool.written.wait(_IDLE_WAIT_S)
            elif self._spool.waiting() < BATCH_EVENTS:
                self._stop.wait(GATHER_S)

    def _ship_next(self) -> bool:
        """Ships the next events or skips a gap; False when there was nothing to do."""
        before = self._reader or LogReader(self._spool.directory, self._spool.acknowledged())
        first = before.next_arrival
        self._reader, records = self._read(before)
        self._ship(records)
        return self._reader is not before or self._reader.next_arrival > first

    def _read(self, reader: LogReader) -> tuple[LogReader, list[tuple[int, bytes]]]:
        """What is there; where records are gone or bad, goes on at the next segment."""
        segments = list_segments(self._spool.directory)
        if segments and reader.next_arrival < segments[0].first_arrival:
            return self._skip(reader, segments[0].first_arrival), []
        try:
            return reader, reader.read(BATCH_EVENTS)
        except FileNotFoundError:
            # A segment read to its end is freed when its last event is acknowledged; if the next
            # one began only then, the reader still stands in it.
            return LogReader(self._spool.directory, reader.next_arrival), []
        except LogCorrupt as error:
            # Listed anew: the segment that makes the record a bad one may have come meanwhile.
            starts = [segment.first_arrival for segment in list_segments(self._spool.directory)]
            later = [start for start in starts if start > reader.next_arrival]
            if not later:
                raise
            _logger.error("%s", error)
            return self._skip(reader, later[0]), []

    def _skip(self, reader: LogReader, to_sequence: int) -> LogReader:
        lost = to_sequence - reader.next_arrival
        self._spool.acknowledge(to_sequence)
        self._metrics.gaps.inc(lost)
        _logger.error("%d spooled events are lost before %d", lost, to_sequence)
        return LogReader(self._spool.directory, to_sequence)

    def _ship(self, records: list[tuple[int, bytes]]) -> None:
        """Ships consecutive records; those before one that can't be read go out first."""
        for first, payloads in _by_size(records):
            events: list[event_pb2.Event] = []
            for sequence, payload in enumerate(payloads, first):
                try:
                    events.append(self._opened(payload))
                except PodiumError as error:
                    self._deliver(sequence - len(events), events)
                    if not isinstance(error, InvalidArgument):
                        raise
                    events = []
                    self._give_up(sequence, 1, error)
            self._deliver(first + len(payloads) - len(events), events)

    def _deliver(self, first: int, events: list[event_pb2.Event]) -> None:
        """Sends and acknowledges events, in halves where gRPC finds them too large together."""
        if not events:
            return
        try:
            self._send(events, first)
        except InvalidArgument as error:
            self._give_up(first, len(events), error)
        except Overloaded as error:
            if error.reason != _GRPC_EXHAUSTED:
                raise
            if len(events) > 1:
                self._metrics.failures.inc()
                _logger.info("%d events from %d go out in halves: %s", len(events), first, error)
                middle = len(events) // 2
                self._deliver(first, events[:middle])
                self._deliver(first + middle, events[middle:])
            elif _GRPC_TOO_LARGE in error.message:
                self._give_up(first, 1, error)
            else:
                raise
        else:
            self._metrics.shipped.inc(len(events))
            self._spool.acknowledge(first + len(events))

    def _give_up(self, first: int, count: int, error: PodiumError) -> None:
        self._spool.acknowledge(first + count)
        self._metrics.refused.inc(count)
        _logger.error("events %d to %d were refused: %s", first, first + count - 1, error)

    def _opened(self, payload: bytes) -> event_pb2.Event:
        """The event with raw ids.

        Raises ``InvalidArgument`` for what can never be read, ``FailedPrecondition`` where a key
        is missing.
        """
        try:
            event = event_pb2.LoggedEvent.FromString(payload).event
        except DecodeError as error:
            raise InvalidArgument("not a logged event", reason="BAD_RECORD") from error
        if event.HasField("actor"):
            event.actor.user_id = self._spool.names.decrypt(event.actor.user_id)
            event.actor.device_id = self._spool.names.decrypt(event.actor.device_id)
        return event

    def _given_up(self) -> bool:
        return self._give_up_at_s is not None and time.monotonic() >= self._give_up_at_s

    def _wait(self, seconds: float) -> None:
        """Waits before the next attempt; shortly once stopping."""
        if self._stop.is_set():
            time.sleep(FIRST_BACKOFF_S)
        else:
            self._stop.wait(seconds)


def ingest_sender(
    channel: grpc.Channel, producer: str, metrics: SpoolMetrics, *, timeout_s: float = 5.0
) -> Send:
    """Ships to FeatureService.Ingest; events it rejects one by one are counted and logged.

    An id that it knows with another content is that of an answer that another replica repeated: the
    first account holds.
    """
    stub = feature_pb2_grpc.FeatureServiceStub(channel)

    def send(events: list[event_pb2.Event], first_sequence: int) -> None:
        request = feature_pb2.IngestRequest(
            events=events, producer=producer, first_sequence=first_sequence
        )
        try:
            response = stub.Ingest(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error
        for rejection in response.rejections:
            if rejection.reason == _ID_CONFLICT:
                metrics.repeated.inc()
                continue
            metrics.refused.inc()
            _logger.error("event %s was refused: %s", rejection.event_id, rejection.message)

    return send


def _by_size(records: list[tuple[int, bytes]]) -> Iterator[tuple[int, list[bytes]]]:
    """Splits consecutive records into batches of at most ``BATCH_BYTES``, one record at least."""
    batch: list[bytes] = []
    size, first = 0, 0
    for sequence, payload in records:
        if batch and size + len(payload) > BATCH_BYTES:
            yield first, batch
            batch, size = [], 0
        if not batch:
            first = sequence
        batch.append(payload)
        size += len(payload)
    if batch:
        yield first, batch
