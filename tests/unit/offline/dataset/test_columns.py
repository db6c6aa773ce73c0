"""Compaction of the log: incremental, bounded, and only what counts."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest

from offline.archive.compact import compact_log
from offline.archive.remove import remove_archived
from offline.archive.restore import restore_log
from offline.archive.target import LocalTarget
from offline.dataset import columns as columns_module
from offline.dataset.columns import Columns, compact
from offline.dataset.schema import ColumnSchema
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.common.errors import FailedPrecondition
from services.common.event_log import LogWriter, read_log
from services.common.log_marks import add_duplicate_marks, read_duplicate_marks
from services.feature.convert.records import RecordDecoder
from services.feature.states.entity_plan import compile_plans
from tests.support.event_streams import random_log, small_domain, write_log
from tests.support.feature_oracle import known_events

DAY_MS = 86_400_000


@pytest.fixture
def domain() -> Domain:
    return small_domain(Random(3))


def arrivals(columns: Columns) -> list[int]:
    tables = [pq.read_table(path) for path in columns.files("events")]
    return sorted(a for table in tables for a in table["arrival"].to_pylist())


def test_keeps_exactly_the_events_that_count(domain: Domain, tmp_path: Path) -> None:
    log = random_log(Random(5), 200)
    found = compact(write_log(tmp_path / "log", log), tmp_path / "out", ColumnSchema.of(domain))
    expected = [logged.arrival for logged in known_events(domain, log, 2**60, 2**60)]
    assert arrivals(found) == expected
    assert 0 < len(expected) < len(log)
    assert found.state.counted == len(expected)
    assert found.state.next_arrival == len(log)


def test_a_second_run_reads_only_what_is_new(
    domain: Domain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = random_log(Random(5), 90)
    log_dir = write_log(tmp_path / "log", log[:60])
    schema = ColumnSchema.of(domain)
    first = compact(log_dir, tmp_path / "out", schema, chunk_records=25)
    kept = {path: path.stat().st_mtime_ns for path in first.files("events")}
    write_log(log_dir, log[60:])
    started: list[int] = []

    def reading(directory: Path, archive: None, start: int, **_: object) -> object:
        started.append(start)
        return read_log(directory, start)

    monkeypatch.setattr(columns_module, "read_history", reading)
    second = compact(log_dir, tmp_path / "out", schema, chunk_records=25)
    assert started == [59]
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    fresh = compact(log_dir, tmp_path / "fresh", schema)
    assert arrivals(second) == arrivals(fresh)


@pytest.mark.parametrize("table", ["events", "changes.course", "state"])
@pytest.mark.parametrize("fault", ["missing", "truncated", "flipped"])
def test_columns_that_are_damaged_are_made_anew(
    domain: Domain, tmp_path: Path, table: str, fault: str
) -> None:
    log_dir, schema = (
        write_log(tmp_path / "log", random_log(Random(5), 90)),
        ColumnSchema.of(domain),
    )
    sound = compact(log_dir, tmp_path / "out", schema)
    path = tmp_path / "out" / "state.json" if table == "state" else sound.files(table)[0]
    before, content = arrivals(sound), path.read_bytes()
    middle = len(content) // 2
    if fault == "missing":
        path.unlink()
    else:
        rest = b"" if fault == "truncated" else bytes([content[middle] ^ 1]) + content[middle + 1 :]
        path.write_bytes(content[:middle] + rest)
    again = compact(log_dir, tmp_path / "out", schema)
    assert arrivals(again) == before
    assert again.state == sound.state


def test_what_the_log_lost_is_remembered(domain: Domain, tmp_path: Path) -> None:
    log = random_log(Random(5), 90)
    log_dir, schema = write_log(tmp_path / "log", log[:60]), ColumnSchema.of(domain)
    whole = compact(log_dir, tmp_path / "early", schema)
    segment = min(log_dir.glob("*.segment"))
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    assert not compact(log_dir, tmp_path / "early", schema).state.lost, "it was read before"
    lost = compact(log_dir, tmp_path / "out", schema).state.lost
    assert [*lost.values()] == [1]
    write_log(log_dir, log[60:])
    assert compact(log_dir, tmp_path / "out", schema).state.lost == lost
    assert compact(log_dir, tmp_path / "early", schema).state.lost == whole.state.lost == {}


def test_what_is_marked_beside_the_log_does_not_count(domain: Domain, tmp_path: Path) -> None:
    log_dir = write_log(tmp_path / "log", random_log(Random(5), 90))
    schema = ColumnSchema.of(domain)
    counted = arrivals(compact(log_dir, tmp_path / "out", schema))
    second_copies = counted[2:5]

    # Found when they were applied, after the records had been read.
    add_duplicate_marks(log_dir, second_copies)
    for directory in ("out", "fresh", "out"):
        found = compact(log_dir, tmp_path / directory, schema, chunk_records=25)
        assert arrivals(found) == [a for a in counted if a not in second_copies]


def test_archived_segments_are_read_from_the_archive(domain: Domain, tmp_path: Path) -> None:
    log = random_log(Random(5), 120)
    log_dir = write_log(tmp_path / "log", log[:100])
    schema = ColumnSchema.of(domain)
    compact(log_dir, tmp_path / "grown", schema, chunk_records=40)
    archive = LocalTarget(tmp_path / "archive")
    compact_log(log_dir, archive)
    write_log(log_dir, log[100:])
    whole = compact(log_dir, tmp_path / "whole", schema)
    assert remove_archived(log_dir, archive, len(log))
    fresh = compact(log_dir, tmp_path / "fresh", schema, archive=archive)
    assert [pq.read_table(path) for path in fresh.files("events")] == [
        pq.read_table(path) for path in whole.files("events")
    ]
    assert fresh.state == whole.state
    grown = compact(log_dir, tmp_path / "grown", schema, archive=archive)
    assert arrivals(grown) == arrivals(whole)
    with pytest.raises(FailedPrecondition, match="archive"):
        compact(log_dir, tmp_path / "without", schema)


def test_files_of_an_interrupted_run_are_removed(domain: Domain, tmp_path: Path) -> None:
    log_dir = write_log(tmp_path / "log", random_log(Random(5), 30))
    schema = ColumnSchema.of(domain)
    found = compact(log_dir, tmp_path / "out", schema)
    leftover = found.files("events")[0].with_name("leftover.parquet")
    leftover.write_bytes(b"half a file")
    compact(log_dir, tmp_path / "out", schema)
    assert not leftover.exists()


def test_another_schema_starts_anew(domain: Domain, tmp_path: Path) -> None:
    log_dir = write_log(tmp_path / "log", random_log(Random(5), 30))
    compact(log_dir, tmp_path / "out", ColumnSchema.of(domain))
    smaller = ColumnSchema(("click",), ("course",), (), {})
    found = compact(log_dir, tmp_path / "out", smaller)
    table = pq.read_table(found.files("events")[0])
    assert set(table["type"].to_pylist()) == {"click"}
    assert table.schema.names == smaller.event_schema.names


def test_events_lie_under_their_own_date(domain: Domain, tmp_path: Path) -> None:
    log = random_log(Random(5), 40)
    for number, logged in enumerate(log):
        milliseconds = logged.event.event_time.ToMilliseconds() + number % 3 * DAY_MS
        logged.event.event_time.FromMilliseconds(milliseconds)
    found = compact(write_log(tmp_path / "log", log), tmp_path / "out", ColumnSchema.of(domain))
    for path in found.files("events"):
        dates = {t // DAY_MS for t in pq.read_table(path)["time_ms"].to_pylist()}
        assert len(dates) == 1
    assert len({path.parent.name for path in found.files("events")}) == 3


def test_attributes_are_read_as_the_online_store_reads_them(domain: Domain, tmp_path: Path) -> None:
    logged = LoggedEvent()
    logged.event.event_id = "e"
    logged.event.type = "entity_upsert"
    logged.event.entities.add(type="room", id="r0")
    said = logged.event.entity_upsert.attributes
    said["live"].int_value = 2
    said["viewers"].bool_value = True
    said["title"].string_value = "x"
    found = compact(
        write_log(tmp_path / "log", [logged]), tmp_path / "out", ColumnSchema.of(domain)
    )
    (row,) = pq.read_table(found.files("changes.room")[0]).to_pylist()
    assert (row["a_live"], row["a_viewers"], row["a_title"]) == (True, None, "x")
    decoded = RecordDecoder(domain).decode(0, logged.SerializeToString())
    assert decoded is not None
    assert decoded.applied is not None
    plan = compile_plans(domain)["room"]
    state = plan.new_state()
    plan.describe(state, decoded.applied)
    kept = {name: value for name, (_, _, value) in state.attributes.items()}
    assert kept == {"live": 1, "title": "x"}


def test_a_record_that_is_no_event_is_named(domain: Domain, tmp_path: Path) -> None:
    with LogWriter(tmp_path / "log") as writer:
        writer.append([b"\xff\xff\xff"])
    with pytest.raises(FailedPrecondition, match="record 0"):
        compact(tmp_path / "log", tmp_path / "out", ColumnSchema.of(domain))


def test_a_shorter_log_is_refused(domain: Domain, tmp_path: Path) -> None:
    log = random_log(Random(5), 30)
    schema = ColumnSchema.of(domain)
    compact(write_log(tmp_path / "log", log), tmp_path / "out", schema)
    with pytest.raises(FailedPrecondition, match="another log"):
        compact(write_log(tmp_path / "other", log[:10]), tmp_path / "out", schema)


def test_a_user_is_never_two_for_the_sake_of_a_key(domain: Domain, tmp_path: Path) -> None:
    log = random_log(Random(5), 60)

    def under(version: int, part: list[LoggedEvent]) -> list[LoggedEvent]:
        found = []
        for record in part:
            copy = LoggedEvent()
            copy.CopyFrom(record)
            if copy.event.actor.user_id:
                copy.event.actor.user_id = f"p{version}.{record.event.actor.user_id}"
            found.append(copy)
        return found

    schema = ColumnSchema.of(domain)
    old = write_log(tmp_path / "old", under(1, log[:40]))
    assert compact(old, tmp_path / "out", schema, chunk_records=25).state.key_version == 1
    write_log(old, under(2, log[40:]))
    for _ in range(2):
        with pytest.raises(FailedPrecondition, match=r"keys 1 and 2 of .* podium keys rotate"):
            compact(old, tmp_path / "out", schema, chunk_records=25)
    # A rotated log has all of it under the next key, and so have its columns.
    again = write_log(tmp_path / "again", under(1, log[:40]))
    compact(again, tmp_path / "columns", schema)
    rotated = write_log(tmp_path / "rotated", under(2, log))
    found = compact(rotated, tmp_path / "columns", schema, chunk_records=25)
    assert found.state == compact(rotated, tmp_path / "fresh", schema, chunk_records=25).state
    assert found.state.key_version == 2


def test_an_archive_keeps_the_marks_beside_its_log(domain: Domain, tmp_path: Path) -> None:
    log = random_log(Random(5), 60)
    counted = [logged.arrival for logged in known_events(domain, log, 2**60, 2**60)]
    log_dir, archive = write_log(tmp_path / "log", log), LocalTarget(tmp_path / "archive")
    add_duplicate_marks(log_dir, counted[5:7])
    compact_log(log_dir, archive)
    # This one comes after its record was archived.
    add_duplicate_marks(log_dir, counted[-1:])
    compact_log(log_dir, archive)
    schema = ColumnSchema.of(domain)

    restored = tmp_path / "restored"
    restore_log(archive, restored)
    assert read_duplicate_marks(restored) == {*counted[5:7], counted[-1]}
    (restored / "duplicates").unlink()
    found = compact(restored, tmp_path / "out", schema, archive=archive)
    assert arrivals(found) == [*counted[:5], *counted[7:-1]]
