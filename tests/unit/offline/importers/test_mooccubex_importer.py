"""The MOOCCubeX importer: what it keeps, drops and refuses."""

from __future__ import annotations

from pathlib import Path

import pytest

from offline.importers.mooccubex import ORDINAL_EPOCH_MS, STEP_MS, import_mooccubex
from offline.importers.report import ImportReport
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain, load_domain
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound
from services.common.event_log import read_log

CONFIG = Path(__file__).parents[4] / "config"
COURSES = "org_id remap_id\nC_10 0\nC_11 1\nC_12 2\nbroken\nC_10 3\n"
USERS = "org_id remap_id gender\nU_1 0 1\nU_2 1 2\n"
SEQUENCES = "0 1 0 1 9 x 2\n1 2\nnobody 1\n7 1 2\n1 0\n\n"
# Relation 5 gives every course one school; 6 joins courses; 7 has several tails a course.
FACTS = "0 5 90\n1 5 91\n2 5 90\n0 6 1\n0 7 95\n0 7 96\n1 7 95\n1 7 96\nhalf a line\n"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    folder.mkdir()
    files = {
        "item_list.txt": COURSES,
        "user_list.txt": USERS,
        "sequences.txt": SEQUENCES,
        "kg_final.txt": FACTS,
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def domain() -> Domain:
    return load_domain(CONFIG / "mooccubex.yaml")


def run(source: Path, log: Path, domain: Domain) -> tuple[ImportReport, list[LoggedEvent]]:
    report = import_mooccubex(source, log, domain, lambda raw: f"hidden-{raw}")
    return report, [LoggedEvent.FromString(payload) for _, payload in read_log(log)]


def test_writes_courses_then_each_users_enrolments_in_order(
    source: Path, tmp_path: Path, domain: Domain
) -> None:
    report, events = run(source, tmp_path / "log", domain)
    assert [logged.arrival for logged in events] == list(range(len(events)))
    assert report.events == len(events)
    courses = [logged.event for logged in events if logged.event.type == "entity_upsert"]
    assert [(e.entities[0].type, e.entities[0].id) for e in courses] == [
        ("course", "C_10"),
        ("course", "C_11"),
        ("course", "C_12"),
    ]
    schools = [e.entity_upsert.attributes["school"].string_value for e in courses]
    assert schools == ["school_90", "school_91", "school_90"]
    assert {e.event_time.ToMilliseconds() for e in courses} == {ORDINAL_EPOCH_MS}
    enrolments = [
        (
            e.event.actor.user_id,
            e.event.entities[0].id,
            (e.event.event_time.ToMilliseconds() - ORDINAL_EPOCH_MS) // STEP_MS,
        )
        for e in events
        if e.event.type == "enrol"
    ]
    assert enrolments == [
        ("hidden-U_1", "C_11", 1),
        ("hidden-U_1", "C_10", 2),
        ("hidden-U_1", "C_12", 3),
        ("hidden-U_2", "C_12", 1),
    ]
    assert len({logged.event.event_id for logged in events}) == len(events)
    assert all(logged.arrival_time == logged.event.event_time for logged in events)
    assert {logged.config_hash for logged in events} == {domain.config_hash}


def test_counts_everything_it_drops(source: Path, tmp_path: Path, domain: Domain) -> None:
    report, _ = run(source, tmp_path / "log", domain)
    counts = report.counts
    assert counts["courses"].dropped == {"malformed line": 1, "id given twice": 1}
    assert counts["user lines"].dropped == {
        "malformed line": 2,
        "unknown user": 1,
        "user given twice": 1,
    }
    assert counts["enrolments"].kept == 4
    assert counts["enrolments"].dropped == {
        "repeated enrolment": 1,
        "unknown course": 1,
        "malformed course": 1,
        "malformed line": 1,
        "unknown user": 2,
        "user given twice": 1,
    }
    assert counts["facts"].kept == 3
    assert counts["facts"].dropped == {
        "malformed line": 1,
        "relation whose meaning is not given": 5,
    }
    for count in counts.values():
        assert count.read == count.kept + sum(count.dropped.values())


def test_numbers_that_are_too_long_are_malformed(
    source: Path, tmp_path: Path, domain: Domain
) -> None:
    huge = "9" * 5_000
    for name, line in (
        ("item_list.txt", f"C_13 {huge}\n"),
        ("user_list.txt", f"U_3 {huge} 1\n"),
        ("kg_final.txt", f"{huge} 5 90\n"),
    ):
        with (source / name).open("a", encoding="utf-8") as file:
            file.write(line)
    (source / "sequences.txt").write_text(f"{huge} 1 2\n1 {huge} 2\n", encoding="utf-8")
    counts = run(source, tmp_path / "log", domain)[0].counts
    assert counts["courses"].dropped["malformed line"] == 2
    assert counts["users"].dropped == {"malformed line": 1}
    assert counts["facts"].dropped["malformed line"] == 2
    assert counts["user lines"].dropped == {"malformed line": 1}
    assert counts["enrolments"].dropped == {"malformed line": 2, "malformed course": 1}


def test_ids_that_no_event_may_name_are_dropped(
    source: Path, tmp_path: Path, domain: Domain
) -> None:
    # Two bytes a letter: 64 of them are 128 bytes.
    text = f"org_id remap_id\n{'é' * 64} 0\n{'é' * 65} 1\n"
    (source / "item_list.txt").write_text(text, encoding="utf-8")
    report, events = run(source, tmp_path / "log", domain)
    assert report.counts["courses"].dropped == {"id over 128 bytes": 1}
    assert {logged.event.entities[0].id for logged in events} == {"é" * 64}


def test_what_fails_leaves_nothing_behind(source: Path, tmp_path: Path, domain: Domain) -> None:
    sound = (source / "sequences.txt").read_bytes()
    (source / "sequences.txt").write_bytes(b"0 1 2\n1 \xff\n")
    with pytest.raises(InvalidArgument, match=r"sequences\.txt:2: is not UTF-8"):
        run(source, tmp_path / "log", domain)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]
    (source / "sequences.txt").write_bytes(sound)
    run(source, tmp_path / "log", domain)


def test_what_another_import_writes_is_left_alone(
    source: Path, tmp_path: Path, domain: Domain
) -> None:
    (tmp_path / "log.partial").mkdir()
    with pytest.raises(FailedPrecondition, match="unfinished import"):
        run(source, tmp_path / "log", domain)
    assert (tmp_path / "log.partial").is_dir()


def test_equal_input_gives_equal_bytes(source: Path, tmp_path: Path, domain: Domain) -> None:
    logs = [tmp_path / "one", tmp_path / "two"]
    for log in logs:
        run(source, log, domain)
    first, second = (
        {path.name: path.read_bytes() for path in log.glob("*.segment")} for log in logs
    )
    assert first == second


def test_no_raw_user_id_reaches_the_log(source: Path, tmp_path: Path, domain: Domain) -> None:
    import_mooccubex(source, tmp_path / "log", domain, lambda raw: f"p{len(raw)}")
    for path in (tmp_path / "log").iterdir():
        assert b"U_1" not in path.read_bytes()


@pytest.mark.parametrize("missing", ["item_list.txt", "user_list.txt", "sequences.txt"])
def test_a_missing_file_is_named(
    source: Path, tmp_path: Path, domain: Domain, missing: str
) -> None:
    (source / missing).unlink()
    with pytest.raises(NotFound, match=missing):
        run(source, tmp_path / "log", domain)
    assert not (tmp_path / "log").exists()


def test_a_missing_folder_is_named(tmp_path: Path, domain: Domain) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        run(tmp_path / "nowhere", tmp_path / "log", domain)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [("item_list.txt", b"a b\n", "header"), ("user_list.txt", b"\xff\xfe", "UTF-8")],
)
def test_a_file_of_another_kind_is_refused(
    source: Path, tmp_path: Path, domain: Domain, name: str, content: bytes, message: str
) -> None:
    (source / name).write_bytes(content)
    with pytest.raises(InvalidArgument, match=message):
        run(source, tmp_path / "log", domain)


def test_an_existing_log_is_left_alone(source: Path, tmp_path: Path, domain: Domain) -> None:
    run(source, tmp_path / "log", domain)
    with pytest.raises(FailedPrecondition, match="empty"):
        run(source, tmp_path / "log", domain)


def test_a_domain_without_enrolments_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match="enrol"):
        run(source, tmp_path / "log", load_domain(CONFIG / "live_courses.yaml"))
