"""Power is lost at every call to the file system while events are taken in and retried."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import PodiumError
from services.common.event_log import Damage, LogReader, LogWriter, Salvage, SyncFailed
from services.feature.ingest.log import Ingestor
from tests.support.faulty_files import CrashableFiles

DIRECTORY = Path("log")
NOW_MS = 1_700_000_000_000
Requests = list[list[str]]


@dataclass
class TextEvent:
    """An event whose record is a line of text."""

    index: int
    event_id: str
    too_late: bool = False

    @property
    def fingerprint(self) -> bytes:
        return self.event_id.encode()

    def is_known_by(self, fingerprint: bytes) -> bool:
        return fingerprint == self.fingerprint

    def payload(self, arrival: int, *_: object, duplicate: bool = False) -> bytes:
        return f"{arrival} {self.event_id} {duplicate}".encode()


@dataclass
class LogRecords:
    """What the log holds: (id, whether marked as a duplicate), and its end."""

    records: list[tuple[str, bool]] = field(default_factory=list)
    end: int = 0

    @classmethod
    def of(cls, files: CrashableFiles) -> LogRecords:
        found = cls()
        for arrival, payload in LogReader(DIRECTORY, salvage=SALVAGE, files=files).read(10_000):
            told, event_id, duplicate = payload.decode().split(" ")
            assert int(told) == arrival >= found.end
            found.end = arrival + 1
            found.records.append((event_id, duplicate == "True"))
        return found

    def first_ones(self) -> list[str]:
        return [event_id for event_id, duplicate in self.records if not duplicate]


@dataclass
class AppliedStore:
    """A store that has caught up with a log, as Ingest looks at it."""

    log: LogRecords
    shared = False

    @contextmanager
    def read(self) -> Iterator[AppliedStore]:
        yield self

    def fingerprints(self, event_ids: Sequence[str], _days: object) -> dict[str, bytes]:
        known = self.log.first_ones()
        return {event_id: event_id.encode() for event_id in event_ids if event_id in known}

    def next_sequences(self) -> dict[str, int]:
        return {}

    def position(self) -> int:
        return self.log.end


def arrival_of(payload: bytes) -> int:
    return int(payload.split(b" ")[0])


def heard(damage: Damage) -> None:
    """What a crash tears may look like damage: what counts is what was acknowledged."""


SALVAGE = Salvage(arrival_of, heard)


async def take_in(files: CrashableFiles, requests: Requests, acked: set[str]) -> None:
    """Hands all requests in at once; ``acked`` gets the ids that were answered for."""
    log = LogWriter(DIRECTORY, segment_bytes=80, salvage=SALVAGE, files=files)
    store: Any = AppliedStore(LogRecords.of(files))
    ingestor = Ingestor(log, store, lambda: NOW_MS, gaps=lambda *_: None)
    ingestor.start()

    async def request(ids: list[str], turns: int) -> None:
        # Some come together and share a group, others later.
        for _ in range(turns):
            await asyncio.sleep(0)
        receipt = await ingestor.ingest([TextEvent(n, i) for n, i in enumerate(ids)], "", None)
        assert not receipt.refused
        acked.update(ids)

    answers = await asyncio.gather(
        *(request(ids, 3 * n) for n, ids in enumerate(requests)), return_exceptions=True
    )
    await ingestor.close()
    for answer in answers:
        if answer is not None and not isinstance(answer, PodiumError):
            raise answer
    log.close()


@settings(max_examples=8, deadline=None)
@given(
    requests=st.lists(
        st.lists(st.sampled_from("abcdefgh"), min_size=1, max_size=4), min_size=1, max_size=4
    ),
    seed=st.integers(0, 1 << 32),
)
def test_an_acknowledged_event_is_in_the_log_once_whatever_call_the_power_goes_at(
    requests: Requests, seed: int
) -> None:
    whole = CrashableFiles(Random(seed))
    asyncio.run(take_in(whole, requests, set()))
    for crash_at in range(1, whole.calls + 1):
        files = CrashableFiles(Random(seed + crash_at), crash_at)
        acked: set[str] = set()
        # The callers retry everything, acknowledged or not: here on a machine that crashes, too,
        # then on one that does not.
        for later_crash in (crash_at, 1 + crash_at // 2, None):
            files.crash_at = later_crash
            try:
                asyncio.run(take_in(files, requests, acked))
            except (OSError, SyncFailed):
                assert later_crash is not None
            files = files.after_crash()
            first_ones = LogRecords.of(files).first_ones()
            assert len(set(first_ones)) == len(first_ones)
            assert acked <= set(first_ones)
        assert acked == {event_id for ids in requests for event_id in ids} == set(first_ones)
