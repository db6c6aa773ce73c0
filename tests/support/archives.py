"""Logs to archive, and targets that fail on purpose."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random

import pyarrow as pa

from offline.archive.batch import BatchLimits
from offline.archive.target import LocalTarget
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.event_log import HEADER, LogWriter, list_segments
from tests.support.event_streams import START_MS, random_log

SMALL = BatchLimits(records=30, payload_bytes=1 << 20, dates=3, group_records=11, group_bytes=3_000)
DAY_MS = 86_400_000


def arriving(log: list[LoggedEvent], step_ms: int = 3_600_000) -> list[LoggedEvent]:
    """The log with an arrival time each, ``step_ms`` apart."""
    for logged in log:
        logged.arrival_time.FromMilliseconds(START_MS + logged.arrival * step_ms)
        logged.config_hash = "0" * 64
    return log


def payloads(seed: int, number: int, step_ms: int = 3_600_000) -> list[bytes]:
    """At least ``number`` events as the log holds them, over several days."""
    log = arriving(random_log(Random(seed), number), step_ms)
    return [logged.SerializeToString(deterministic=True) for logged in log]


def append(directory: Path, records: list[bytes], segment_bytes: int = 4_096) -> Path:
    """Appends records to a log and returns its directory."""
    with LogWriter(directory, segment_bytes=segment_bytes, durable=False) as writer:
        writer.append(records)
    return directory


def spoil(directory: Path, arrivals: Collection[int]) -> None:
    """Flips a bit in each of these records."""
    for segment in list_segments(directory):
        data = bytearray(segment.path.read_bytes())
        arrival, offset = segment.first_arrival, 0
        while offset < len(data):
            offset += HEADER.size + HEADER.unpack_from(data, offset)[0]
            if arrival in arrivals:
                data[offset - 1] ^= 1
            arrival += 1
        segment.path.write_bytes(data)


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of an archive but its lock, by name."""
    return {
        path.relative_to(directory).as_posix(): path.read_bytes()
        for path in directory.rglob("*")
        if path.is_file() and path.name != "archive.lock"
    }


class Crash(Exception):
    """The process ends here."""


class CrashingTarget:
    """A local target that lets ``steps`` changes happen and ends the process at the next.

    With ``after`` the change itself still happens.
    """

    lease_ms: int | None = None

    def __init__(self, directory: Path, steps: int, *, after: bool) -> None:
        self.url = str(directory)
        self._target = LocalTarget(directory)
        self._steps = steps
        self._after = after

    @contextmanager
    def lock(self) -> Iterator[None]:
        with self._target.lock():
            yield

    @contextmanager
    def staging(self) -> Iterator[Path]:
        with self._target.staging() as staging:
            yield staging

    def names(self) -> set[str]:
        return self._target.names()

    def open(self, name: str) -> pa.NativeFile:
        return self._target.open(name)

    def read_manifest(self) -> tuple[bytes, str] | None:
        return self._target.read_manifest()

    def put(self, name: str, staged: Path) -> None:
        with self._step():
            self._target.put(name, staged)

    def remove(self, name: str) -> None:
        with self._step():
            self._target.remove(name)

    def replace_manifest(self, data: bytes, version: str | None) -> str:
        with self._step():
            return self._target.replace_manifest(data, version)

    @contextmanager
    def _step(self) -> Iterator[None]:
        if self._steps == 0 and not self._after:
            raise Crash
        yield
        if self._steps == 0:
            raise Crash
        self._steps -= 1
