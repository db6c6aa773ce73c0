"""The events of a log or of an archive as tables, in order of arrival."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import pyarrow as pa
import pyarrow.compute as pc

from offline.archive.codec import Rows, parse
from offline.archive.columns import FLAT_NAMES
from offline.archive.log import read_sound
from offline.archive.manifest import Batch, Manifest
from offline.archive.read import batch_tables
from offline.archive.target import Target, open_target
from offline.archive.writer import load_manifest
from offline.progress import Progress, no_progress
from services.common.actor import split_actor_key
from services.common.errors import NotFound
from services.common.event_log import Damage, LogCorrupt, list_segments

_ROWS = 8_192
_BYTES = 16 << 20


@dataclass(frozen=True)
class EventFilter:
    """Which events are wanted; what is None or empty wants all.

    ``from_us`` and ``to_us``: arrival time in [from, to), epoch microseconds. ``actor``: pseudonym
    of a user or device, or ``device:`` and that of a device. ``entity``: (type, id).
    """

    types: tuple[str, ...] = ()
    actor: str | None = None
    entity: tuple[str, str] | None = None
    rank_id: str | None = None
    from_us: int | None = None
    to_us: int | None = None

    def apply(self, table: pa.Table) -> pa.Table:
        """The rows that are wanted."""
        if self.types:
            table = table.filter(pc.is_in(table["type"], pa.array(self.types)))
        if self.rank_id is not None:
            table = table.filter(pc.equal(table["rank_id"], self.rank_id))
        if self.actor is not None:
            user, device = split_actor_key(self.actor)
            matches = pc.equal(table["device_id"], device or user)
            if user:
                matches = pc.or_kleene(matches, pc.equal(table["user_id"], user))
            table = table.filter(matches)
        if self.from_us is not None:
            table = table.filter(pc.greater_equal(table["arrival_time"], _time(self.from_us)))
        if self.to_us is not None:
            table = table.filter(pc.less(table["arrival_time"], _time(self.to_us)))
        return table if self.entity is None else _naming(table, self.entity)

    def concerns(self, batch: Batch) -> bool:
        """Whether the batch may hold a wanted event."""
        if self.from_us is None and self.to_us is None:
            return True
        if batch.first_us is None or batch.last_us is None:
            return False
        after = self.from_us is None or batch.last_us >= self.from_us
        return after and (self.to_us is None or batch.first_us < self.to_us)


class EventSource(Protocol):
    """Where events are read from. ``kind`` is "log" or "archive"."""

    kind: str
    place: str

    def tables(self, wanted: EventFilter, progress: Progress = no_progress) -> Iterator[pa.Table]:
        """Wanted events as tables of ``FLAT_NAMES``, in order of arrival."""
        ...

    def parts(self) -> tuple[int, int]:
        """Number of files, and their bytes."""
        ...

    def damage(self) -> list[str]:
        """What is damaged or missing, in words. Complete once ``tables`` is exhausted."""
        ...


def open_source(place: str) -> EventSource:
    """A log's directory, an archive's, or an archive's URL. Raises ``NotFound`` for neither."""
    if Path(place).is_dir() and list_segments(Path(place)):
        return LogSource(Path(place))
    target = open_target(place)
    try:
        return ArchiveSource(target, load_manifest(target))
    except NotFound as error:
        raise NotFound(
            f"there is neither an event log nor an archive at {place}", reason="LOG_NOT_FOUND"
        ) from error


class LogSource:
    """The segments of a log."""

    kind = "log"

    def __init__(self, directory: Path) -> None:
        self.place = str(directory)
        self._directory = directory
        self._damage: list[str] = []

    def tables(self, wanted: EventFilter, progress: Progress = no_progress) -> Iterator[pa.Table]:
        self._damage = []
        total, done = self.parts()[1], 0
        first = list_segments(self._directory)[0].first_arrival
        rows = Rows()
        for arrival, record in read_sound(self._directory, first, found=self._found):
            rows.add(arrival, record, parse(record))
            if len(rows) == _ROWS or rows.payload_bytes > _BYTES:
                done += rows.payload_bytes
                progress("read", done, total)
                yield wanted.apply(rows.table().select(FLAT_NAMES))
                rows = Rows()
        yield wanted.apply(rows.table().select(FLAT_NAMES))
        progress("read", total, max(total, 1))

    def parts(self) -> tuple[int, int]:
        sizes = [segment.path.stat().st_size for segment in list_segments(self._directory)]
        return len(sizes), sum(sizes)

    def damage(self) -> list[str]:
        return self._damage

    def _found(self, damage: Damage) -> None:
        self._damage.append(str(damage))


class ArchiveSource:
    """The Parquet files of an archive."""

    kind = "archive"

    def __init__(self, target: Target, manifest: Manifest) -> None:
        self.place = target.url
        self._target = target
        self._manifest = manifest

    def tables(self, wanted: EventFilter, progress: Progress = no_progress) -> Iterator[pa.Table]:
        following, missing = 0, ""
        while True:
            try:
                for batch in self._manifest.batches:
                    progress("read", batch.first_arrival, max(self._manifest.next_arrival, 1))
                    if batch.next_arrival <= following or not wanted.concerns(batch):
                        continue
                    for table in batch_tables(self._target, batch, FLAT_NAMES):
                        new = table.filter(pc.greater_equal(table["arrival"], following))
                        if new.num_rows:
                            following = new["arrival"][-1].as_py() + 1
                        yield wanted.apply(new)
                    following = batch.next_arrival
                progress("read", 1, 1)
                return
            except FileNotFoundError as error:
                # A writer has put another file in its place, or else it is lost.
                if missing == str(error):
                    raise LogCorrupt(f"{self.place}: a file is missing: {error}") from error
                missing = str(error)
                self._manifest = load_manifest(self._target)

    def parts(self) -> tuple[int, int]:
        files = [file for batch in self._manifest.batches for file in batch.files]
        return len(files), sum(file.size_bytes for file in files)

    def damage(self) -> list[str]:
        return [str(gap) for gap in self._manifest.gaps()]


def _time(microseconds: int) -> pa.Scalar:
    return pa.scalar(microseconds, pa.timestamp("us", tz="UTC"))


def _naming(table: pa.Table, entity: tuple[str, str]) -> pa.Table:
    """Rows with an event about the entity."""
    entities = table["entities"].combine_chunks()
    named = pc.list_flatten(entities)
    matches = pc.and_(
        pc.equal(named.field("type"), entity[0]), pc.equal(named.field("id"), entity[1])
    )
    rows = pc.unique(pc.list_parent_indices(entities).filter(matches))
    return table.take(rows)
