"""What an archive holds: one JSON document, and the commit point of everything written to it.

A batch is a run of arrivals, without overlap with the next. Its records lie in one file a UTC date
of arrival, ``date=YYYY-MM-DD/<first arrival>-<last arrival>.parquet``, each file by arrival. Files
that the manifest does not list are left over from an interrupted run.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from services.common.convert_event import record_digest
from services.common.errors import FailedPrecondition
from services.common.event_log import LogCorrupt

MANIFEST_NAME = "manifest.json"
VERSION = 1


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Gap(_Part):
    """Arrivals in [first, next) that the archive does not hold, and why."""

    first_arrival: int
    next_arrival: int
    reason: Literal["damaged", "erased"]

    def __str__(self) -> str:
        last = self.next_arrival - 1
        span = f"{self.first_arrival}" + (f" to {last}" if last > self.first_arrival else "")
        return f"arrivals {span} are missing: {self.reason}"


class ArchivedFile(_Part):
    """One Parquet file; ``name`` is relative to the archive."""

    name: str
    date: date
    records: int
    size_bytes: int


class Batch(_Part):
    """The arrivals in [first, next). ``closed``: it has its full size and is not added to.

    ``first_us`` and ``last_us``: range of the arrival times, epoch microseconds; None without any.
    ``rewrites``: how often it was written anew since it was archived.
    """

    first_arrival: int
    next_arrival: int
    closed: bool
    records: int
    payload_bytes: int
    first_us: int | None
    last_us: int | None
    files: tuple[ArchivedFile, ...]
    gaps: tuple[Gap, ...] = ()
    rewrites: int = 0


class Lease(_Part):
    """Who may write to an archive that has no locks, until when (epoch ms)."""

    holder: str
    until_ms: int


class Manifest(_Part):
    """Everything an archive holds. ``last_digest``: of the last record, to know its log by;
    ``duplicates``: arrivals of records that a mark beside the log calls second copies."""

    format: Literal["podium-event-archive"] = "podium-event-archive"
    version: int = VERSION
    batches: tuple[Batch, ...] = ()
    last_digest: str = ""
    duplicates: tuple[int, ...] = ()
    lease: Lease | None = None

    @property
    def next_arrival(self) -> int:
        """Position in the log up to which it is archived."""
        return self.batches[-1].next_arrival if self.batches else 0

    @property
    def records(self) -> int:
        """Records held."""
        return sum(batch.records for batch in self.batches)

    def gaps(self) -> Iterator[Gap]:
        """All gaps, by arrival."""
        for batch in self.batches:
            yield from batch.gaps

    def damaged_gaps(self) -> list[Gap]:
        """Those that nobody wanted."""
        return [gap for gap in self.gaps() if gap.reason == "damaged"]

    def names(self) -> set[str]:
        """Names of all files."""
        return {file.name for batch in self.batches for file in batch.files}


def parse_manifest(data: bytes, url: str) -> Manifest:
    """Raises ``LogCorrupt`` for what is no manifest, ``FailedPrecondition`` for a newer one."""
    try:
        manifest = Manifest.model_validate_json(data)
    except ValidationError as error:
        raise LogCorrupt(f"{url}/{MANIFEST_NAME} is not the manifest of an archive") from error
    if manifest.version != VERSION:
        raise FailedPrecondition(
            f"{url} is an archive of version {manifest.version}; this program reads {VERSION}",
            reason="ARCHIVE_VERSION",
        )
    return manifest


def digest(record: bytes) -> str:
    """What a record is known by."""
    return record_digest(record).hex()


def digests(record: bytes) -> tuple[str, str]:
    """The same, and what archives knew it by before keys were rotated."""
    return digest(record), hashlib.blake2b(record, digest_size=16).hexdigest()


def file_name(day: date, first_arrival: int, last_arrival: int, rewrites: int = 0) -> str:
    """Name of the file of a date within a batch."""
    suffix = f".r{rewrites}" if rewrites else ""
    return f"date={day.isoformat()}/{first_arrival:020d}-{last_arrival:020d}{suffix}.parquet"
