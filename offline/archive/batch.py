"""Writes one batch: a run of arrivals as one Parquet file a UTC date of arrival."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path

import pyarrow.parquet as pq

from offline.archive.codec import Rows, arrival_us, parse, utc_date
from offline.archive.columns import FLAT_NAMES, RECORD, SCHEMA
from offline.archive.manifest import ArchivedFile, Batch, Gap, file_name

_NO_TIME = date(1970, 1, 1)
_DAY_US = 86_400_000_000
_DICTIONARY = [name for name in FLAT_NAMES if name not in ("arrival", "event_id")]


@dataclass(frozen=True)
class BatchLimits:
    """When a batch is full, and how much of it is in memory at once (a group).

    ``dates``: most UTC dates, and so files, of a batch. Where batches end follows from the records
    alone, so that the same log gives the same files however often it is compacted.
    """

    records: int = 262_144
    payload_bytes: int = 256 << 20
    dates: int = 32
    group_records: int = 8_192
    group_bytes: int = 16 << 20


class BatchWriter:
    """Writes records, by arrival, to staged files. ``close`` it in any case.

    ``gaps`` are those known of already; another one is noted wherever arrivals at or after
    ``new_from`` jump.
    """

    def __init__(
        self,
        staging: Path,
        first_arrival: int,
        limits: BatchLimits,
        *,
        gaps: tuple[Gap, ...] = (),
        new_from: int = 0,
        rewrites: int = 0,
    ) -> None:
        self.records = 0
        self._staging = staging
        self._first_arrival = first_arrival
        self._next_arrival = first_arrival
        self._limits = limits
        self._gaps = list(gaps)
        self._new_from = new_from
        self._rewrites = rewrites
        self._payload_bytes = 0
        self._day = _NO_TIME
        self._dates: dict[int, date] = {}
        self._times: tuple[int, int] | None = None
        self._files: dict[date, pq.ParquetWriter] = {}
        self._written: dict[date, int] = {}
        self._group: dict[date, Rows] = {}
        self._group_records = 0
        self._group_bytes = 0

    @property
    def full(self) -> bool:
        """Whether the batch takes no further record."""
        limits = self._limits
        return self.records >= limits.records or self._payload_bytes >= limits.payload_bytes

    def add(self, arrival: int, record: bytes) -> bool:
        """Takes a record; False when its date is one too many: it begins the next batch."""
        logged = parse(record)
        arrived_us = None if logged is None else arrival_us(logged)
        day = self._day if arrived_us is None else self._date(arrived_us)
        if day not in self._written:
            if len(self._written) == self._limits.dates:
                return False
            self._written[day] = 0
        self._day = day
        if arrived_us is not None:
            first, last = self._times or (arrived_us, arrived_us)
            self._times = min(first, arrived_us), max(last, arrived_us)
        missing = max(self._next_arrival, self._new_from)
        if arrival > missing:
            self._gaps.append(Gap(first_arrival=missing, next_arrival=arrival, reason="damaged"))
        self._next_arrival = arrival + 1
        self._written[day] += 1
        self.records += 1
        self._payload_bytes += len(record)
        if day not in self._group:
            self._group[day] = Rows()
        self._group[day].add(arrival, record, logged)
        self._group_records += 1
        self._group_bytes += len(record)
        limits = self._limits
        if self._group_records >= limits.group_records or self._group_bytes >= limits.group_bytes:
            self._flush()
        return True

    def finish(self, *, closed: bool) -> tuple[Batch, dict[str, Path]]:
        """The batch, which reaches at least to ``new_from``, and its staged files by name."""
        self._flush()
        self.close()
        end = max(self._next_arrival, self._new_from)
        staged: dict[str, Path] = {}
        files: list[ArchivedFile] = []
        for day in sorted(self._written):
            path = self._path(day)
            name = file_name(day, self._first_arrival, end - 1, self._rewrites)
            size = path.stat().st_size
            staged[name] = path
            files.append(
                ArchivedFile(name=name, date=day, records=self._written[day], size_bytes=size)
            )
        first_us, last_us = self._times or (None, None)
        batch = Batch(
            first_arrival=self._first_arrival,
            next_arrival=end,
            closed=closed,
            records=self.records,
            payload_bytes=self._payload_bytes,
            first_us=first_us,
            last_us=last_us,
            files=tuple(files),
            gaps=tuple(self._gaps),
            rewrites=self._rewrites,
        )
        return batch, staged

    def close(self) -> None:
        """Closes the files; a second call does nothing."""
        for writer in self._files.values():
            writer.close()
        self._files.clear()

    def _date(self, microseconds: int) -> date:
        number = microseconds // _DAY_US
        if number not in self._dates:
            self._dates[number] = utc_date(microseconds)
        return self._dates[number]

    def _flush(self) -> None:
        for day, rows in self._group.items():
            if day not in self._files:
                self._files[day] = _open(self._path(day))
            self._files[day].write_table(rows.table(), row_group_size=len(rows))
        self._group = {}
        self._group_records = self._group_bytes = 0

    def _path(self, day: date) -> Path:
        return self._staging / f"{self._first_arrival}-{day.isoformat()}"


def _open(path: Path) -> pq.ParquetWriter:
    return pq.ParquetWriter(
        str(path),
        SCHEMA,
        compression="zstd",
        use_dictionary=_DICTIONARY,
        write_statistics=[name for name in SCHEMA.names if name != RECORD],
        write_page_checksum=True,
    )
