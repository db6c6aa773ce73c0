"""Archived records written anew: what is to be erased is changed or dropped."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from offline.archive.batch import BatchLimits, BatchWriter
from offline.archive.manifest import Batch, Gap, digest
from offline.archive.read import batch_records, batch_tables
from offline.archive.target import Target
from offline.archive.writer import ArchiveWriter, write_archive
from offline.progress import Progress, no_progress
from services.common.clock import system_clock_ms

Transform = Callable[[int, bytes], bytes | None]
"""A record, by (arrival, bytes), as it is to be from now on; None drops it."""

_UNLIMITED = 1 << 62


@dataclass(frozen=True)
class RewriteReport:
    """How many batches were written anew, and how many of their records changed or went."""

    batches: int
    changed: int
    dropped: int


def rewrite_archive(
    target: Target,
    transform: Transform,
    *,
    concerns: Callable[[Batch], bool] = lambda _: True,
    clock_ms: Callable[[], int] = system_clock_ms,
    progress: Progress = no_progress,
) -> RewriteReport:
    """Applies ``transform`` to every record of the batches that ``concerns`` names.

    Batch by batch, each shown at once: interrupted, the rest is done by the next run, and what was
    done stays. A batch of which nothing changes keeps its files; of others the old files are
    removed. Dropped records leave a gap (``erased``); arrivals stay. Raises as ``compact_log``
    does for an archive that another process writes to.
    """
    batches = changed = dropped = 0
    with write_archive(target, clock_ms) as archive:
        total = len(archive.manifest.batches)
        for number, batch in enumerate(archive.manifest.batches):
            progress("rewrite", number, max(total, 1))
            if not concerns(batch):
                continue
            difference = _rewrite(archive, target, batch, transform)
            batches += any(difference)
            changed += difference[0]
            dropped += difference[1]
        progress("rewrite", total, max(total, 1))
    return RewriteReport(batches, changed, dropped)


def holds_actor(target: Target, pseudonyms: Collection[str]) -> Callable[[Batch], bool]:
    """Whether a batch has an event by or about one of these users or devices; reads three columns
    of it."""
    wanted = pa.array(sorted(pseudonyms), pa.string())

    def named(table: pa.Table) -> bool:
        about = pc.struct_field(pc.list_flatten(table["entities"]), "id")
        named = (table["user_id"], table["device_id"], about)
        return any(pc.any(pc.is_in(ids, wanted)).as_py() for ids in named)

    def found(batch: Batch) -> bool:
        columns = ["arrival", "user_id", "device_id", "entities"]
        return any(named(table) for table in batch_tables(target, batch, columns))

    return found


def _rewrite(
    archive: ArchiveWriter, target: Target, batch: Batch, transform: Transform
) -> tuple[int, int]:
    """Numbers of changed and of dropped records."""
    changed = 0
    dropped: list[int] = []
    for arrival, record in batch_records(target, batch):
        after = transform(arrival, record)
        if after is None:
            dropped.append(arrival)
        elif after != record:
            changed += 1
    if not changed and not dropped:
        return 0, 0
    # A changed arrival time may add a date.
    unlimited = BatchLimits(records=_UNLIMITED, payload_bytes=_UNLIMITED, dates=_UNLIMITED)
    writer = BatchWriter(
        archive.staging,
        batch.first_arrival,
        unlimited,
        gaps=_with_erased(batch.gaps, dropped),
        new_from=batch.next_arrival,
        rewrites=batch.rewrites + 1,
    )
    last = ""
    try:
        for arrival, record in batch_records(target, batch):
            after = transform(arrival, record)
            last = "" if after is None else digest(after)
            if after is not None:
                writer.add(arrival, after)
        finished, staged = writer.finish(closed=batch.closed)
    finally:
        writer.close()
    is_last = archive.manifest.batches[-1] == batch
    archive.commit(
        finished,
        staged,
        replaced=batch,
        last_digest=last if is_last else archive.manifest.last_digest,
    )
    return changed, len(dropped)


def _with_erased(gaps: tuple[Gap, ...], dropped: list[int]) -> tuple[Gap, ...]:
    """The gaps and those that dropped records leave, runs of arrivals as one, by arrival."""
    merged: list[Gap] = []
    erased = [Gap(first_arrival=a, next_arrival=a + 1, reason="erased") for a in dropped]
    for gap in sorted([*gaps, *erased], key=lambda gap: gap.first_arrival):
        before = merged[-1] if merged else None
        if before and (before.next_arrival, before.reason) == (gap.first_arrival, gap.reason):
            merged[-1] = before.model_copy(update={"next_arrival": gap.next_arrival})
        else:
            merged.append(gap)
    return tuple(merged)
