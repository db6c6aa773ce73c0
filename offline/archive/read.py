"""Reads an archive back, in the order of the log."""

from __future__ import annotations

import heapq
from collections.abc import Generator, Iterator, Sequence
from itertools import chain
from operator import itemgetter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from offline.archive.columns import RECORD
from offline.archive.log import Found, reaches, read_sound, warn
from offline.archive.manifest import Batch
from offline.archive.target import Target
from offline.archive.writer import load_manifest
from services.common.event_log import LogCorrupt

_ROWS = 8_192


def read_archive(
    target: Target, from_arrival: int = 0, to_arrival: int | None = None
) -> Iterator[tuple[int, bytes]]:
    """(arrival, record) of every archived record in [from_arrival, to_arrival), in order.

    The archive may be written to meanwhile. Raises ``NotFound`` without an archive, ``LogCorrupt``
    for a damaged or missing file.
    """
    yield from _archived(target, from_arrival, to_arrival)


def read_history(
    log_dir: Path,
    target: Target | None,
    from_arrival: int = 0,
    to_arrival: int | None = None,
    *,
    found: Found = warn,
) -> Iterator[tuple[int, bytes]]:
    """(arrival, record) from an archive as far as it goes, then from the log it was made of.

    Without an archive it is the log alone. Archived segments may have been removed from the log,
    and both may grow meanwhile. ``found`` is told of damage to the log. Raises as ``read_archive``
    and ``read_sound`` do: ``FailedPrecondition`` (LOG_CUT) when the log begins after the archive
    ends.
    """
    following = from_arrival
    while target is not None:
        following = yield from _archived(target, following, to_arrival)
        if to_arrival is not None and following >= to_arrival:
            return
        if reaches(log_dir, following) or load_manifest(target).next_arrival <= following:
            break
        # Segments were archived and removed since the archive was read.
    yield from read_sound(log_dir, following, to_arrival, found)


def _archived(
    target: Target, following: int, to_arrival: int | None
) -> Generator[tuple[int, bytes], None, int]:
    """``read_archive`` from ``following`` on; returns the arrival it got to."""
    missing: str | None = None
    while True:
        try:
            for batch in load_manifest(target).batches:
                if batch.next_arrival <= following:
                    continue
                for arrival, record in batch_records(target, batch):
                    if to_arrival is not None and arrival >= to_arrival:
                        return to_arrival
                    if arrival >= following:
                        following = arrival + 1
                        yield arrival, record
                following = batch.next_arrival
            return following
        except FileNotFoundError as error:
            # A writer has put another file in its place, or else it is lost.
            if missing == str(error):
                raise LogCorrupt(f"{target.url}: a file is missing: {error}") from error
            missing = str(error)


def batch_records(target: Target, batch: Batch) -> Iterator[tuple[int, bytes]]:
    """(arrival, record) of a batch, in order."""
    files = [_file_records(target, file.name) for file in batch.files]
    return heapq.merge(*files, key=itemgetter(0)) if len(files) > 1 else chain(*files)


def batch_tables(target: Target, batch: Batch, columns: Sequence[str]) -> Iterator[pa.Table]:
    """Rows of a batch, in order, with ``arrival`` among the columns."""
    if len(batch.files) == 1:
        yield from _file_tables(target, batch.files[0].name, columns)
    elif batch.files:
        tables = chain.from_iterable(_file_tables(target, f.name, columns) for f in batch.files)
        whole = pa.concat_tables(tables).sort_by("arrival")
        for start in range(0, whole.num_rows, _ROWS):
            yield whole.slice(start, _ROWS)


def _file_records(target: Target, name: str) -> Iterator[tuple[int, bytes]]:
    for table in _file_tables(target, name, ["arrival", RECORD]):
        yield from zip(table["arrival"].to_pylist(), table[RECORD].to_pylist(), strict=True)


def _file_tables(target: Target, name: str, columns: Sequence[str]) -> Iterator[pa.Table]:
    opened = target.open(name)
    try:
        with opened, pq.ParquetFile(opened, page_checksum_verification=True) as file:
            for group in range(file.num_row_groups):
                yield file.read_row_group(group, columns=list(columns))
    except (pa.ArrowInvalid, OSError) as error:
        raise LogCorrupt(f"{target.url}/{name} is damaged: {error}") from error
