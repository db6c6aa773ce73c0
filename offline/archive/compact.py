"""The log into an archive: whole records as Parquet by UTC date of arrival."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

from offline.archive.batch import BatchLimits, BatchWriter
from offline.archive.log import check_reaches, read_sound
from offline.archive.manifest import Batch, Gap, Manifest, digest, digests
from offline.archive.read import batch_records
from offline.archive.target import Target
from offline.archive.writer import ArchiveWriter, write_archive
from offline.progress import Progress, no_progress
from services.common.clock import system_clock_ms
from services.common.errors import FailedPrecondition, NotFound
from services.common.event_log import Damage, list_segments
from services.common.log_marks import read_duplicate_marks

_SHOWN_RECORDS = 10_000


@dataclass(frozen=True)
class CompactReport:
    """What one run archived: ``records`` new ones up to ``next_arrival``; ``gaps`` that it left,
    and the ``damage`` to the log behind them; ``missing``: files that the archive lists and has
    not."""

    records: int
    next_arrival: int
    gaps: tuple[Gap, ...]
    missing: tuple[str, ...]
    damage: tuple[Damage, ...]
    manifest: Manifest

    @property
    def lacks(self) -> list[str]:
        """What the archive lacks, now or since earlier runs, in words."""
        files = [f"{name} is missing" for name in self.missing]
        return [*map(str, self.damage), *map(str, self.manifest.damaged_gaps()), *files]


def compact_log(
    log_dir: Path,
    target: Target,
    *,
    limits: BatchLimits | None = None,
    clock_ms: Callable[[], int] = system_clock_ms,
    progress: Progress = no_progress,
) -> CompactReport:
    """Brings an archive up to the end of a log, which may be written to meanwhile.

    A batch that is not full yet is taken up again, so that the files depend on the log alone, not
    on how often it was compacted. Interrupted anywhere, the next run goes on after the last batch
    that the manifest lists. Memory holds one group of records and one batch's compressed files.

    Raises ``NotFound`` without a log, ``FailedPrecondition`` for another log than the archive was
    made of (OTHER_LOG), for one whose beginning was removed before it was archived (LOG_CUT) and
    while another process writes to the archive (ARCHIVE_LOCKED).
    """
    end = durable_end(log_dir)
    limits = limits or BatchLimits()
    damage: list[Damage] = []
    with write_archive(target, clock_ms) as archive:
        start = archive.manifest.next_arrival
        _check_same_log(log_dir, archive.manifest, target.url, end)
        known = sum(1 for _ in archive.manifest.gaps())
        if end > start:
            sound = read_sound(log_dir, start, end, damage.append)
            records = _shown(sound, start, end, progress)
            _archive(archive, target, records, limits)
        # A mark may come after its record was archived.
        archive.mark_duplicates(read_duplicate_marks(log_dir))
        progress("compact", end, max(end, 1))
        manifest = archive.manifest
        gaps = tuple(manifest.gaps())[known:]
        missing = tuple(sorted(manifest.names() - target.names()))
    lost = sum(gap.next_arrival - gap.first_arrival for gap in gaps)
    return CompactReport(
        records=manifest.next_arrival - start - lost,
        next_arrival=manifest.next_arrival,
        gaps=gaps,
        missing=missing,
        damage=tuple(told for told in damage if told.first_arrival >= start),
        manifest=manifest,
    )


def durable_end(log_dir: Path) -> int:
    """Arrival after the last record that is there now, having made sure that it is on disk.

    A power loss must not take from the log what an archive holds. Raises ``NotFound`` without a
    log.
    """
    segments = list_segments(log_dir)
    if not segments:
        raise NotFound(f"there is no event log at {log_dir}", reason="LOG_NOT_FOUND")
    end = segments[-1].first_arrival
    for arrival, _ in read_sound(log_dir, end, found=lambda _: None):
        end = arrival + 1
    # Earlier segments were synced before the next was begun.
    for segment in list_segments(log_dir)[-2:]:
        descriptor = os.open(segment.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    return end


def _check_same_log(log_dir: Path, manifest: Manifest, url: str, end: int) -> None:
    position = manifest.next_arrival
    check_reaches(log_dir, position)
    same = position <= end
    if same and position and list_segments(log_dir)[0].first_arrival < position:
        # Where the last record is gone for damage there is nothing to compare.
        found = next(read_sound(log_dir, position - 1, position, lambda _: None), None)
        same = found is None or manifest.last_digest in ("", *digests(found[1]))
    if not same:
        raise FailedPrecondition(
            f"{log_dir} does not hold what {url} was made of up to arrival {position}: it is"
            " another log",
            reason="OTHER_LOG",
        )


def _archive(
    archive: ArchiveWriter,
    target: Target,
    records: Iterator[tuple[int, bytes]],
    limits: BatchLimits,
) -> None:
    start = archive.manifest.next_arrival
    replaced: Batch | None = None
    gaps: tuple[Gap, ...] = ()
    rewrites = 0
    first = start
    if archive.manifest.batches and _takes_more(archive.manifest.batches[-1], limits):
        replaced = archive.manifest.batches[-1]
        first, gaps, rewrites = replaced.first_arrival, replaced.gaps, replaced.rewrites
        records = chain(batch_records(target, replaced), records)
    pending = next(records, None)
    while pending is not None:
        batch = BatchWriter(
            archive.staging, first, limits, gaps=gaps, new_from=start, rewrites=rewrites
        )
        last = b""
        try:
            while pending is not None and not batch.full and batch.add(*pending):
                last = pending[1]
                pending = next(records, None)
            finished, staged = batch.finish(closed=batch.full or pending is not None)
        finally:
            batch.close()
        archive.commit(finished, staged, replaced=replaced, last_digest=digest(last))
        replaced, gaps, rewrites = None, (), 0
        first = finished.next_arrival


def _takes_more(batch: Batch, limits: BatchLimits) -> bool:
    return (
        not batch.closed
        and batch.records < limits.records
        and batch.payload_bytes < limits.payload_bytes
        and len(batch.files) <= limits.dates
    )


def _shown(
    records: Iterator[tuple[int, bytes]], start: int, end: int, progress: Progress
) -> Iterator[tuple[int, bytes]]:
    for number, found in enumerate(records):
        if number % _SHOWN_RECORDS == 0:
            progress("compact", found[0] - start, end - start)
        yield found
