"""``podium events``: what it prints, writes, and how it ends."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import typer
from typer.testing import CliRunner, Result

from cli import events, main
from offline.archive.columns import FLAT_NAMES
from offline.archive.compact import compact_log
from offline.archive.target import LocalTarget
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.common.event_log import list_segments, read_log
from services.feature.applying.apply import digest_before
from services.feature.store.embedded import EmbeddedStore
from tests.support.archives import SMALL, append, payloads, spoil

RECORDS = payloads(5, 60)
LOGGED = [LoggedEvent.FromString(record) for record in RECORDS]


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    events.register(app)
    # One command alone would lose its name.
    app.command("other")(lambda: None)
    return CliRunner().invoke(app, ["events", *map(str, arguments)], env={"COLUMNS": "200"})


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return append(tmp_path / "log", RECORDS)


@pytest.fixture(params=["log", "archive"])
def source(request: pytest.FixtureRequest, log: Path, tmp_path: Path) -> Path:
    if request.param == "log":
        return log
    compact_log(log, LocalTarget(tmp_path / "archive"), limits=SMALL)
    return tmp_path / "archive"


def store_at(directory: Path, log: Path, position: int) -> Path:
    store = EmbeddedStore(directory)
    with store.write() as transaction:
        transaction.put_position(position, digest_before(log, position, None))
    store.close()
    return directory


def test_compact_says_what_it_did(log: Path, tmp_path: Path) -> None:
    result = run("compact", log, "--to", tmp_path / "archive")
    assert result.exit_code == 0, result.output
    assert f"{len(RECORDS)} records archived" in result.output
    again = run("compact", log, "--to", tmp_path / "archive")
    assert "0 records archived" in again.output


def test_segments_are_removed_only_with_a_store(log: Path, tmp_path: Path) -> None:
    compacting = ("compact", log, "--to", tmp_path / "archive", "--remove-archived")
    before = list_segments(log)
    assert isinstance(run(*compacting).exception, InvalidArgument)
    assert isinstance(run(*compacting, "--store", tmp_path / "none").exception, NotFound)
    other = append(tmp_path / "other", RECORDS[5:])
    wrong = store_at(tmp_path / "wrong", other, 20)
    refused = run(*compacting, "--store", wrong)
    assert isinstance(refused.exception, FailedPrecondition)
    assert list_segments(log) == before
    stores = tmp_path / "stores"
    store_at(stores / "in force", log, len(RECORDS))
    behind = store_at(stores / "being filled", log, 1)
    assert "0 segments removed" in run(*compacting, "--store", stores).output
    store_at(behind, log, len(RECORDS))
    result = run(*compacting, "--store", stores)
    assert result.exit_code == 0, result.output
    assert f"{len(before) - 1} segments removed" in result.output
    assert list_segments(log) == before[-1:]


def test_inspect_begins_with_a_summary(source: Path) -> None:
    result = run("inspect", source)
    assert result.exit_code == 0, result.output
    words = " ".join(result.output.split())
    assert f"events {len(RECORDS)} " in words
    assert f"arrivals 0 to {len(RECORDS) - 1}" in words
    assert "arrived 2023-11-14 22:13:20 to " in words
    assert f"duplicates {sum(r.duplicate for r in LOGGED)} " in words
    assert f"too late {sum(r.too_late for r in LOGGED)} " in words
    clicks = sum(r.event.type == "click" for r in LOGGED)
    assert f"click │ {clicks} " in words
    assert "nothing is damaged" in words
    assert "The first 20 events" in words


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        (["--type", "click"], lambda r: r.event.type == "click"),
        (["--type", "click", "--type", "watch"], lambda r: r.event.type in ("click", "watch")),
        (["--actor", "ann"], lambda r: r.event.actor.user_id == "ann"),
        (["--actor", "phone"], lambda r: r.event.actor.device_id == "phone"),
        (["--actor", "device:phone"], lambda r: r.event.actor.device_id == "phone"),
        (["--entity", "course:c1"], lambda r: ("course", "c1") in entities(r)),
        (["--entity", "room:c1"], lambda _: False),
        (["--rank-id", "k3"], lambda r: r.event.rank_id == "k3"),
        (["--from", "2023-11-15T12:00:00Z"], lambda r: r.arrival_time.seconds >= 1_700_049_600),
        (["--until", "2023-11-15T12:00"], lambda r: r.arrival_time.seconds < 1_700_049_600),
    ],
)
def test_inspect_shows_what_was_asked_for(
    source: Path, arguments: list[str], wanted: object
) -> None:
    assert callable(wanted)
    result = run("inspect", source, "--limit", "1000", *arguments)
    assert result.exit_code == 0, result.output
    lines = result.output.split("The first", 1)[-1].splitlines()[1:]
    shown = [int(words[0]) for line in lines if (words := line.split()) and words[0].isdigit()]
    assert shown == [r.arrival for r in LOGGED if wanted(r)]


def entities(logged: LoggedEvent) -> set[tuple[str, str]]:
    return {(entity.type, entity.id) for entity in logged.event.entities}


def test_export_writes_flat_parquet(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.parquet"
    result = run("export", source, "--to", out)
    assert result.exit_code == 0, result.output
    table = pq.read_table(out)
    assert table.schema.names == FLAT_NAMES
    assert table["event_id"].to_pylist() == [r.event.event_id for r in LOGGED]
    assert table["arrival"].to_pylist() == list(range(len(RECORDS)))
    assert f"{len(RECORDS)} events written" in result.output
    assert {path.name for path in tmp_path.glob("events*")} == {"events.parquet"}


def test_export_replaces_a_file_where_that_is_asked_for(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    out.write_text("kept")
    refused = run("export", source, "--to", out)
    assert isinstance(refused.exception, InvalidArgument)
    assert "--replace" in str(refused.exception)
    assert out.read_text() == "kept"
    assert run("export", source, "--to", out, "--replace").exit_code == 0
    assert len(out.read_text().splitlines()) == len(RECORDS)


def test_export_writes_json_lines(source: Path, tmp_path: Path) -> None:
    out = tmp_path / "events.jsonl"
    until = "2023-11-15T12:00:00Z"
    result = run("export", source, "--to", out, "--type", "watch", "--until", until)
    assert result.exit_code == 0, result.output
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    expected = [
        r for r in LOGGED if r.event.type == "watch" and r.arrival_time.seconds < 1_700_049_600
    ]
    assert [row["arrival"] for row in rows] == [r.arrival for r in expected]
    assert expected
    for row, logged in zip(rows, expected, strict=True):
        duration = logged.event.attributes["duration_ms"].int_value
        assert row["attributes"] == {"duration_ms": str(duration)}
        assert row.get("user_id", "") == logged.event.actor.user_id
        assert row["arrival_time"].endswith("+00:00")


def test_an_empty_choice_is_an_empty_file(source: Path, tmp_path: Path) -> None:
    for name in ("none.parquet", "none.jsonl"):
        assert run("export", source, "--to", tmp_path / name, "--type", "x").exit_code == 0
    assert pq.read_table(tmp_path / "none.parquet").num_rows == 0
    assert (tmp_path / "none.jsonl").read_text() == ""
    assert "no events" in run("inspect", source, "--type", "x").output


def test_damage_is_named_and_ends_with_1(log: Path, tmp_path: Path) -> None:
    spoil(log, [8])
    result = run("inspect", log)
    assert result.exit_code == 1, result.output
    assert "are bad: 1 records from" in result.output
    assert f"{len(RECORDS) - 1} " in result.output
    exported = run("export", log, "--to", tmp_path / "some.jsonl")
    assert exported.exit_code == 1
    assert (tmp_path / "some.jsonl").exists()


def test_what_an_archive_lacks_is_named_every_time_and_ends_with_1(
    log: Path, tmp_path: Path
) -> None:
    spoil(log, [8])
    archive = tmp_path / "archive"
    for _ in range(2):
        compacted = run("compact", log, "--to", archive)
        assert compacted.exit_code == 1, compacted.output
        assert "arrivals 8 are missing: damaged" in compacted.output
    restored = run("restore", archive, "--log", tmp_path / "restored")
    assert restored.exit_code == 1, restored.output
    assert "arrivals 8 are missing: damaged" in restored.output


def test_a_file_that_an_archive_lists_and_lacks_is_named(log: Path, tmp_path: Path) -> None:
    archive = tmp_path / "archive"
    assert run("compact", log, "--to", archive).exit_code == 0
    first = sorted(archive.glob("date=*/*.parquet"))[0]
    first.unlink()

    result = run("compact", log, "--to", archive)

    assert result.exit_code == 1, result.output
    assert f"{first.relative_to(archive)} is missing" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["inspect", "{file}"], "neither an event log nor an archive"),
        (["inspect", "{none}"], "neither an event log nor an archive"),
        (["inspect", "gs://bucket/x"], "neither a directory nor s3://bucket/path"),
        (["inspect", "s3://"], "is not s3://bucket/path"),
        (["inspect", "{log}", "--from", "yesterday"], "from: 'yesterday' is no ISO 8601 time"),
        (["inspect", "{log}", "--entity", "course"], "entity: 'course' is not TYPE:ID"),
        (["compact", "{none}", "--to", "{none}"], "there is no event log at"),
        (["compact", "{log}", "--to", "{file}/x"], "/file: Not a directory"),
        (["export", "{log}", "--to", "{none}.csv"], "ends neither in .parquet nor in .jsonl"),
        (["export", "{log}", "--to", "{none}/a.jsonl"], "there is no folder"),
    ],
)
def test_a_mistake_is_one_line_and_ends_with_2(
    arguments: list[str],
    message: str,
    log: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    places = {"log": log, "file": tmp_path / "file", "none": tmp_path / "none"}
    places["file"].touch()
    named = [argument.format(**places) for argument in arguments]
    monkeypatch.setattr(sys, "argv", ["podium", "events", *named])
    with pytest.raises(SystemExit) as ended:
        main.app()
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert message in line
    assert not places["none"].exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_is_named(log: Path, tmp_path: Path) -> None:
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o500)
    found = run("compact", log, "--to", closed / "archive").exception
    assert isinstance(found, PermissionError)
    assert str(closed) in str(found.filename)
    assert list(read_log(log))
