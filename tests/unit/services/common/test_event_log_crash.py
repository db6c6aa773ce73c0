"""Power is lost at every call to the file system: what was acknowledged is there, once."""

from __future__ import annotations

from pathlib import Path
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.event_log import Damage, LogReader, LogWriter, Salvage, SyncFailed
from tests.support.faulty_files import CrashableFiles

DIRECTORY = Path("log")
DOWN = (OSError, SyncFailed)
Batches = list[list[bytes]]


def arrival_of(payload: bytes) -> int:
    return int(payload.split(b" ")[0])


def heard(damage: Damage) -> None:
    """Power loss may leave a later part of what was not synced and none of an earlier one: that
    looks like damage. What counts is whether what was acknowledged is there."""


SALVAGE = Salvage(arrival_of, heard)


def payloads(sizes: list[list[int]]) -> Batches:
    """Batches of unequal records that tell their place."""
    batches: Batches = []
    arrival = 0
    for batch in sizes:
        batches.append([b"%d %s" % (arrival + n, b"x" * size) for n, size in enumerate(batch)])
        arrival += len(batch)
    return batches


def write(files: CrashableFiles, batches: Batches, segment_bytes: int, acked: list[bytes]) -> None:
    """Writes until the power is lost; ``acked`` gets what a sync returned for."""
    log = LogWriter(DIRECTORY, segment_bytes=segment_bytes, salvage=SALVAGE, files=files)
    for batch in batches:
        log.append(batch)
        log.sync()
        acked += batch
    log.close()


def content(files: CrashableFiles) -> dict[int, bytes]:
    found = LogReader(DIRECTORY, salvage=SALVAGE, files=files).read(1_000)
    assert all(arrival_of(payload) == arrival for arrival, payload in found)
    assert [arrival for arrival, _ in found] == sorted({arrival for arrival, _ in found})
    return dict(found)


def check(kept: dict[int, bytes], acked: list[bytes], everything: list[bytes]) -> None:
    """What was acknowledged is there, and nothing that was never written."""
    assert all(kept.get(arrival) == payload for arrival, payload in enumerate(acked))
    assert all(everything[arrival] == payload for arrival, payload in kept.items())


def test_the_fake_drops_what_is_not_synced() -> None:
    """The tests below are worth as much as the fake."""
    seen = set()
    for seed in range(200):
        files = CrashableFiles(Random(seed))
        handle = files.open(DIRECTORY / "f")
        files.sync_directory(DIRECTORY)
        while files.write(handle, b"a" * 40) < 40:
            files.truncate(handle, 0)
        files.sync(handle)
        files.write(handle, b"b" * 40)
        files.open(DIRECTORY / "unsynced")
        left = files.after_crash()
        data = left.read(DIRECTORY / "f")
        assert data[:40] == b"a" * 40
        seen.add((data[40:], tuple(sorted(left.names(DIRECTORY)))))
    tails = {tail for tail, _ in seen}
    assert {b"", b"b" * 40} <= tails
    assert any(0 in tail and b"b" in tail for tail in tails)
    assert {names for _, names in seen} == {("f",), ("f", "unsynced")}


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 40), max_size=4), min_size=1, max_size=4),
    segment_bytes=st.sampled_from([1, 60, 150, 1 << 20]),
    seed=st.integers(0, 1 << 32),
)
def test_a_crash_at_any_call_loses_nothing_acknowledged(
    sizes: list[list[int]], segment_bytes: int, seed: int
) -> None:
    batches = payloads(sizes)
    everything = [payload for batch in batches for payload in batch]
    whole = CrashableFiles(Random(seed))
    write(whole, batches, segment_bytes, [])
    for crash_at in range(1, whole.calls + 1):
        random = Random(seed + crash_at)
        files = CrashableFiles(random, crash_at)
        acked: list[bytes] = []
        try:
            write(files, batches, segment_bytes, acked)
        except DOWN:
            pass
        else:
            assert crash_at == whole.calls or len(acked) == len(everything)
        # Opening may be cut short, too, and again: what it had cut off is not needed.
        for _ in range(random.randrange(3)):
            files = files.after_crash(random.randint(1, 12))
            try:
                with LogWriter(DIRECTORY, salvage=SALVAGE, files=files):
                    pass
            except DOWN:
                pass
        files = files.after_crash()
        with LogWriter(DIRECTORY, segment_bytes=segment_bytes, salvage=SALVAGE, files=files) as log:
            kept = content(files)
            check(kept, acked, everything)
            after = log.next_arrival
            assert after > max(kept, default=-1)
            assert log.append([b"%d after" % after]) == after
            log.sync()
            assert content(files.after_crash()) == kept | {after: b"%d after" % after}


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.lists(st.integers(0, 40), min_size=1, max_size=4), min_size=2, max_size=4),
    segment_bytes=st.sampled_from([1, 60, 150, 1 << 20]),
    seed=st.integers(0, 1 << 32),
)
def test_a_crash_while_a_failed_write_is_mended(
    sizes: list[list[int]], segment_bytes: int, seed: int
) -> None:
    """The disk is full in the middle of a write, and the power goes while there is room again."""
    batches = payloads(sizes)
    for crash_after in range(1, 15):
        random = Random(seed + crash_after)
        files = CrashableFiles(random)
        log = LogWriter(DIRECTORY, segment_bytes=segment_bytes, salvage=SALVAGE, files=files)
        log.append(batches[0])
        log.sync()
        acked = list(batches[0])
        files.fail_writes_after = random.randint(0, 60)
        try:
            log.append(batches[1])
            log.sync()
            acked += batches[1]
        except DOWN:
            files.fail_writes_after = None
            files.crash_at = files.calls + crash_after
            try:
                log.recover()
                wanted = [p for p in batches[1] if arrival_of(p) >= log.next_arrival]
                log.append(wanted)
                log.sync()
                acked += batches[1]
            except DOWN:
                pass
        files = files.after_crash()
        with LogWriter(DIRECTORY, salvage=SALVAGE, files=files):
            kept = content(files)
        check(kept, acked, [*batches[0], *batches[1]])
