"""The event log: order, torn tails, corruption, locking, tailing."""

from __future__ import annotations

from errno import EIO
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.errors import FailedPrecondition, NotFound
from services.common.event_log import (
    HEADER,
    LogCorrupt,
    LogReader,
    LogWriter,
    SyncFailed,
    frame,
    read_log,
    segment_path,
)
from tests.support.faulty_files import FailingFiles


def _write(directory: Path, payloads: list[bytes], segment_bytes: int = 64 << 20) -> None:
    with LogWriter(directory, segment_bytes=segment_bytes) as log:
        log.append(payloads)


@settings(max_examples=40, deadline=None)
@given(
    batches=st.lists(st.lists(st.binary(min_size=1, max_size=40), max_size=6), max_size=6),
    segment_bytes=st.integers(1, 200),
    start=st.integers(0, 20),
    length=st.integers(0, 20),
)
def test_reads_back_what_was_written_over_reopenings(
    tmp_path_factory: pytest.TempPathFactory,
    batches: list[list[bytes]],
    segment_bytes: int,
    start: int,
    length: int,
) -> None:
    directory = tmp_path_factory.mktemp("log")
    written: list[bytes] = []
    for batch in batches:
        with LogWriter(directory, segment_bytes=segment_bytes) as log:
            assert log.append(batch) == len(written)
            written += batch
            assert log.next_arrival == len(written)
    expected = list(enumerate(written))
    assert list(read_log(directory)) == expected
    assert list(read_log(directory, start, start + length)) == expected[start : start + length]
    reader, tailed = LogReader(directory, start), []
    while chunk := reader.read(3):
        tailed += chunk
    assert tailed == expected[start:]


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_a_cut_anywhere_loses_only_the_torn_record(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("log")
    payloads = data.draw(st.lists(st.binary(min_size=1, max_size=20), min_size=1, max_size=5))
    _write(directory, payloads)
    path = segment_path(directory, 0)
    size = data.draw(st.integers(0, path.stat().st_size - 1))
    path.write_bytes(path.read_bytes()[:size])
    whole, end = 0, 0
    for payload in payloads:
        end += HEADER.size + len(payload)
        if end > size:
            break
        whole += 1
    assert [p for _, p in read_log(directory)] == payloads[:whole]
    with LogWriter(directory) as log:
        assert log.next_arrival == whole
        log.append([b"after"])
    assert [p for _, p in read_log(directory)] == [*payloads[:whole], b"after"]


def test_a_garbage_tail_is_cut_and_kept_beside(tmp_path: Path) -> None:
    _write(tmp_path, [b"one", b"two"])
    path = segment_path(tmp_path, 0)
    sound = path.read_bytes()
    path.write_bytes(sound + b"\xff" * 30)
    assert [p for _, p in read_log(tmp_path)] == [b"one", b"two"]
    with LogWriter(tmp_path) as log:
        assert log.next_arrival == 2
    assert path.read_bytes() == sound
    kept = path.with_name(f"{path.stem}-{len(sound)}.torn")
    assert kept.read_bytes() == b"\xff" * 30


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 60), min_size=1, max_size=8),
    room=st.integers(0, 400),
    segment_bytes=st.sampled_from([50, 150, 1 << 20]),
)
def test_a_writer_recovers_from_a_full_disk(
    tmp_path_factory: pytest.TempPathFactory, sizes: list[int], room: int, segment_bytes: int
) -> None:
    directory = tmp_path_factory.mktemp("log")
    payloads = [bytes([number]) * size for number, size in enumerate(sizes)]
    files = FailingFiles()
    log = LogWriter(directory, segment_bytes=segment_bytes, files=files)
    log.append([b"before"])
    log.sync()
    files.room = room
    full = False
    try:
        log.append(payloads)
        log.sync()
    except OSError:
        full = True
        with pytest.raises(FailedPrecondition):
            log.append([b"refused"])
    files.room = None
    log.recover()
    kept = log.next_arrival - 1
    assert kept == len(payloads) if not full else kept < len(payloads)
    assert log.append([b"after"]) == kept + 1
    log.close()
    assert list(read_log(directory)) == list(enumerate([b"before", *payloads[:kept], b"after"]))


def test_a_writer_does_not_recover_from_a_failed_sync(tmp_path: Path) -> None:
    files = FailingFiles()
    log = LogWriter(tmp_path, files=files)
    log.append([b"one"])
    log.sync()
    log.append([b"two"])
    files.sync_error = OSError(EIO, "input/output error")
    with pytest.raises(SyncFailed, match="input/output"):
        log.sync()
    files.sync_error = None
    with pytest.raises(FailedPrecondition):
        log.recover()
    log.close()
    # What the failed sync left in the system's memory alone is not taken for stored later.
    assert list(read_log(tmp_path)) == [(0, b"one")]


@pytest.mark.parametrize("at", [0, 4, 11])
def test_sound_records_behind_a_bad_one_are_not_cut_off(tmp_path: Path, at: int) -> None:
    _write(tmp_path, [b"a" * 10, b"b" * 10, b"c" * 10])
    path = segment_path(tmp_path, 0)
    damaged = bytearray(path.read_bytes())
    damaged[18 + at] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(LogCorrupt, match=r"00\.segment: record 1 at byte 18 is bad"):
        LogWriter(tmp_path)
    assert path.read_bytes() == damaged
    # A spool goes on: what it holds is worth less than the process.
    with LogWriter(tmp_path, durable=False) as log:
        assert log.next_arrival == 1


def test_zeros_at_the_end_are_no_records(tmp_path: Path) -> None:
    _write(tmp_path, [b"one"])
    path = segment_path(tmp_path, 0)
    path.write_bytes(path.read_bytes() + bytes(4096))
    assert list(read_log(tmp_path)) == [(0, b"one")]
    with LogWriter(tmp_path) as log:
        assert log.next_arrival == 1
        with pytest.raises(ValueError, match="0 bytes"):
            log.append([b""])


def test_a_flipped_byte_before_the_last_segment_is_reported(tmp_path: Path) -> None:
    _write(tmp_path, [b"a" * 10, b"b" * 10, b"c" * 10], segment_bytes=40)
    assert len(list(tmp_path.glob("*.segment"))) == 2
    path = segment_path(tmp_path, 0)
    damaged = bytearray(path.read_bytes())
    damaged[HEADER.size + 3] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(LogCorrupt, match="record 0 at byte 0"):
        list(read_log(tmp_path))


def test_sound_records_before_a_bad_one_are_read_first(tmp_path: Path) -> None:
    _write(tmp_path, [b"a" * 10, b"b" * 10, b"c" * 10], segment_bytes=20)
    path = segment_path(tmp_path, 1)
    path.write_bytes(path.read_bytes()[:-1])
    reader = LogReader(tmp_path)
    assert reader.read(10) == [(0, b"a" * 10)]
    with pytest.raises(LogCorrupt, match="record 1"):
        reader.read(10)


def test_only_one_writer_at_a_time(tmp_path: Path) -> None:
    with LogWriter(tmp_path), pytest.raises(FailedPrecondition) as refused:
        LogWriter(tmp_path)
    assert refused.value.reason == "LOG_LOCKED"
    LogWriter(tmp_path).close()


def test_a_reader_follows_the_writer_over_segments(tmp_path: Path) -> None:
    reader = LogReader(tmp_path)
    assert reader.read(10) == []
    with LogWriter(tmp_path, segment_bytes=30) as log:
        assert reader.read(10) == []
        for number in range(20):
            log.append([b"record %d" % number])
            log.sync()
            assert reader.read(10) == [(number, b"record %d" % number)]
            assert reader.read(10) == []


def test_a_reader_waits_for_a_half_written_record(tmp_path: Path) -> None:
    _write(tmp_path, [b"one"])
    reader = LogReader(tmp_path)
    assert reader.read(5) == [(0, b"one")]
    record = frame(b"two")
    path = segment_path(tmp_path, 0)
    for end in range(1, len(record)):
        path.write_bytes(frame(b"one") + record[:end])
        assert reader.read(5) == []
    path.write_bytes(frame(b"one") + record)
    assert reader.read(5) == [(1, b"two")]


def test_a_record_larger_than_the_reading_chunk(tmp_path: Path) -> None:
    big = bytes(range(256)) * (5 << 12)
    _write(tmp_path, [b"small", big, b"last"], segment_bytes=1 << 20)
    assert [p for _, p in read_log(tmp_path)] == [b"small", big, b"last"]
    assert LogReader(tmp_path, 2).read(1) == [(2, b"last")]


def test_a_foreign_file_is_no_segment(tmp_path: Path) -> None:
    for name in ("x.segment", "\u00b2\u00b3.segment"):
        (tmp_path / name).write_bytes(b"")
    with LogWriter(tmp_path) as writer:
        writer.append([b"a"])
    assert list(read_log(tmp_path)) == [(0, b"a")]


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        list(read_log(tmp_path / "nowhere"))


def test_a_closed_writer_refuses(tmp_path: Path) -> None:
    log = LogWriter(tmp_path)
    log.close()
    log.close()
    with pytest.raises(FailedPrecondition):
        log.append([b"late"])
