"""Archiving a log: nothing lost, nothing twice, the same files however it came about."""

from __future__ import annotations

import shutil
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory

import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.archive.columns import SCHEMA
from offline.archive.compact import compact_log, durable_end
from offline.archive.manifest import Manifest
from offline.archive.read import read_archive, read_history
from offline.archive.source import EventFilter, open_source
from offline.archive.target import LocalTarget
from offline.archive.writer import load_manifest
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.errors import FailedPrecondition, NotFound
from services.common.event_log import LogCorrupt, LogWriter, read_log
from tests.support.archives import (
    DAY_MS,
    SMALL,
    Crash,
    CrashingTarget,
    append,
    contents,
    payloads,
    spoil,
)

RECORDS = payloads(5, 70)
GOLDEN = Path(__file__).parents[3] / "golden"


def archived(directory: Path) -> list[tuple[int, bytes]]:
    return list(read_archive(LocalTarget(directory)))


def manifest(directory: Path) -> Manifest:
    return load_manifest(LocalTarget(directory))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return append(tmp_path / "log", RECORDS)


@pytest.fixture
def archive(log: Path, tmp_path: Path) -> Path:
    compact_log(log, LocalTarget(tmp_path / "archive"), limits=SMALL)
    return tmp_path / "archive"


def test_every_record_is_kept_byte_for_byte(log: Path, archive: Path) -> None:
    assert archived(archive) == list(read_log(log)) == list(enumerate(RECORDS))
    assert list(read_archive(LocalTarget(archive), 17, 44)) == list(enumerate(RECORDS))[17:44]
    assert manifest(archive).records == manifest(archive).next_arrival == len(RECORDS)


def test_files_lie_under_the_utc_date_of_arrival(archive: Path) -> None:
    found = manifest(archive)
    assert len(found.batches) > 2
    for batch, following in pairwise(found.batches):
        assert batch.next_arrival == following.first_arrival
        assert batch.closed
    for batch in found.batches:
        assert len(batch.files) <= SMALL.dates
        for file in batch.files:
            table = pq.read_table(archive / file.name, partitioning=None)
            assert table.schema.equals(SCHEMA)
            days = {moment.date() for moment in table["arrival_time"].to_pylist()}
            assert days == {file.date}
            assert file.name.startswith(f"date={file.date}/")
            assert table.num_rows == file.records
            assert (archive / file.name).stat().st_size == file.size_bytes


def test_columns_say_what_the_events_say(archive: Path) -> None:
    rows = []
    for file in sorted(manifest(archive).names()):
        rows += pq.read_table(archive / file, partitioning=None).to_pylist()
    rows.sort(key=lambda row: row["arrival"])
    for row, record in zip(rows, RECORDS, strict=True):
        logged = LoggedEvent.FromString(record)
        event = logged.event
        assert row["record"] == record
        assert row["event_id"] == event.event_id
        assert row["type"] == event.type
        assert (row["user_id"] or "") == event.actor.user_id
        assert (row["device_id"] or "") == event.actor.device_id
        assert (row["rank_id"] or "") == event.rank_id
        assert (row["surface"] or "") == event.surface
        assert row["position"] == (event.position if event.HasField("position") else None)
        assert row["event_time"] == event.event_time.ToDatetime(UTC)
        assert row["arrival_time"] == logged.arrival_time.ToDatetime(UTC)
        assert [(e["type"], e["id"]) for e in row["entities"]] == [
            (e.type, e.id) for e in event.entities
        ]
        said = {name: str(value.int_value) for name, value in event.attributes.items()}
        assert dict(row["attributes"]) == said
        assert row["payload_kind"] == event.WhichOneof("payload")
        assert row["duplicate"] == logged.duplicate
        assert row["too_late"] == logged.too_late
        assert row["traffic_class"] == ("test" if event.traffic_class else "live")
    assert {row["type"] for row in rows} > {"purchase", "refund", "impression"}
    for row in rows:
        assert (row["amount_minor"] is not None) == (row["type"] in ("purchase", "refund"))


@settings(max_examples=8, deadline=None)
@given(st.lists(st.integers(0, len(RECORDS)), max_size=3))
def test_the_files_do_not_tell_how_often_it_was_compacted(cuts: list[int]) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        for start, end in pairwise([0, *sorted(cuts), len(RECORDS)]):
            append(folder / "log", RECORDS[start:end])
            compact_log(folder / "log", LocalTarget(folder / "parts"), limits=SMALL)
        compact_log(folder / "log", LocalTarget(folder / "whole"), limits=SMALL)
        assert contents(folder / "parts") == contents(folder / "whole")
        again = compact_log(folder / "log", LocalTarget(folder / "parts"), limits=SMALL)
        assert again.records == 0
        assert contents(folder / "parts") == contents(folder / "whole")


@settings(max_examples=16, deadline=None)
@given(st.integers(0, 12), st.booleans(), st.integers(1, len(RECORDS) - 1))
def test_a_crash_anywhere_loses_and_repeats_nothing(steps: int, after: bool, cut: int) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        append(folder / "log", RECORDS[:cut])
        compact_log(folder / "log", LocalTarget(folder / "crashed"), limits=SMALL)
        append(folder / "log", RECORDS[cut:])
        crashing = CrashingTarget(folder / "crashed", steps, after=after)
        try:
            compact_log(folder / "log", crashing, limits=SMALL)
        except Crash:
            found = archived(folder / "crashed")
            assert found == list(enumerate(RECORDS))[: len(found)]
            assert len(found) >= cut
            target = LocalTarget(folder / "crashed")
            assert list(read_history(folder / "log", target)) == list(enumerate(RECORDS))
        compact_log(folder / "log", LocalTarget(folder / "crashed"), limits=SMALL)
        compact_log(folder / "log", LocalTarget(folder / "whole"), limits=SMALL)
        assert contents(folder / "crashed") == contents(folder / "whole")


def test_dates_that_go_back_and_forth_keep_the_order(tmp_path: Path) -> None:
    log = [LoggedEvent.FromString(record) for record in RECORDS]
    for logged in log:
        logged.arrival_time.FromMilliseconds(logged.arrival * 7 % 5 * DAY_MS)
    records = [logged.SerializeToString() for logged in log]
    target = LocalTarget(tmp_path / "archive")
    compact_log(append(tmp_path / "log", records), target, limits=SMALL)
    assert archived(tmp_path / "archive") == list(enumerate(records))
    assert {file.date for batch in manifest(tmp_path / "archive").batches for file in batch.files}
    assert max(len(batch.files) for batch in manifest(tmp_path / "archive").batches) == 3


def test_a_record_that_is_no_event_is_kept(tmp_path: Path) -> None:
    records = [RECORDS[0], b"\xff\xff\xff", RECORDS[1]]
    target = LocalTarget(tmp_path / "archive")
    compact_log(append(tmp_path / "log", records), target, limits=SMALL)
    assert archived(tmp_path / "archive") == list(enumerate(records))
    (name,) = manifest(tmp_path / "archive").names()
    rows = pq.read_table(tmp_path / "archive" / name, partitioning=None).to_pylist()
    assert [row["type"] is None for row in rows] == [False, True, False]
    assert not rows[1]["duplicate"]


def test_damage_to_the_log_is_a_gap(tmp_path: Path, log: Path) -> None:
    bad = {11, 12, 29, 30, 31, 60}

    spoil(log, bad)
    directory = tmp_path / "archive"
    report = compact_log(log, LocalTarget(directory), limits=SMALL)
    gaps = [(gap.first_arrival, gap.next_arrival, gap.reason) for gap in report.gaps]
    assert gaps == [(11, 13, "damaged"), (29, 32, "damaged"), (60, 61, "damaged")]
    assert [a for a, _ in archived(directory)] == [a for a in range(len(RECORDS)) if a not in bad]
    assert report.records == len(RECORDS) - len(bad)
    assert [told.first_arrival for told in report.damage] == [11, 29, 60]
    assert list(read_history(log, LocalTarget(directory))) == archived(directory)
    append(log, RECORDS[:3])
    second = compact_log(log, LocalTarget(directory), limits=SMALL)
    assert second.gaps == second.damage == ()
    assert second.records == 3
    assert list(manifest(directory).gaps()) == list(report.gaps)


def test_two_writers_exclude_one_another(log: Path, tmp_path: Path) -> None:
    target = LocalTarget(tmp_path / "archive")
    with target.lock(), pytest.raises(FailedPrecondition, match="another process") as refused:
        compact_log(log, target, limits=SMALL)
    assert refused.value.reason == "ARCHIVE_LOCKED"
    assert compact_log(log, target, limits=SMALL).records == len(RECORDS)


def test_another_log_is_refused(archive: Path, tmp_path: Path) -> None:
    other = append(tmp_path / "other", payloads(6, 200))
    with pytest.raises(FailedPrecondition, match="another log"):
        compact_log(other, LocalTarget(archive), limits=SMALL)
    shorter = append(tmp_path / "shorter", RECORDS[:-1])
    with pytest.raises(FailedPrecondition, match="another log"):
        compact_log(shorter, LocalTarget(archive), limits=SMALL)


def test_no_log_is_named_and_makes_no_archive(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no event log"):
        compact_log(tmp_path / "log", LocalTarget(tmp_path / "archive"))
    assert not (tmp_path / "archive").exists()
    with pytest.raises(NotFound, match="no archive"):
        archived(tmp_path / "archive")


def test_an_open_log_is_archived_up_to_what_is_on_disk(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "log") as writer:
        writer.append(RECORDS[:10])
        writer.flush()
        writer.append(RECORDS[10:])
        assert durable_end(tmp_path / "log") == 10
        compact_log(tmp_path / "log", LocalTarget(tmp_path / "archive"), limits=SMALL)
        assert archived(tmp_path / "archive") == list(enumerate(RECORDS[:10]))


def test_a_reader_goes_on_when_a_file_is_replaced(tmp_path: Path) -> None:
    directory = tmp_path / "archive"
    log = append(tmp_path / "log", RECORDS[:50])
    compact_log(log, LocalTarget(directory), limits=SMALL)
    reader = read_archive(LocalTarget(directory))
    found = [next(reader)]
    append(log, RECORDS[50:])
    compact_log(log, LocalTarget(directory), limits=SMALL)
    found += reader
    assert found == list(enumerate(RECORDS))


def test_a_damaged_or_missing_file_is_named(archive: Path) -> None:
    victim = archive / sorted(manifest(archive).names())[1]
    data = bytearray(victim.read_bytes())
    group = pq.read_metadata(victim).row_group(0)
    column = group.column(group.num_columns - 1)
    data[column.data_page_offset + column.total_compressed_size - 2] ^= 1
    victim.write_bytes(data)
    with pytest.raises(LogCorrupt, match=victim.name):
        archived(archive)
    victim.unlink()
    with pytest.raises(LogCorrupt, match=victim.name):
        archived(archive)


def test_a_manifest_of_another_version_is_refused(archive: Path) -> None:
    path = archive / "manifest.json"
    path.write_text(path.read_text().replace('"version": 1', '"version": 2'))
    with pytest.raises(FailedPrecondition, match="version 2"):
        archived(archive)
    path.write_text("{}x")
    with pytest.raises(LogCorrupt, match="manifest"):
        archived(archive)


def test_times_of_a_batch_span_its_records(archive: Path) -> None:
    for batch in manifest(archive).batches:
        records = RECORDS[batch.first_arrival : batch.next_arrival]
        times = [LoggedEvent.FromString(record).arrival_time for record in records]
        assert batch.first_us == times[0].ToMicroseconds()
        assert batch.last_us == times[-1].ToMicroseconds()
        assert datetime.fromtimestamp(batch.first_us / 1e6, UTC).date() == batch.files[0].date


def test_what_a_killed_writer_left_behind_is_removed(log: Path, archive: Path) -> None:
    whole = contents(archive)
    for name in (".staging/0-2026-01-01", "date=2026-01-01/half.parquet"):
        (archive / name).parent.mkdir()
        (archive / name).write_bytes(b"half a file")
    (archive / "manifest.json.new").write_bytes(b"{")
    assert list(read_history(log, LocalTarget(archive))) == list(enumerate(RECORDS))
    append(log, RECORDS[:1])
    compact_log(log, LocalTarget(archive), limits=SMALL)
    assert set(contents(archive)) == manifest(archive).names() | {"manifest.json"}
    assert len(contents(archive)) >= len(whole)


def test_events_are_shown_while_a_file_is_replaced(tmp_path: Path) -> None:
    log = append(tmp_path / "log", RECORDS[:50])
    directory = tmp_path / "archive"
    compact_log(log, LocalTarget(directory), limits=SMALL)
    tables = open_source(str(directory)).tables(EventFilter())
    found = next(tables)["arrival"].to_pylist()
    append(log, RECORDS[50:])
    compact_log(log, LocalTarget(directory), limits=SMALL)
    found += [arrival for table in tables for arrival in table["arrival"].to_pylist()]
    assert found == list(range(len(RECORDS)))
    (directory / sorted(manifest(directory).names())[-1]).unlink()
    with pytest.raises(LogCorrupt, match="missing"):
        list(open_source(str(directory)).tables(EventFilter()))


@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("event_log_v1*")), ids=lambda path: path.name)
def test_every_kind_of_payload_is_archived(golden: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    shutil.copytree(golden, log)
    compact_log(log, LocalTarget(tmp_path / "archive"))
    expected = list(read_log(golden))
    assert archived(tmp_path / "archive") == expected
    (rows,) = open_source(str(tmp_path / "archive")).tables(EventFilter())
    kinds = [LoggedEvent.FromString(r).event.WhichOneof("payload") for _, r in expected]
    assert rows["payload_kind"].to_pylist() == kinds


def test_attributes_are_text(tmp_path: Path) -> None:
    logged = LoggedEvent()
    said = logged.event.attributes
    said["level"].int_value = -3
    said["title"].string_value = "Übung"
    said["score"].double_value = 0.25
    said["live"].bool_value = True
    said["tags"].string_list_value.values.extend(["a", "ü"])
    said["vector"].float_list_value.values.extend([0.5, 2.0])
    said["unset"].SetInParent()
    log = append(tmp_path / "log", [logged.SerializeToString()])
    (rows,) = open_source(str(log)).tables(EventFilter())
    assert dict(rows["attributes"][0].as_py()) == {
        "level": "-3",
        "title": "Übung",
        "score": "0.25",
        "live": "true",
        "tags": '["a", "ü"]',
        "vector": "[0.5, 2.0]",
        "unset": None,
    }
