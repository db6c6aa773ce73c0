"""The log as columns: segments compacted into Parquet by UTC date of the event.

``compact`` is incremental: a second run reads only what was added to the log since the first. It
holds one chunk of records in memory. Only events that count are kept: LIVE traffic of a declared
type, neither duplicate nor too late, nor marked beside the log. Under the directory::

    state.json                                      CompactionState
    events/date=YYYY-MM-DD/<arrivals>.parquet       one row an event, ``event_schema``
    endings/date=…/<arrivals>.parquet               one row a history's end, ``ENDING_SCHEMA``
    exposures/date=…/<arrivals>.parquet             one row an exposure, ``exposure_schema``
    teams/date=…/<arrivals>.parquet                 one row an item of a slate of two rankings,
                                                    ``TEAM_SCHEMA``
    changes.<entity>/date=…/<arrivals>.parquet      one row a catalogue change, ``change_schema``

Files that the state does not list are left over from an interrupted run and are removed. Where one
that it lists is gone, or not as it was written, all is made anew from the log.
"""

from __future__ import annotations

import logging
import shutil
import zlib
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import chain, islice
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pydantic import BaseModel, ConfigDict, ValidationError

from offline.archive.log import warn
from offline.archive.read import read_history
from offline.archive.target import Target
from offline.archive.writer import load_manifest
from offline.dataset.codec import EventCodec
from offline.dataset.schema import ColumnSchema
from offline.progress import Progress, no_progress
from services.common.errors import FailedPrecondition
from services.common.event_log import Damage
from services.common.log_marks import read_duplicate_marks

STATE_FILE = "state.json"
EVENTS = "events"
CHUNK_RECORDS = 200_000
_DAY_MS = 86_400_000
_ACTORS = {"actor", "heir"}
_READ_BYTES = 1 << 20
_PSEUDONYM = r"^(?:device:)?p(?P<version>[0-9]{1,9})\."

_logger = logging.getLogger(__name__)


class CompactionState(BaseModel):
    """How far the log was compacted, and into which files (paths relative to the directory).

    ``records``: log records read, and how many of them count. ``key_version``: of the key that all
    pseudonyms are under; None where there are none. ``marked``: how many of the records read were
    marked beside the log. ``checksums``: of each file, size and CRC-32. ``lost``: how many records
    at least the log or the archive had lost when they were to be read, by the first one's arrival.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    schema_hash: str
    next_arrival: int
    counted: int
    files: dict[str, list[str]]
    key_version: int | None = None
    marked: int = 0
    checksums: dict[str, str] = {}
    lost: dict[int, int] = {}


@dataclass(frozen=True)
class Columns:
    """A compacted log: where its files are and what they hold."""

    directory: Path
    schema: ColumnSchema
    state: CompactionState

    def files(self, table: str) -> list[Path]:
        """Parquet files of ``events`` or ``changes.<entity>``, by arrival within a date."""
        return [self.directory / name for name in self.state.files.get(table, [])]


def compact(
    log_dir: Path,
    directory: Path,
    schema: ColumnSchema,
    *,
    archive: Target | None = None,
    chunk_records: int = CHUNK_RECORDS,
    progress: Progress = no_progress,
) -> Columns:
    """Brings ``directory`` up to the end of the log and returns what it holds.

    ``archive``: where to read what it holds of the log, from which it may be removed. Starts anew
    when the schema changed, the key of the pseudonyms, or what is marked of the records read.
    Raises ``NotFound`` without a log,
    ``LogCorrupt`` for a bad record, ``FailedPrecondition`` for a record that is no event, a log
    that is shorter than what was compacted before, or (KEYS_MIXED) pseudonyms under two keys: each
    user would be two.
    """
    marks = read_duplicate_marks(log_dir)
    if archive is not None:
        marks |= set(load_manifest(archive).duplicates)
    state = _load_state(directory, schema, marks)
    directory.mkdir(parents=True, exist_ok=True)
    _remove_unlisted(directory, state)
    total_bytes = sum(path.stat().st_size for path in log_dir.glob("*.segment"))
    lost = dict(state.lost)

    def note(first_arrival: int, count: int) -> None:
        # What was read before it was damaged is not lost here.
        first = max(first_arrival, state.next_arrival)
        if first < first_arrival + count:
            lost[first] = first_arrival + count - first

    def found(damage: Damage) -> None:
        warn(damage)
        note(damage.first_arrival, damage.records or 1)

    if archive is not None:
        manifest = load_manifest(archive)
        total_bytes += sum(batch.payload_bytes for batch in manifest.batches)
        for gap in manifest.damaged_gaps():
            note(gap.first_arrival, gap.next_arrival - gap.first_arrival)
    read_bytes = 0
    began_anew = not state.next_arrival
    codec = EventCodec(schema)
    records = read_history(log_dir, archive, max(state.next_arrival - 1, 0), found=found)
    if state.next_arrival:
        known = next(records, None)
        if known is None:
            raise FailedPrecondition(
                f"{log_dir} ends before arrival {state.next_arrival}, up to which {directory} was"
                " compacted: it is another log",
                reason="OTHER_LOG",
            )
        if known[0] >= state.next_arrival:
            # The one before is lost: this one is new.
            records = chain([known], records)
    while chunk := list(islice(records, chunk_records)):
        tables = codec.decode([record for record in chunk if record[0] not in marks])
        keys = {version for table in tables.values() for version in _key_versions(table)}
        if state.key_version is not None and keys - {state.key_version}:
            if not began_anew:
                shutil.rmtree(directory)
                return compact(
                    log_dir,
                    directory,
                    schema,
                    archive=archive,
                    chunk_records=chunk_records,
                    progress=progress,
                )
            keys.add(state.key_version)
        if len(keys) > 1:
            raise FailedPrecondition(
                f"{log_dir} holds pseudonyms under keys {' and '.join(map(str, sorted(keys)))} of"
                " PODIUM_PSEUDONYM_KEYS: run podium keys rotate first",
                reason="KEYS_MIXED",
            )
        files = {name: list(paths) for name, paths in state.files.items()}
        checksums = dict(state.checksums)
        for name, table in tables.items():
            for path in _write_by_date(directory, name, table, chunk[0][0], chunk[-1][0]):
                files.setdefault(name, []).append(path)
                checksums[path] = _checksum(directory / path)
        state = CompactionState(
            schema_hash=schema.hash,
            next_arrival=chunk[-1][0] + 1,
            counted=state.counted + tables[EVENTS].num_rows,
            files=files,
            key_version=next(iter(keys), state.key_version),
            marked=_marked_before(chunk[-1][0] + 1, marks),
            checksums=checksums,
            lost=dict(lost),
        )
        _save_state(directory, state)
        read_bytes += sum(len(payload) for _, payload in chunk)
        progress("compact", read_bytes, total_bytes)
    progress("compact", total_bytes, total_bytes)
    return Columns(directory, schema, state)


def _key_versions(table: pa.Table) -> set[int]:
    """Versions of the keys that the actors of a table are under."""
    found: set[int] = set()
    for name in _ACTORS & set(table.column_names):
        said = pc.struct_field(pc.extract_regex(table[name], _PSEUDONYM), "version")
        found.update(int(version) for version in pc.unique(said).to_pylist() if version)
    return found


def _marked_before(arrival: int, marks: Collection[int]) -> int:
    return sum(mark < arrival for mark in marks)


def _load_state(directory: Path, schema: ColumnSchema, marks: Collection[int]) -> CompactionState:
    path = directory / STATE_FILE
    if path.is_file():
        state = _sound_state(directory)
        # A mark may come after its record was read.
        if (
            state is not None
            and state.schema_hash == schema.hash
            and state.marked == _marked_before(state.next_arrival, marks)
        ):
            return state
        shutil.rmtree(directory)
    return CompactionState(schema_hash=schema.hash, next_arrival=0, counted=0, files={})


def _sound_state(directory: Path) -> CompactionState | None:
    """What is there; None, which is logged, where it is damaged."""
    path = directory / STATE_FILE
    try:
        state = CompactionState.model_validate_json(path.read_bytes())
        for name in (name for names in state.files.values() for name in names):
            path = directory / name
            if _checksum(path) != state.checksums.get(name):
                raise ValueError("its checksum is another")
    except (OSError, ValueError) as error:
        why = type(error).__name__ if isinstance(error, ValidationError) else error
        _logger.warning("%s is damaged (%s): the columns are made anew from the log", path, why)
        return None
    return state


def _checksum(path: Path) -> str:
    size, crc = 0, 0
    with path.open("rb") as file:
        while part := file.read(_READ_BYTES):
            size, crc = size + len(part), zlib.crc32(part, crc)
    return f"{size}-{crc:08x}"


def _save_state(directory: Path, state: CompactionState) -> None:
    staged = directory / (STATE_FILE + ".new")
    staged.write_text(state.model_dump_json(indent=1), encoding="utf-8")
    staged.replace(directory / STATE_FILE)


def _remove_unlisted(directory: Path, state: CompactionState) -> None:
    listed = {name for names in state.files.values() for name in names}
    for path in directory.rglob("*.parquet"):
        if path.relative_to(directory).as_posix() not in listed:
            path.unlink()


def _write_by_date(
    directory: Path, name: str, table: pa.Table, first: int, last: int
) -> Iterator[str]:
    if table.num_rows == 0:
        return
    days = pc.cast(pc.floor(pc.divide(pc.cast(table["time_ms"], pa.float64()), _DAY_MS)), "int64")
    for day in sorted(pc.unique(days).to_pylist()):
        date = datetime.fromtimestamp(day * _DAY_MS / 1_000, UTC).date()
        relative = f"{name}/date={date}/{first:020d}-{last:020d}.parquet"
        path = directory / relative
        path.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(table.filter(pc.equal(days, day)), path)
        yield relative
