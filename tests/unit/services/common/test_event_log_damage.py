"""Damage to a log: the rest is read under its own arrivals, and what is lost is named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.event_log import (
    HEADER,
    Damage,
    DamageReport,
    LogCorrupt,
    LogReader,
    LogWriter,
    Salvage,
    last_payload_before,
    list_segments,
    read_log,
    segment_path,
)


def record(arrival: int, size: int = 20) -> bytes:
    return b"%d " % arrival + b"x" * size


def arrival_of(payload: bytes) -> int | None:
    told = payload.split(b" ")[0]
    return int(told) if told.isdigit() else None


def tells_nothing(payload: bytes) -> None:
    return None


class Salvaged:
    """A way past damage that keeps what it was told."""

    def __init__(self, *, arrivals: bool = True) -> None:
        self.damage: list[Damage] = []
        self.salvage = Salvage(arrival_of if arrivals else tells_nothing, self.damage.append)


def write(directory: Path, count: int, segment_bytes: int = 64 << 20, size: int = 20) -> None:
    with LogWriter(directory, segment_bytes=segment_bytes) as log:
        log.append([record(arrival, size) for arrival in range(count)])


def place(directory: Path, arrival: int, size: int = 20) -> tuple[Path, int]:
    """File and byte where a record begins."""
    segments = [s for s in list_segments(directory) if s.first_arrival <= arrival]
    before = range(segments[-1].first_arrival, arrival)
    return segments[-1].path, sum(HEADER.size + len(record(n, size)) for n in before)


def change(path: Path, offset: int, data: bytes) -> None:
    content = bytearray(path.read_bytes())
    content[offset : offset + len(data)] = data
    path.write_bytes(content)


def flip(path: Path, offset: int, bits: int = 1) -> None:
    change(path, offset, bytes([path.read_bytes()[offset] ^ bits]))


@pytest.mark.parametrize("at", [0, 3, 5, HEADER.size, HEADER.size + 9])
@pytest.mark.parametrize("segment_bytes", [100, 64 << 20])
def test_a_flipped_byte_costs_one_record(tmp_path: Path, at: int, segment_bytes: int) -> None:
    write(tmp_path, 20, segment_bytes)
    path, offset = place(tmp_path, 7)
    flip(path, offset + at)
    found = Salvaged()
    # Whoever opens the log goes on behind the damage, and in a segment of its own.
    with LogWriter(tmp_path, segment_bytes=segment_bytes, salvage=found.salvage) as log:
        assert log.next_arrival == 20
        log.append([record(20)])
    found = Salvaged()
    read = list(read_log(tmp_path, salvage=found.salvage))
    assert read == [(n, record(n)) for n in range(21) if n != 7]
    (damage,) = found.damage
    assert (damage.kind, damage.segment, damage.offset) == ("bad", path.name, offset)
    assert (damage.first_arrival, damage.records) == (7, 1)
    assert damage.bytes == HEADER.size + len(record(7))


def test_without_a_way_past_it_a_flipped_byte_raises(tmp_path: Path) -> None:
    write(tmp_path, 20)
    path, offset = place(tmp_path, 7)
    flip(path, offset + HEADER.size)
    with pytest.raises(LogCorrupt, match="record 7"):
        LogWriter(tmp_path)


@pytest.mark.parametrize("length", [60, 300, 5_000])
def test_zeros_over_several_records(tmp_path: Path, length: int) -> None:
    write(tmp_path, 400)
    path, offset = place(tmp_path, 50)
    change(path, offset + 11, bytes(length))
    found = Salvaged()
    with LogWriter(tmp_path, salvage=found.salvage) as log:
        assert log.next_arrival == 400
    read = list(read_log(tmp_path, salvage=Salvaged().salvage))
    (damage,) = found.damage
    assert damage.records is not None
    lost = range(50, 50 + damage.records)
    assert read == [(n, record(n)) for n in range(400) if n not in lost]
    assert damage.records == -(-(11 + length) // (HEADER.size + len(record(50)))) or length > 1_000
    assert damage.bytes >= length


def test_a_lost_end_of_a_segment_is_told_by_the_next_ones_name(tmp_path: Path) -> None:
    write(tmp_path, 20, 200)
    second = list_segments(tmp_path)[1]
    third = list_segments(tmp_path)[2]
    data = second.path.read_bytes()
    second.path.write_bytes(data[: len(data) // 2])
    found = Salvaged()
    read = list(read_log(tmp_path, salvage=found.salvage))
    (damage,) = found.damage
    assert damage.records is not None
    assert damage.segment == second.path.name
    assert damage.first_arrival + damage.records == third.first_arrival
    lost = range(damage.first_arrival, third.first_arrival)
    assert read == [(n, record(n)) for n in range(20) if n not in lost]


def test_missing_segments_are_named(tmp_path: Path) -> None:
    write(tmp_path, 40, 200)
    segments = list_segments(tmp_path)
    for gone in (segments[0], segments[2], segments[3]):
        gone.path.unlink()
    found = Salvaged()
    read = [arrival for arrival, _ in read_log(tmp_path, salvage=found.salvage)]
    lost = {
        *range(segments[1].first_arrival),
        *range(segments[2].first_arrival, segments[4].first_arrival),
    }
    assert read == [n for n in range(40) if n not in lost]
    assert [damage.kind for damage in found.damage] == ["missing", "missing"]
    assert sum(damage.records or 0 for damage in found.damage) == len(lost)


def test_a_torn_tail_is_named_and_kept(tmp_path: Path) -> None:
    write(tmp_path, 3)
    path = segment_path(tmp_path, 0)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes() + b"torn")
    found = Salvaged()
    with LogWriter(tmp_path, salvage=found.salvage) as log:
        assert log.next_arrival == 3
    kept = f"{path.stem}-{size}.torn"
    assert found.damage == [Damage("torn", path.name, size, 4, 3, None, kept)]
    assert (tmp_path / kept).read_bytes() == b"torn"


def test_payloads_that_tell_no_arrival_lose_the_least_there_can_be(tmp_path: Path) -> None:
    write(tmp_path, 20, 400)
    path, offset = place(tmp_path, 3)
    change(path, offset, bytes(2 * (HEADER.size + len(record(3)))))
    second = list_segments(tmp_path)[1].first_arrival
    found = Salvaged(arrivals=False)
    read = list(read_log(tmp_path, salvage=found.salvage))
    # Two are lost; that the first segment ends one too early is noticed at its end.
    assert [damage.records for damage in found.damage] == [1, 1]
    assert read[second - 2 :] == [(n, record(n)) for n in range(second, 20)]


def test_a_record_that_lies_about_its_arrival_is_not_believed(tmp_path: Path) -> None:
    with LogWriter(tmp_path) as log:
        log.append([b"0 a", b"1 b", b"900000 c", b"3 d"])
    path = segment_path(tmp_path, 0)
    flip(path, HEADER.size + 3 + HEADER.size)
    found = Salvaged()
    read = list(read_log(tmp_path, salvage=found.salvage))
    assert read == [(0, b"0 a")]
    with LogWriter(tmp_path, salvage=found.salvage) as log:
        assert log.next_arrival == 4
    read = list(read_log(tmp_path, salvage=found.salvage))
    assert read == [(0, b"0 a"), (2, b"900000 c"), (3, b"3 d")]


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_any_damage_leaves_the_rest_under_its_arrivals(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    directory = tmp_path_factory.mktemp("log")
    segment_bytes = data.draw(st.sampled_from([100, 250, 1 << 20]), "segment_bytes")
    write(directory, 30, segment_bytes)
    spoilt: set[int] = set()
    for _ in range(data.draw(st.integers(1, 3), "wounds")):
        segment = data.draw(st.sampled_from(list_segments(directory)), "segment")
        content = segment.path.read_bytes()
        start = data.draw(st.integers(0, len(content) - 1), "start")
        wound = data.draw(st.one_of(st.binary(min_size=1, max_size=80), st.just(bytes(70))))
        wound = wound[: len(content) - start]
        begin = 0
        for arrival in range(segment.first_arrival, 30):
            end = begin + HEADER.size + len(record(arrival))
            if begin >= len(content):
                break
            if begin < start + len(wound) and start < end:
                spoilt.add(arrival)
            begin = end
        change(segment.path, start, wound)
    last_sound = max(set(range(30)) - spoilt, default=-1)
    found = Salvaged()
    with LogWriter(directory, segment_bytes=segment_bytes, salvage=found.salvage) as log:
        assert log.next_arrival > last_sound
        next_arrival = log.next_arrival
        log.append([record(next_arrival)])
    found = Salvaged()
    read = dict(read_log(directory, salvage=found.salvage))
    assert read.keys() >= set(range(30)) - spoilt
    assert read.keys() <= {*range(30), next_arrival}
    # A wound that happens to write what was there changed nothing; nothing else comes out changed.
    assert all(payload == record(arrival) for arrival, payload in read.items())
    told = {
        n
        for damage in found.damage
        for n in range(damage.first_arrival, damage.first_arrival + (damage.records or 0))
    }
    assert told == set(range(next_arrival)) - read.keys()
    for start in (0, 7, 29):
        later = dict(read_log(directory, start, salvage=Salvaged().salvage))
        assert later == {n: payload for n, payload in read.items() if n >= start}
    for before in (1, 15, 31):
        below = [n for n in read if n < before]
        expected = read[max(below)] if below else None
        assert last_payload_before(directory, before, Salvaged().salvage) == expected


def test_damage_in_the_segment_being_written_is_passed_where_more_is_known_to_follow(
    tmp_path: Path,
) -> None:
    write(tmp_path, 5)
    path, offset = place(tmp_path, 2)
    flip(path, offset + 1)
    found = Salvaged()
    waiting = LogReader(tmp_path, salvage=found.salvage)
    # It might be a record that is being written: nothing says that more follows.
    assert [arrival for arrival, _ in waiting.read(10)] == [0, 1]
    assert [arrival for arrival, _ in waiting.read(10, through=4)] == [3]
    assert waiting.read(10, through=4) == []
    assert [arrival for arrival, _ in waiting.read(10, through=5)] == [4]
    assert [damage.records for damage in found.damage] == [1]


def test_the_report_keeps_each_damage_once(tmp_path: Path) -> None:
    report = DamageReport(tmp_path)
    first = Damage("bad", "00000000000000000007.segment", 10, 30, 8, 2)
    second = Damage("torn", "00000000000000000007.segment", 90, 5, 12, None, "kept")
    other = Damage("missing", "00000000000000000000.segment", 4, 0, 1, 6)
    for damage in (second, first, other, first):
        report.add(damage)
    assert DamageReport(tmp_path).all() == [other, first, second]
    assert str(first) == (
        "00000000000000000007.segment: 30 bytes from byte 10 are bad: 2 records from 8 on are lost"
    )
    (tmp_path / "00000000000000000007.damage").write_bytes(b"spoilt")
    assert report.all() == [other]
    report.add(first)
    assert report.all() == [other, first]
