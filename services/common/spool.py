"""The spool: events a service reports itself, kept on local disk until the event log has them.

``append`` returns after a ``write``, so that what was reported survives the process. A thread
ships the events to the feature service's Ingest in order and resumes after the last acknowledged
one. Events are numbered in the producer's own stream; what is lost shows as a gap there.

On disk: a log of ``LoggedEvent`` (ids are pseudonyms), the name of the stream in ``producer``,
and the number of the first event that is not acknowledged yet in ``acknowledged``.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

from podium.event.v1 import event_pb2
from services.common.errors import Unavailable
from services.common.event_log import LogWriter, list_segments
from services.common.ids import new_event_id
from services.common.pseudonym import Pseudonymiser

ACKNOWLEDGED_FILE = "acknowledged"
_STREAM_NAME = re.compile(rb"[!-~]{1,128}")

# What stands before the event in an encoded LoggedEvent: its number, and that a length follows.
_EVENT_TAG = bytes([event_pb2.LoggedEvent.EVENT_FIELD_NUMBER << 3 | 2])

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
        self._acknowledged = self._read_acknowledged()
        writer = self._open()
        self._writer: LogWriter | None = writer
        self._end = self._next_prune = writer.next_arrival
        self.producer = self._stream_name(producer)

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
            self._end = writer.next_arrival
            if self._end >= self._next_prune:
                self._next_prune = self._end + 1_000
                with _removal_logged():
                    self._prune()
        self.written.set()

    def acknowledged(self) -> int:
        """Number of the first event that is not acknowledged."""
        return self._acknowledged

    def waiting(self) -> int:
        """Number of events that are not acknowledged. Touches no file and never raises."""
        return max(0, self._end - self._acknowledged)

    def acknowledge(self, next_sequence: int) -> None:
        """Remembers that all events before ``next_sequence`` are in the log; frees their files.

        Raises ``OSError`` when that could not be remembered; files that stay are only logged.
        """
        _replace(self.directory / ACKNOWLEDGED_FILE, str(next_sequence))
        self._acknowledged = next_sequence
        with self._lock, _removal_logged():
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
            at_least=self._acknowledged,
        )

    def _read_acknowledged(self) -> int:
        """What was remembered; the first event there is where that is damaged.

        Shipping those again does no harm: the log knows what it has already.
        """
        path = self.directory / ACKNOWLEDGED_FILE
        try:
            return int(path.read_bytes())
        except FileNotFoundError:
            return 0
        except ValueError:
            segments = list_segments(self.directory)
            first = segments[0].first_arrival if segments else 0
            _logger.error("%s is damaged: shipping again from %d", path, first)
            return first

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
        """A ``LoggedEvent``, put together of its encoded parts: as a field of another message the
        event would be encoded, decoded and encoded again."""
        encoded = self._with_pseudonyms(event)
        rest = event_pb2.LoggedEvent(producer=self.producer, sequence=sequence)
        return b"".join((_EVENT_TAG, _varint(len(encoded)), encoded, rest.SerializeToString()))

    def _with_pseudonyms(self, event: event_pb2.Event) -> bytes:
        if not event.HasField("actor"):
            return event.SerializeToString()
        actor = event.actor
        user_id, device_id = actor.user_id, actor.device_id
        try:
            actor.user_id = self.names.encrypt(user_id)
            actor.device_id = self.names.encrypt(device_id)
            return event.SerializeToString()
        finally:
            actor.user_id, actor.device_id = user_id, device_id

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


@contextmanager
def _removal_logged() -> Iterator[None]:
    """Logs an ``OSError``: a file that nobody needs must not fail a call that did its work."""
    try:
        yield
    except OSError as error:
        _logger.error("old files of the spool could not be removed: %s", error)


def _replace(path: Path, text: str) -> None:
    """Writes a small file whole or not at all; unsynced, a power loss may leave it empty."""
    staged = path.with_suffix(".new")
    staged.write_text(text)
    staged.replace(path)


def _varint(number: int) -> bytes:
    """A number from 0 on as messages carry lengths: seven bits a byte, the lowest first.

    https://protobuf.dev/programming-guides/encoding/#varints
    """
    found = bytearray()
    while number > 127:
        found.append(number & 127 | 128)
        number >>= 7
    found.append(number)
    return bytes(found)
