"""Archived records back into a log from which their segments were removed or lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from offline.archive.log import read_sound
from offline.archive.manifest import Gap
from offline.archive.read import read_archive
from offline.archive.target import Target
from offline.archive.writer import load_manifest
from offline.progress import Progress, no_progress
from services.common.errors import FailedPrecondition
from services.common.event_log import frame, list_segments, segment_path
from services.common.files import LOCAL_FILES, write_all
from services.common.log_marks import add_duplicate_marks, read_duplicate_marks
from services.common.log_removed import forget_removed

_SUFFIX = ".restored"
_BUFFER_BYTES = 1 << 20


class Restored(NamedTuple):
    """How many records are back, and the gaps among them: records lost to damage."""

    records: int
    gaps: tuple[Gap, ...]


def restore_log(
    target: Target,
    log_dir: Path,
    *,
    segment_bytes: int = 64 << 20,
    progress: Progress = no_progress,
) -> Restored:
    """Writes what an archive holds before a log's first record in front of it. A log that is empty
    or not there gets all of the archive.

    The log may be in use. Interrupted, it is as it was or begins earlier, always without a hole. A
    gap of the archive is one of the log, told as damage by its readers. Raises ``NotFound`` without
    an archive, ``FailedPrecondition`` where it ends before the log begins (LOG_CUT) or is another
    log's (OTHER_LOG).
    """
    manifest = load_manifest(target)
    end = manifest.next_arrival
    LOCAL_FILES.make_directory(log_dir)
    for name in LOCAL_FILES.names(log_dir):
        if name.endswith(_SUFFIX):
            LOCAL_FILES.remove(log_dir / name)
    segments = list_segments(log_dir)
    if segments:
        _check_fits(target, log_dir, segments[0].first_arrival, end)
        end = segments[0].first_arrival
    written = 0
    starts: list[int] = []
    for start, records in _runs(read_archive(target, 0, end), segment_bytes):
        progress("restore", start, end)
        written += _write(log_dir / f"{start}{_SUFFIX}", records)
        starts.append(start)
    missing = set(manifest.duplicates) - read_duplicate_marks(log_dir)
    if missing:
        add_duplicate_marks(log_dir, sorted(missing))
    # The latest first: whoever reads meanwhile finds no hole.
    for start in reversed(starts):
        LOCAL_FILES.replace(log_dir / f"{start}{_SUFFIX}", segment_path(log_dir, start))
        LOCAL_FILES.sync_directory(log_dir)
    forget_removed(log_dir)
    progress("restore", max(end, 1), max(end, 1))
    lost = [gap for gap in manifest.damaged_gaps() if gap.first_arrival < end]
    return Restored(written, tuple(lost))


def _check_fits(target: Target, log_dir: Path, first: int, archived: int) -> None:
    if first > archived:
        raise FailedPrecondition(
            f"{target.url} ends at arrival {archived}, before {log_dir} begins at {first}",
            reason="LOG_CUT",
        )
    kept = next(read_archive(target, first, first + 1), None)
    logged = next(read_sound(log_dir, first, first + 1), None)
    if kept is not None and logged is not None and kept != logged:
        raise FailedPrecondition(
            f"record {first} of {log_dir} is not what {target.url} holds: it is another log's",
            reason="OTHER_LOG",
        )


def _runs(
    records: Iterator[tuple[int, bytes]], segment_bytes: int
) -> Iterator[tuple[int, Iterator[bytes]]]:
    """The frames of each segment to be, with its first arrival; to be consumed in order."""
    pending = next(records, None)

    def run(expected: int) -> Iterator[bytes]:
        nonlocal pending
        size = 0
        while pending is not None and pending[0] == expected:
            framed = frame(pending[1])
            if size and size + len(framed) > segment_bytes:
                return
            yield framed
            size += len(framed)
            expected += 1
            pending = next(records, None)

    while pending is not None:
        yield pending[0], run(pending[0])


def _write(path: Path, frames: Iterator[bytes]) -> int:
    """Writes a file durably; returns the number of frames."""
    number, buffer = 0, bytearray()
    handle = LOCAL_FILES.open(path)
    try:
        for framed in frames:
            buffer += framed
            number += 1
            if len(buffer) >= _BUFFER_BYTES:
                write_all(LOCAL_FILES, handle, buffer)
                buffer = bytearray()
        write_all(LOCAL_FILES, handle, buffer)
        LOCAL_FILES.sync(handle)
    finally:
        LOCAL_FILES.close(handle)
    return number
