"""The event log on disk: framed records in segments, one writer, many readers.

A directory holds segments named by the arrival of their first record
(``00000000000000000042.segment``). A record is ``u32 length``, ``u32 crc32(payload)``, payload;
both numbers little-endian. A payload has at least one byte: zeros, which a power loss may leave
behind, are no record. The arrival of a record is its position in the log, from 0.

This module knows bytes, not what is in them.
"""

from __future__ import annotations

import fcntl
import logging
import os
import struct
import zlib
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from services.common.errors import FailedPrecondition, NotFound, PodiumError

HEADER = struct.Struct("<II")
MAX_PAYLOAD_BYTES = 64 << 20
_SUFFIX = ".segment"
_LOCK_NAME = "writer.lock"
_BUFFER_BYTES = 1 << 20
_CHUNK_BYTES = 4 << 20
_SEARCHED_BYTES = 1 << 20

_logger = logging.getLogger(__name__)


class LogCorrupt(PodiumError):
    """A record inside the log (not at its end) does not match its checksum."""

    reason = "LOG_CORRUPT"


class Segment(NamedTuple):
    """One file of a log; ``first_arrival`` is the arrival of its first record."""

    first_arrival: int
    path: Path


def segment_path(directory: Path, first_arrival: int) -> Path:
    """Where the segment starting at ``first_arrival`` lies."""
    return directory / f"{first_arrival:020d}{_SUFFIX}"


def frame(payload: bytes) -> bytes:
    """One record as it lies on disk."""
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def split_frames(data: bytes, offset: int = 0) -> tuple[list[bytes], int]:
    """Payloads of the whole, sound records in ``data`` from ``offset``, and where they end."""
    payloads: list[bytes] = []
    size = len(data)
    while offset + HEADER.size <= size:
        length, checksum = HEADER.unpack_from(data, offset)
        end = offset + HEADER.size + length
        if not 0 < length <= MAX_PAYLOAD_BYTES or end > size:
            break
        payload = data[offset + HEADER.size : end]
        if zlib.crc32(payload) != checksum:
            break
        payloads.append(payload)
        offset = end
    return payloads, offset


def write_all(descriptor: int, data: bytes | bytearray) -> None:
    """``os.write`` until everything is written. Raises ``OSError``."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_directory(directory: Path) -> None:
    """Makes created, renamed and removed names in ``directory`` durable."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def lock_directory(directory: Path, name: str = _LOCK_NAME) -> int:
    """Takes an exclusive lock that the kernel frees with the process; returns its descriptor.

    Raises ``FailedPrecondition`` (LOG_LOCKED) when another writer holds it.
    """
    descriptor = os.open(directory / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise FailedPrecondition(
            f"{directory} is being written by another process", reason="LOG_LOCKED"
        ) from error
    return descriptor


def list_segments(directory: Path) -> list[Segment]:
    """Segments by first arrival; none where the directory is missing."""
    if not directory.is_dir():
        return []
    names = (p for p in directory.iterdir() if p.suffix == _SUFFIX and p.stem.isdigit())
    return sorted(Segment(int(path.stem), path) for path in names)


class LogWriter:
    """The one writer of a log directory. Not thread-safe: it has one owner.

    Opening takes the directory's lock and cuts a torn tail off the last segment (what is cut is
    kept beside it, with the suffix ``.torn``). Raises ``FailedPrecondition`` (LOG_LOCKED) while
    another writer is open, and ``LogCorrupt`` where sound records follow a bad one: cutting them
    off would lose what was acknowledged. After a failed write the writer refuses to go on:
    ``recover`` it, or open a new one.

    Without ``durable`` nothing waits for the disk: what was flushed survives the process, not the
    machine, and records behind a bad one are cut off with it. ``at_least``: the next arrival is not
    below it, even where records were lost.
    """

    def __init__(
        self,
        directory: Path,
        *,
        segment_bytes: int = 64 << 20,
        durable: bool = True,
        at_least: int = 0,
    ) -> None:
        if not directory.exists():
            directory.mkdir(parents=True)
            sync_directory(directory.parent)
        self._directory = directory
        self._durable = durable
        self._segment_bytes = segment_bytes
        self._buffer = bytearray()
        self._failed = False
        self._sync_failed = False
        self._closed = False
        self._lock = lock_directory(directory)
        try:
            segments = list_segments(directory)
            last = segments[-1] if segments else Segment(0, segment_path(directory, 0))
            records, self._size = _recover(last, keep_sound=durable)
            self.next_arrival = last.first_arrival + records
            if self.next_arrival < at_least:
                self.next_arrival, self._size = at_least, 0
                last = Segment(at_least, segment_path(directory, at_least))
            self._path = last.path
            self._descriptor = self._open(last.path)
        except BaseException:
            os.close(self._lock)
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
        """Writes what is buffered and, when durable, waits until it is on disk."""
        self._check_usable()
        self._flush()
        if not self._durable:
            return
        try:
            os.fsync(self._descriptor)
        except OSError:
            self._failed = self._sync_failed = True
            raise

    def recover(self) -> None:
        """Makes the writer usable after a write that failed, as it does on a full disk.

        Whole records that reached the file stay and are synced, part of one is cut off, the rest
        is forgotten: ``next_arrival`` is where the log ends then. Without a failure it does
        nothing. Raises ``OSError``, and ``FailedPrecondition`` after a sync that failed: what is
        on disk is not known then.
        """
        if self._closed or self._sync_failed:
            self._check_usable()
        if not self._failed:
            return
        with self._path.open("rb") as file:
            file.seek(self._size)
            written, end = split_frames(file.read())
        os.ftruncate(self._descriptor, self._size + end)
        wanted, _ = split_frames(bytes(self._buffer))
        self._buffer.clear()
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
            os.close(self._descriptor)
            os.close(self._lock)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def _open(self, path: Path) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
        descriptor = os.open(path, flags, 0o644)
        if self._durable:
            sync_directory(self._directory)
        return descriptor

    def _roll(self) -> None:
        self.sync()
        path = segment_path(self._directory, self.next_arrival)
        try:
            following = self._open(path)
        except OSError:
            self._failed = True
            raise
        os.close(self._descriptor)
        self._path, self._descriptor, self._size = path, following, 0

    def _flush(self) -> None:
        try:
            write_all(self._descriptor, self._buffer)
        except OSError:
            # Part of a record may be on disk: appending after it would hide what follows.
            self._failed = True
            raise
        self._size += len(self._buffer)
        self._buffer.clear()

    def _check_usable(self) -> None:
        if self._closed or self._failed:
            raise FailedPrecondition(
                f"the log {self._directory} is closed or a write to it failed", reason="LOG_CLOSED"
            )


class LogReader:
    """Follows a log, keeping its place; the writer may be appending meanwhile.

    ``next_arrival`` is the arrival of the record that ``read`` gives next. Not thread-safe.
    """

    def __init__(self, directory: Path, from_arrival: int = 0) -> None:
        self.next_arrival = from_arrival
        self._directory = directory
        self._segment: Segment | None = None
        self._offset = 0
        self._ready: list[bytes] = []

    def read(self, limit: int) -> list[tuple[int, bytes]]:
        """At most ``limit`` (arrival, payload) that are there now; may be empty.

        Raises ``LogCorrupt`` for a bad record that a later segment follows; an unfinished record
        at the very end is waited for.
        """
        found: list[tuple[int, bytes]] = []
        while len(found) < limit:
            try:
                if not self._ready and not self._load():
                    break
            except LogCorrupt:
                # What came before it is sound: it goes out first, the next read raises again.
                if found:
                    break
                raise
            taken = self._ready[: limit - len(found)]
            del self._ready[: len(taken)]
            found.extend(enumerate(taken, self.next_arrival))
            self.next_arrival += len(taken)
        return found

    def _load(self) -> bool:
        """Reads the next chunk of records; False when there is none now."""
        if self._segment is None and not self._find():
            return False
        if self._ready:
            return True
        assert self._segment is not None  # noqa: S101 - set by _find
        self._ready = self._read_chunk(self._segment.path)
        if self._ready:
            return True
        following = segment_path(self._directory, self.next_arrival)
        if self.next_arrival > self._segment.first_arrival and following.exists():
            self._segment = Segment(self.next_arrival, following)
            self._offset = 0
            return self._load()
        if any(s.first_arrival > self.next_arrival for s in list_segments(self._directory)):
            # The segment may have been filled and closed since it was read above.
            self._ready = self._read_chunk(self._segment.path)
            if self._ready:
                return True
            raise LogCorrupt(
                f"{self._segment.path}: record {self.next_arrival} at byte {self._offset} is bad"
            )
        return False

    def _read_chunk(self, path: Path) -> list[bytes]:
        with path.open("rb") as file:
            file.seek(self._offset)
            data = file.read(_CHUNK_BYTES)
            if len(data) >= HEADER.size:
                needed = HEADER.size + HEADER.unpack_from(data)[0]
                if len(data) < needed <= HEADER.size + MAX_PAYLOAD_BYTES:
                    data += file.read(needed - len(data))
        payloads, end = split_frames(data)
        self._offset += end
        return payloads

    def _find(self) -> bool:
        """Opens the segment that holds ``next_arrival`` and skips to it."""
        segments = list_segments(self._directory)
        index = bisect_right(segments, self.next_arrival, key=lambda s: s.first_arrival) - 1
        if index < 0:
            return False
        self._segment = segments[index]
        self._offset = 0
        wanted, self.next_arrival = self.next_arrival, self._segment.first_arrival
        while self.next_arrival < wanted:
            payloads = self._read_chunk(self._segment.path)
            if not payloads:
                self.next_arrival, self._segment = wanted, None
                return False
            skipped = min(len(payloads), wanted - self.next_arrival)
            self.next_arrival += skipped
            self._ready = payloads[skipped:]
        return True


def read_log(
    directory: Path, from_arrival: int = 0, to_arrival: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """(arrival, payload) of every record in [from_arrival, to_arrival), in order.

    Stops quietly at a torn tail. Raises ``NotFound`` when there is no such directory,
    ``LogCorrupt`` for a bad record before the last segment.
    """
    if not directory.is_dir():
        raise NotFound(f"there is no event log at {directory}", reason="LOG_NOT_FOUND")
    reader = LogReader(directory, from_arrival)
    while to_arrival is None or reader.next_arrival < to_arrival:
        limit = 4096 if to_arrival is None else min(4096, to_arrival - reader.next_arrival)
        found = reader.read(limit)
        if not found:
            return
        yield from found


def _holds_record(data: bytes, start: int) -> bool:
    """Whether a sound record begins in the first bytes from ``start``."""
    last = min(len(data) - HEADER.size, start + _SEARCHED_BYTES)
    for offset in range(start, last):
        length, checksum = HEADER.unpack_from(data, offset)
        begin = offset + HEADER.size
        if not 0 < length <= min(len(data) - begin, _BUFFER_BYTES):
            continue
        if zlib.crc32(data[begin : begin + length]) == checksum:
            return True
    return False


def _recover(segment: Segment, *, keep_sound: bool) -> tuple[int, int]:
    """Cuts a torn tail off the segment; returns its number of records and its bytes.

    With ``keep_sound`` a tail that holds sound records raises ``LogCorrupt``.
    """
    path = segment.path
    if not path.exists():
        return 0, 0
    data = path.read_bytes()
    payloads, end = split_frames(data)
    size = len(data)
    if end < size:
        if keep_sound and _holds_record(data, end + 1):
            raise LogCorrupt(
                f"{path}: record {segment.first_arrival + len(payloads)} at byte {end} is bad, but "
                "sound ones follow: restore the file from a copy, or cut it there to give them up"
            )
        _logger.warning("cut a torn tail of %d bytes off %s", size - end, path)
        with path.open("r+b") as file:
            file.seek(end)
            path.with_suffix(".torn").write_bytes(file.read())
            file.truncate(end)
            os.fsync(file.fileno())
    return len(payloads), end
