"""Taking events into the log: durability, refusals, numbering."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from errno import EDQUOT, EIO, ENOSPC
from pathlib import Path

import pytest

from services.common.errors import FailedPrecondition, Overloaded, Unavailable
from services.common.event_log import LogWriter, read_log
from services.feature.ingest.log import Ingestor
from services.feature.ingest.types import IngestLimits
from services.feature.store.embedded import EmbeddedStore
from services.feature.store.protocol import Claim
from tests.support.faulty_files import FailingFiles

DAY_MS = 86_400_000
NOW_MS = 20_000 * DAY_MS


@dataclass
class FakeLog:
    """Records in memory; what is not synced is not durable. ``broken`` makes syncing fail."""

    next_arrival: int = 0
    broken: bool = False
    durable: list[bytes] = field(default_factory=list)
    syncs: int = 0
    _buffered: list[bytes] = field(default_factory=list)

    def append(self, payloads: Sequence[bytes]) -> int:
        first = self.next_arrival
        self._buffered += payloads
        self.next_arrival += len(payloads)
        return first

    def sync(self) -> None:
        if self.broken:
            raise OSError("no space left on device")
        self.syncs += 1
        self.durable += self._buffered
        self._buffered.clear()

    def recover(self) -> None:
        if self.broken or self._buffered:
            raise FailedPrecondition("a sync failed")


@dataclass
class FakeEvent:
    index: int
    event_id: str
    fingerprint: bytes = b"content"
    too_late: bool = False

    def is_known_by(self, fingerprint: bytes) -> bool:
        return fingerprint == self.fingerprint

    def payload(
        self,
        arrival: int,
        arrival_ms: int,
        producer: str,
        sequence: int | None,
        *,
        duplicate: bool = False,
    ) -> bytes:
        assert arrival_ms == NOW_MS
        mark = " duplicate" if duplicate else ""
        return f"{arrival} {self.event_id} {producer} {sequence}{mark}".encode()


class UnstorableEvent(FakeEvent):
    def payload(self, *_: object, **__: object) -> bytes:
        raise ValueError("out of range")


def events(*ids: str) -> list[FakeEvent]:
    return [FakeEvent(index, event_id) for index, event_id in enumerate(ids)]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path)
    yield store
    store.close()


@dataclass
class Setup:
    log: FakeLog
    store: EmbeddedStore
    gaps: list[tuple[str, int]] = field(default_factory=list)

    def ingestor(self, **limits: int) -> Ingestor:
        ingestor = Ingestor(
            self.log,
            self.store,
            lambda: NOW_MS,
            gaps=lambda producer, missing: self.gaps.append((producer, missing)),
            limits=IngestLimits(**limits),
        )
        ingestor.start()
        return ingestor


@pytest.fixture
def setup(store: EmbeddedStore) -> Setup:
    return Setup(FakeLog(), store)


def test_an_answer_means_the_event_is_durable(setup: Setup) -> None:
    async def scenario() -> None:
        ingestor = setup.ingestor()
        receipt = await ingestor.ingest(events("a", "b"), "", None)
        assert setup.log.durable == [b"0 a  None", b"1 b  None"]
        assert (receipt.accepted, receipt.log_position) == (2, 2)
        await ingestor.close()

    asyncio.run(scenario())


def test_requests_that_wait_together_share_a_sync(setup: Setup) -> None:
    async def scenario() -> None:
        ingestor = setup.ingestor()
        receipts = await asyncio.gather(
            *(ingestor.ingest(events(f"e{n}"), "", None) for n in range(50))
        )
        assert sum(receipt.accepted for receipt in receipts) == 50
        assert len(setup.log.durable) == 50
        assert setup.log.syncs < 5
        await ingestor.close()

    asyncio.run(scenario())


def test_a_failed_sync_acknowledges_nothing_and_stops_ingest(setup: Setup) -> None:
    async def scenario() -> None:
        ingestor = setup.ingestor()
        setup.log.broken = True
        with pytest.raises(Unavailable, match="can't be written"):
            await ingestor.ingest(events("a"), "", None)
        setup.log.broken = False
        with pytest.raises(Unavailable):
            await ingestor.ingest(events("b"), "", None)
        assert setup.log.durable == []
        await ingestor.close()

    asyncio.run(scenario())


@pytest.mark.parametrize("errno", [ENOSPC, EDQUOT])
def test_ingest_goes_on_when_a_full_disk_has_room_again(
    store: EmbeddedStore, tmp_path: Path, errno: int
) -> None:
    directory = tmp_path / "log"
    files = FailingFiles()
    files.full = lambda: OSError(errno, "no room")

    async def scenario() -> None:
        log = LogWriter(directory, files=files)
        ingestor = Ingestor(log, store, lambda: NOW_MS, gaps=lambda *_: None)
        ingestor.start()
        await ingestor.ingest(events("a"), "", None)
        for _ in range(2):
            # The first record and part of the second.
            files.room = 25
            with pytest.raises(Overloaded) as refused:
                await ingestor.ingest(events("b", "c"), "", None)
            assert refused.value.reason == "DISK_FULL"
        files.room = None
        receipt = await ingestor.ingest(events("b", "c", "d"), "", None)
        assert (receipt.accepted, receipt.duplicates, receipt.log_position) == (2, 1, 5)
        await ingestor.close()
        log.close()

    asyncio.run(scenario())
    assert [payload for _, payload in read_log(directory)] == [
        b"0 a  None",
        b"1 b  None",
        b"2 b  None duplicate",
        b"3 c  None",
        b"4 d  None",
    ]


def test_any_other_failure_to_write_is_unavailable(store: EmbeddedStore, tmp_path: Path) -> None:
    files = FailingFiles()
    files.full = lambda: OSError(EIO, "broken")

    async def scenario() -> None:
        log = LogWriter(tmp_path / "log", files=files)
        ingestor = Ingestor(log, store, lambda: NOW_MS, gaps=lambda *_: None)
        ingestor.start()
        files.room = 0
        with pytest.raises(Unavailable) as refused:
            await ingestor.ingest(events("a"), "", None)
        assert refused.value.reason == "LOG_UNAVAILABLE"
        assert not ingestor.broken.is_set()
        await ingestor.close()
        log.close()

    asyncio.run(scenario())


def test_after_a_failed_sync_nothing_is_taken_and_the_owner_says_so(
    store: EmbeddedStore, tmp_path: Path
) -> None:
    files = FailingFiles()

    async def scenario() -> None:
        log = LogWriter(tmp_path / "log", files=files)
        ingestor = Ingestor(log, store, lambda: NOW_MS, gaps=lambda *_: None)
        ingestor.start()
        await ingestor.ingest(events("a"), "", None)
        files.sync_error = OSError(EIO, "broken")
        with pytest.raises(Unavailable):
            await ingestor.ingest(events("b"), "", None)
        await asyncio.wait_for(ingestor.broken.wait(), 10)
        files.sync_error = None
        with pytest.raises(Unavailable):
            await ingestor.ingest(events("c"), "", None)
        await ingestor.close()
        log.close()

    asyncio.run(scenario())
    assert [payload for _, payload in read_log(tmp_path / "log")] == [b"0 a  None"]


def test_duplicates_and_late_events_are_written_and_told(setup: Setup) -> None:
    async def scenario() -> None:
        ingestor = setup.ingestor()
        late = FakeEvent(1, "b", too_late=True)
        receipt = await ingestor.ingest([*events("a"), late], "", None)
        assert (receipt.accepted, receipt.too_late) == (2, 1)
        receipt = await ingestor.ingest([*events("a"), late], "", None)
        assert (receipt.accepted, receipt.duplicates, receipt.too_late) == (0, 2, 0)
        assert receipt.log_position == 4
        other = FakeEvent(0, "a", b"other content")
        (conflict,) = (await ingestor.ingest([other], "", None)).refused
        assert conflict.error.reason == "EVENT_ID_CONFLICT"
        assert setup.log.durable == [
            b"0 a  None",
            b"1 b  None",
            b"2 a  None duplicate",
            b"3 b  None duplicate",
        ]
        await ingestor.close()

    asyncio.run(scenario())


def test_an_event_that_can_not_be_stored_is_refused_alone(setup: Setup) -> None:
    async def scenario() -> None:
        ingestor = setup.ingestor()
        batch = [*events("a"), UnstorableEvent(1, "b"), FakeEvent(2, "c")]
        receipt = await ingestor.ingest(batch, "", None)
        assert receipt.accepted == 2
        assert [refused.event_id for refused in receipt.refused] == ["b"]
        assert setup.log.durable == [b"0 a  None", b"1 c  None"]
        await ingestor.close()

    asyncio.run(scenario())


def test_closing_ends_though_the_last_write_fails(setup: Setup) -> None:
    async def scenario() -> None:
        ingestor = setup.ingestor()
        setup.log.broken = True
        waiting = asyncio.create_task(ingestor.ingest(events("a"), "", None))
        await asyncio.sleep(0)
        await asyncio.wait_for(ingestor.close(), 10)
        with pytest.raises(Unavailable):
            await waiting

    asyncio.run(scenario())


def test_a_backlog_of_applying_refuses(setup: Setup) -> None:
    async def scenario() -> None:
        ingestor = setup.ingestor(max_unapplied_events=3)
        await ingestor.ingest(events("a", "b", "c", "d"), "", None)
        with pytest.raises(Overloaded) as refused:
            await ingestor.ingest(events("e"), "", None)
        assert refused.value.reason == "APPLY_BACKLOG"
        ingestor.applied_through(4)
        assert (await ingestor.ingest(events("e"), "", None)).accepted == 1
        await ingestor.close()

    asyncio.run(scenario())


def test_too_much_waiting_refuses(setup: Setup) -> None:
    async def scenario() -> None:
        ingestor = setup.ingestor(max_waiting_events=3)
        first = asyncio.create_task(ingestor.ingest(events("a", "b"), "", None))
        second = asyncio.create_task(ingestor.ingest(events("c", "d"), "", None))
        done = await asyncio.gather(first, second, return_exceptions=True)
        assert [type(answer).__name__ for answer in done] == ["Receipt", "Overloaded"]
        await ingestor.close()

    asyncio.run(scenario())


def test_ids_are_known_from_the_store_once_applied(setup: Setup) -> None:
    async def scenario() -> None:
        ingestor = setup.ingestor()
        await ingestor.ingest(events("a"), "", None)
        with setup.store.write() as transaction:
            transaction.claim([Claim("a", NOW_MS // DAY_MS, b"content", 0)])
            transaction.claim([Claim("week", NOW_MS // DAY_MS - 7, b"content", 0)])
            transaction.claim([Claim("older", NOW_MS // DAY_MS - 8, b"content", 0)])
            # Stored while the clock was ahead by more than the rest of the day.
            transaction.claim([Claim("tomorrow", NOW_MS // DAY_MS + 1, b"content", 0)])
        ingestor.applied_through(1)
        receipt = await ingestor.ingest(events("a", "week", "older", "tomorrow"), "", None)
        assert (receipt.accepted, receipt.duplicates) == (1, 3)
        await ingestor.close()

    asyncio.run(scenario())


def test_producers_numbers_are_stored_and_gaps_counted(setup: Setup) -> None:
    async def scenario() -> None:
        with setup.store.write() as transaction:
            transaction.put_next_sequence("spool", 10)
        ingestor = setup.ingestor()
        await ingestor.ingest(events("a", "b"), "spool", 10)
        await ingestor.ingest(events("c"), "spool", 15)
        await ingestor.ingest(events("b", "c"), "spool", 11)
        await ingestor.ingest(events("d"), "spool", 16)
        assert setup.log.durable == [
            b"0 a spool 10",
            b"1 b spool 11",
            b"2 c spool 15",
            b"3 b spool 11 duplicate",
            b"4 c spool 12 duplicate",
            b"5 d spool 16",
        ]
        assert setup.gaps == [("spool", 3)]
        await ingestor.close()

    asyncio.run(scenario())


def test_closing_writes_what_waits(setup: Setup) -> None:
    async def scenario() -> None:
        ingestor = setup.ingestor()
        waiting = asyncio.create_task(ingestor.ingest(events("a"), "", None))
        await asyncio.sleep(0)
        await ingestor.close()
        assert (await waiting).accepted == 1
        with pytest.raises(Unavailable):
            await ingestor.ingest(events("b"), "", None)

    asyncio.run(scenario())


def test_arrival_times_never_go_back(setup: Setup) -> None:
    clock = iter([NOW_MS, NOW_MS - 5_000, NOW_MS + 1])
    arrivals: list[object] = []

    class Timed(FakeEvent):
        def payload(self, *said: object, **_: object) -> bytes:
            arrivals.append(said[1])
            return b"{}"

    async def scenario() -> None:
        ingestor = Ingestor(setup.log, setup.store, lambda: next(clock), gaps=lambda *_: None)
        ingestor.start()
        for event_id in "abc":
            await ingestor.ingest([Timed(0, event_id)], "", None)
        await ingestor.close()

    asyncio.run(scenario())
    assert arrivals == [NOW_MS, NOW_MS, NOW_MS + 1]
