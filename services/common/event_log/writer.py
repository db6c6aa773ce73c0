"""The writer of an event log."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from services.common.errors import FailedPrecondition, Unavailable
from services.common.event_log.damage import Damage, LogCorrupt, Salvage
from services.common.event_log.format import (
    HEADER,
    MAX_PAYLOAD_BYTES,
    TORN_SUFFIX,
    WRITER_LOCK,
    Segment,
    frame,
    list_segments,
    resume,
    segment_path,
    split_frames,
    tells_nothing,
)
from services.common.files import LOCAL_FILES, Files, write_all, write_whole

_BUFFER_BYTES = 1 << 20

_logger = logging.getLogger(__name__)


class SyncFailed(Unavailable):
    """A sync failed: what is on disk is not known until the log is opened anew."""

    reason = "LOG_SYNC_FAILED"


class LogWriter:
    """The one writer of a log directory. Not thread-safe: it has one owner.

    Opening takes the directory's lock and cuts a torn tail off the last segment (what is cut is
    kept beside it, with the suffix ``.torn``). Raises ``FailedPrecondition`` (LOG_LOCKED) while
    another writer is open. Where sound records follow a bad one it goes on in a new segment if
    there is a ``salvage``; else it raises ``LogCorrupt``: cutting them off would lose what was
    acknowledged. After a failed write the writer refuses to go on: ``recover`` it, or open a new
    one.

    Without ``durable`` nothing waits for the disk: what was flushed survives the process, not the
    machine, and records behind a bad one are cut off with it. ``at_least``: the next arrival is not
    below it, even where records were lost. ``new_segment``: nothing is added to a segment that is
    there already.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = 64 << 20,
        durable: bool = True,
        at_least: int = 0,
        salvage: Salvage | None = None,
        new_segment: bool = False,
        files: Files = LOCAL_FILES,
    ) -> None:
        files.make_directory(directory)
        self._directory = directory
        self._files = files
        self._durable = durable
        self._segment_bytes = segment_bytes
        self._salvage = salvage
        self._buffer = bytearray()
        self._failed = False
        self._sync_failed = False
        self._closed = False
        self._lock = _lock(files, directory)
        try:
            segments = list_segments(directory, files)
            last = segments[-1] if segments else Segment(0, segment_path(directory, 0))
            self.next_arrival, self._size, damaged = self._examine(last)
            closes_last = damaged or (new_segment and self._size > 0)
            if self.next_arrival < at_least or closes_last:
                # What follows damage goes into a segment of its own, named by its arrival.
                self.next_arrival, self._size = max(self.next_arrival, at_least), 0
                last = Segment(self.next_arrival, segment_path(directory, self.next_arrival))
            if closes_last:
                self._sync_closed(segments[-1].path)
            self._path = last.path
            self._synced_size = self._size
            self._handle = self._open(last.path)
            # A writer that was killed may have left behind what it had not synced yet.
            self._sync()
        except BaseException:
            files.close(self._lock)
            raise

    def append(self, payloads: Sequence[bytes]) -> int:
        """Adds records; durable only after ``sync``. Returns the arrival of the first."""
        self._check_usable()
        first = self.next_arrival
        for payload in payloads:
            if not 0 < len(payload) <= MAX_PAYLOAD_BYTES:
                raise ValueError(f"a record has {len(payload)} bytes of 1 to {MAX_PAYLOAD_BYTES}")
        for payload in payloads:
            pending = self._size + len(self._buffer)
            if pending and pending + len(payload) + HEADER.size > self._segment_bytes:
                self._roll()
            self._buffer += frame(payload)
            self.next_arrival += 1
            if len(self._buffer) >= _BUFFER_BYTES:
                self._flush()
        return first

    def flush(self) -> None:
        """Writes what is buffered: it survives the process from then on, and readers see it."""
        self._check_usable()
        self._flush()

    def sync(self) -> None:
        """Writes what is buffered and, when durable, waits until it is on disk.

        Raises ``OSError`` where writing failed, which ``recover`` may mend, and ``SyncFailed``.
        """
        self._check_usable()
        self._flush()
        self._sync()

    def recover(self) -> None:
        """Makes the writer usable after a write that failed, as it does on a full disk.

        Whole records that reached the file stay and are synced, part of one is cut off, the rest
        is forgotten: ``next_arrival`` is where the log ends then. Without a failure it does
        nothing. Raises ``OSError``, and ``FailedPrecondition`` after a sync that failed.
        """
        if self._closed or self._sync_failed:
            self._check_usable()
        if not self._failed:
            return
        written, end = split_frames(self._files.read(self._path, self._size))
        self._files.truncate(self._handle, self._size + end)
        wanted, _ = split_frames(bytes(self._buffer))
        # A new one: the failure's traceback may still look into the old.
        self._buffer = bytearray()
        self._size += end
        self.next_arrival -= len(wanted) - len(written)
        self._failed = False
        self.sync()

    def close(self) -> None:
        """Syncs and frees the lock; a second call does nothing."""
        if self._closed:
            return
        try:
            if not self._failed:
                self.sync()
        finally:
            self._closed = True
            self._files.close(self._handle)
            self._files.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _examine(self, segment: Segment) -> tuple[int, int, bool]:
        """Arrival after the last sound record of the last segment, its bytes once a torn tail is
        cut off, and whether there is damage before that."""
        arrival, end, damaged = segment.first_arrival, 0, False
        try:
            data = self._files.read(segment.path)
        except FileNotFoundError:
            return arrival, 0, False
        while True:
            payloads, end = split_frames(data, end)
            arrival += len(payloads)
            if end == len(data):
                return arrival, end, damaged
            known = self._salvage.arrival_of if self._salvage is not None else tells_nothing
            further = resume(data, end, arrival, None, known) if self._durable else None
            if further is None:
                self._cut(segment, data, end, arrival)
                return arrival, end, damaged
            if self._salvage is None:
                raise LogCorrupt(
                    f"{segment.path}: record {arrival} at byte {end} is bad, but sound ones "
                    "follow: restore the file from a copy, or cut it there to give them up"
                )
            lost = further.arrival - arrival
            self._salvage.found(
                Damage("bad", segment.path.name, end, further.offset - end, arrival, lost)
            )
            end, arrival, damaged = *further, True

    def _cut(self, segment: Segment, data: bytes, end: int, arrival: int) -> None:
        """Cuts a torn tail off; it is kept beside the segment, where there is room."""
        kept = segment.path.with_name(f"{segment.path.stem}-{end}{TORN_SUFFIX}")
        try:
            write_whole(self._files, kept, data[end:])
        except OSError as error:
            _logger.error("%s can't be written: %s", kept, error)
        self._sync_closed(segment.path, end)
        size = len(data) - end
        if self._salvage is None:
            _logger.warning("cut a torn tail of %d bytes off %s", size, segment.path)
        else:
            torn = Damage("torn", segment.path.name, end, size, arrival, None, kept.name)
            self._salvage.found(torn)

    def _sync_closed(self, path: Path, size: int | None = None) -> None:
        """Syncs a file that is not being written, cut to a size."""
        handle = self._files.open(path)
        try:
            if size is not None:
                self._files.truncate(handle, size)
            self._files.sync(handle)
        finally:
            self._files.close(handle)

    def _open(self, path: Path) -> int:
        handle = self._files.open(path)
        if not self._durable:
            return handle
        try:
            self._files.sync_directory(self._directory)
        except OSError as error:
            self._failed = self._sync_failed = True
            self._files.close(handle)
            raise SyncFailed(f"{self._directory} could not be synced: {error}") from error
        return handle

    def _roll(self) -> None:
        self.sync()
        path = segment_path(self._directory, self.next_arrival)
        try:
            following = self._open(path)
        except OSError:
            self._failed = True
            raise
        self._files.close(self._handle)
        self._path, self._handle, self._size, self._synced_size = path, following, 0, 0

    def _flush(self) -> None:
        try:
            write_all(self._files, self._handle, self._buffer)
        except OSError:
            # Part of a record may be on disk: appending after it would hide what follows.
            self._failed = True
            raise
        self._size += len(self._buffer)
        self._buffer.clear()

    def _sync(self) -> None:
        if self._durable:
            try:
                self._files.sync(self._handle)
            except OSError as error:
                self._failed = self._sync_failed = True
                self._forget_unsynced()
                raise SyncFailed(f"{self._path} could not be synced: {error}") from error
        self._synced_size = self._size

    def _forget_unsynced(self) -> None:
        """Cuts off what may be in the system's memory only. Whoever opens the log next would see it
        there, and a sync that succeeds then would not mean that it is on disk."""
        try:
            self._files.truncate(self._handle, self._synced_size)
        except OSError as error:
            _logger.error("%s can't be cut back: %s", self._path, error)

    def _check_usable(self) -> None:
        if self._closed or self._failed:
            raise FailedPrecondition(
                f"the log {self._directory} is closed or a write to it failed", reason="LOG_CLOSED"
            )


def _lock(files: Files, directory: Path) -> int:
    try:
        return files.lock(directory / WRITER_LOCK)
    except BlockingIOError as error:
        raise FailedPrecondition(
            f"{directory} is being written by another process", reason="LOG_LOCKED"
        ) from error
