"""The spool: events a service reports itself, kept on local disk until the event log has them.

``append`` returns after a ``write``, so that what was reported survives the process. A thread
ships the events to the feature service's Ingest in order and resumes after the last acknowledged
one. Events are numbered in the producer's own stream; what is lost shows as a gap there.

On disk: a log of ``LoggedEvent`` (ids are pseudonyms), the name of the stream in ``producer``,
and the number of the first event that is not acknowledged yet in ``acknowledged``.
"""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry, Counter, Gauge

from podium.event.v1 import event_pb2
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.errors import InvalidArgument, PodiumError, Unavailable
from services.common.event_log import LogCorrupt, LogReader, LogWriter, list_segments
from services.common.ids import new_event_id
from services.common.pseudonym import Pseudonymiser
from services.common.status import error_from_rpc

BATCH_EVENTS = 500
BATCH_BYTES = 2 << 20
FIRST_BACKOFF_S = 0.05
MAX_BACKOFF_S = 5.0
_IDLE_WAIT_S = 0.5
_STREAM_NAME = re.compile(rb"[!-~]{1,128}")

Send = Callable[[list[event_pb2.Event], int], None]

_logger = logging.getLogger(__name__)


class Spool:
    """The writing end. Thread-safe; one process a directory.

    ``producer`` is the stream's name: the given one and an id made with the directory, since a
    new directory numbers from 0 again.
    """

    def __init__(
        self,
        directory: Path,
        producer: str,
        names: Pseudonymiser,
        *,
        segment_bytes: int = 8 << 20,
        max_bytes: int = 1 << 30,
    ) -> None:
        """Beyond ``max_bytes`` the oldest events are given up and counted as a gap.

        Raises ``FailedPrecondition`` (LOG_LOCKED) when another process has the directory.
        """
        directory.mkdir(parents=True, exist_ok=True)
        self.directory = directory
        self.names = names
        self.written = threading.Event()
        self._segment_bytes = segment_bytes
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._writer: LogWriter | None = self._open()
        self.producer = self._stream_name(producer)
        self._next_prune = self._writer.next_arrival if self._writer else 0

    @property
    def next_sequence(self) -> int:
        """Number the next event gets."""
        with self._lock:
            return self._ready_writer().next_arrival

    def append(self, events: Sequence[event_pb2.Event]) -> None:
        """Writes events with raw ids as events with pseudonyms.

        Raises ``Unavailable`` (SPOOL_WRITE_FAILED) when they could not be written; a later call
        tries anew.
        """
        with self._lock:
            try:
                writer = self._ready_writer()
                first = writer.next_arrival
                writer.append([self._sealed(e, first + i) for i, e in enumerate(events)])
                writer.flush()
            except OSError as error:
                self._abandon_writer()
                raise Unavailable(
                    f"the spool could not be written: {error.strerror}",
                    reason="SPOOL_WRITE_FAILED",
                ) from error
            if writer.next_arrival >= self._next_prune:
                self._next_prune = writer.next_arrival + 1_000
                self._prune()
        self.written.set()

    def acknowledged(self) -> int:
        """Number of the first event that is not acknowledged.

        Where that can't be read, the first one there is: the log knows what it has already.
        """
        path = self.directory / "acknowledged"
        try:
            return int(path.read_bytes())
        except FileNotFoundError:
            return 0
        except ValueError:
            segments = list_segments(self.directory)
            first = segments[0].first_arrival if segments else 0
            _logger.error("%s is damaged: shipping again from %d", path, first)
            return first

    def acknowledge(self, next_sequence: int) -> None:
        """Remembers that all events before ``next_sequence`` are in the log; frees their files."""
        _replace(self.directory / "acknowledged", str(next_sequence))
        with self._lock:
            for segment, following in pairwise(list_segments(self.directory)):
                if following.first_arrival <= next_sequence:
                    segment.path.unlink()

    def close(self) -> None:
        """Frees the directory."""
        with self._lock:
            if self._writer is not None:
                self._writer.close()

    def _open(self) -> LogWriter:
        return LogWriter(
            self.directory,
            segment_bytes=self._segment_bytes,
            durable=False,
            at_least=self.acknowledged(),
        )

    def _ready_writer(self) -> LogWriter:
        if self._writer is None:
            self._writer = self._open()
        return self._writer

    def _abandon_writer(self) -> None:
        """Closes a writer that failed; opening the next one cuts what it left half-written."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def _sealed(self, event: event_pb2.Event, sequence: int) -> bytes:
        logged = event_pb2.LoggedEvent(event=event, producer=self.producer, sequence=sequence)
        if event.HasField("actor"):
            actor = logged.event.actor
            actor.user_id = self.names.encrypt(actor.user_id)
            actor.device_id = self.names.encrypt(actor.device_id)
        return logged.SerializeToString()

    def _prune(self) -> None:
        segments = list_segments(self.directory)
        total = sum(segment.path.stat().st_size for segment in segments)
        for segment in segments[:-1]:
            if total <= self._max_bytes:
                return
            total -= segment.path.stat().st_size
            segment.path.unlink()
            _logger.error("the spool is full: gave up %s", segment.path)

    def _stream_name(self, producer: str) -> str:
        path = self.directory / "producer"
        name = path.read_bytes() if path.exists() else b""
        if not _STREAM_NAME.fullmatch(name):
            # None yet, or a damaged one, which the log would refuse along with every event.
            name = f"{producer}-{new_event_id()}".encode()
            _replace(path, name.decode())
        return name.decode()


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
        self.gaps = Counter(
            "podium_spool_gaps", "Events lost before they were shipped.", registry=registry
        )
        self.lag = Gauge("podium_spool_lag", "Events waiting to be shipped.", registry=registry)


class SpoolShipper:
    """Ships a spool from a thread of its own, in order, at least once, with backoff.

    ``send`` gets events with raw ids and the number of the first; when it returns they count as
    taken. It raises ``InvalidArgument`` for a batch that will never be taken (counted, given up)
    and any other ``PodiumError`` for one to try again.
    """

    def __init__(self, spool: Spool, send: Send, metrics: SpoolMetrics) -> None:
        self._spool = spool
        self._send = send
        self._metrics = metrics
        self._stop = threading.Event()
        self._give_up_at_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="spool-shipper", daemon=True)

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
        reader = LogReader(self._spool.directory, self._spool.acknowledged())
        backoff_s = FIRST_BACKOFF_S
        while True:
            self._spool.written.clear()
            first = reader.next_arrival
            try:
                reader, batch = self._read(reader)
                self._ship(batch)
                self._metrics.lag.set(self._spool.next_sequence - reader.next_arrival)
            except (PodiumError, OSError) as error:
                self._metrics.failures.inc()
                _logger.warning("shipping the spool failed: %s", error)
                reader = LogReader(self._spool.directory, self._spool.acknowledged())
                if self._given_up():
                    return
                self._wait(backoff_s)
                backoff_s = min(2 * backoff_s, MAX_BACKOFF_S)
                continue
            backoff_s = FIRST_BACKOFF_S
            if reader.next_arrival == first:
                if self._stop.is_set():
                    return
                self._spool.written.wait(_IDLE_WAIT_S)

    def _read(self, reader: LogReader) -> tuple[LogReader, list[tuple[int, bytes]]]:
        """What is there; where records are gone or bad, goes on at the next segment."""
        segments = list_segments(self._spool.directory)
        if segments and reader.next_arrival < segments[0].first_arrival:
            return self._skip(reader, segments[0].first_arrival), []
        try:
            return reader, reader.read(BATCH_EVENTS)
        except LogCorrupt as error:
            _logger.error("%s", error)
            later = [s.first_arrival for s in segments if s.first_arrival > reader.next_arrival]
            return self._skip(reader, later[0]), []

    def _skip(self, reader: LogReader, to_sequence: int) -> LogReader:
        lost = to_sequence - reader.next_arrival
        self._metrics.gaps.inc(lost)
        _logger.error("%d spooled events are lost before %d", lost, to_sequence)
        self._spool.acknowledge(to_sequence)
        return LogReader(self._spool.directory, to_sequence)

    def _ship(self, records: list[tuple[int, bytes]]) -> None:
        for first, payloads in _by_size(records):
            try:
                self._send([self._opened(payload) for payload in payloads], first)
                self._metrics.shipped.inc(len(payloads))
            except InvalidArgument as error:
                self._metrics.refused.inc(len(payloads))
                _logger.error("events from %d were refused: %s", first, error)
            self._spool.acknowledge(first + len(payloads))

    def _opened(self, payload: bytes) -> event_pb2.Event:
        event = event_pb2.LoggedEvent.FromString(payload).event
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
    """Ships to FeatureService.Ingest; events it rejects one by one are counted and logged."""
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


def _replace(path: Path, text: str) -> None:
    """Writes a small file whole or not at all; unsynced, a power loss may leave it empty."""
    staged = path.with_suffix(".new")
    staged.write_text(text)
    os.replace(staged, path)  # noqa: PTH105
