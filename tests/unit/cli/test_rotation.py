"""Steps of ``podium keys rotate``, killed anywhere and repeated."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from cli.main import build
from cli.rotation import RotationJob
from offline.archive.compact import compact_log
from offline.archive.read import read_archive
from offline.archive.target import LocalTarget
from offline.progress import Progress
from podium.event.v1.event_pb2 import LoggedEvent
from services.common.errors import FailedPrecondition
from services.common.event_log import LogReader, LogWriter, list_segments, read_log
from services.common.log_removed import forget_removed, note_removed
from services.common.pseudonym import DEVELOPMENT_KEYS, KEY_BYTES, Pseudonymiser
from services.common.spool import Spool
from services.feature.applying.apply import digest_before
from services.feature.views.registry import registry_of
from services.ranker.explain.directory import capture_paths, read_capture
from tests.support.archives import SMALL
from tests.support.captured_requests import capture_requests
from tests.support.feature_streams import interaction, logged

START_MS = 1_767_225_600_000
KEYS = {1: b"1" * KEY_BYTES, 2: b"2" * KEY_BYTES}
OLD, NEW = Pseudonymiser(KEYS, 1), Pseudonymiser(KEYS, 2)


class Killed(Exception):
    """Stands for the end of the process."""


def _record(number: int, names: Pseudonymiser) -> bytes:
    event = interaction(f"e{number}", "click", START_MS + number, "", "course:c")
    event.actor.user_id = names.encrypt(f"user-{number % 5}")
    event.actor.device_id = names.encrypt(f"device-{number % 3}")
    return logged(number, event, START_MS + number).SerializeToString()


def _log(directory: Path, records: int = 40) -> Path:
    with LogWriter(directory, segment_bytes=700) as writer:
        writer.append([_record(number, OLD) for number in range(records)])
        writer.sync()
    assert len(list_segments(directory)) > 4
    return directory


def _killed_at(step: int) -> Progress:
    calls = 0

    def progress(_stage: str, _done: int, _total: int) -> None:
        nonlocal calls
        calls += 1
        if calls > step:
            raise Killed

    return progress


def test_killed_anywhere_and_repeated(tmp_path: Path) -> None:
    log, target = _log(tmp_path / "log"), LocalTarget(tmp_path / "archive")
    compact_log(log, target, limits=SMALL)
    digests = [digest_before(log, position, None) for position in range(1, 41)]
    wanted = [_record(number, NEW) for number in range(40)]
    reader = LogReader(log)
    assert len(reader.read(7)) == 7
    for step in range(3):
        job = RotationJob(log, NEW)
        with pytest.raises(Killed):
            job.rewrite_log(_killed_at(step))
        with pytest.raises(Killed):
            job.rewrite_archive(target, _killed_at(step))
        held = [payload for _, payload in read_log(log)]
        assert all(
            old in (new, _record(n, OLD))
            for n, (old, new) in enumerate(zip(held, wanted, strict=True))
        )

    job = RotationJob(log, NEW)
    job.rewrite_log()
    job.rewrite_archive(target)

    assert [payload for _, payload in read_log(log)] == wanted
    assert [record for _, record in read_archive(target)] == wanted
    # Whoever was reading keeps its place, and stores and archives know the log.
    read = reader.read(100)
    assert [arrival for arrival, _ in read] == list(range(7, 40))
    assert all(payload in (_record(n, OLD), wanted[n]) for n, payload in read)
    assert read[-1][1] == wanted[-1]
    assert [digest_before(log, position, None) for position in range(1, 41)] == digests
    assert compact_log(log, target, limits=SMALL).next_arrival == 40
    assert (job.rewrite_log(), job.rewrite_archive(target)) == (0, 0)
    assert all(counted.left(NEW) == 0 for counted in job.count([], [], target))


def test_what_is_damaged_is_brought_under_the_new_key_too(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    first, *_, last = list_segments(log)
    damaged = bytearray(first.path.read_bytes())
    damaged[9] ^= 0xFF
    first.path.write_bytes(bytes(damaged))
    torn = log / f"{last.path.stem}-0.torn"
    torn.write_bytes(_record(40, OLD)[:-10])
    job = RotationJob(log, NEW)
    assert job.rewrite_log() == 39
    assert torn.read_bytes() == _record(40, NEW)[:-10]
    (counted,) = job.count([], [], None)
    assert counted.left(NEW) == 0
    assert counted.versions[2] == 82


def test_the_segment_of_a_service_is_left_to_it(tmp_path: Path) -> None:
    log = _log(tmp_path / "log")
    with LogWriter(log, segment_bytes=700) as writer:
        RotationJob(log, NEW).rewrite_log()
        last = list_segments(log)[-1].first_arrival
        users = [LoggedEvent.FromString(p).event.actor.user_id for _, p in read_log(log)]
        assert [name.startswith("p2.") for name in users] == [n < last for n in range(40)]
        assert writer.next_arrival == 40
    with LogWriter(log, new_segment=True) as writer:
        assert list_segments(log)[-1].first_arrival == 40
        RotationJob(log, NEW).rewrite_log()
        writer.append([_record(40, NEW)])
        writer.sync()
    assert [payload for _, payload in read_log(log)] == [_record(n, NEW) for n in range(41)]
    with LogWriter(log, new_segment=True) as writer:
        assert writer.next_arrival == 41


def test_a_spool_ships_what_it_has_under_any_key(tmp_path: Path) -> None:
    spool = Spool(tmp_path / "spool", "ranker", OLD)
    spool.append([interaction(f"e{n}", "click", START_MS, f"user-{n}") for n in range(5)])
    spool.acknowledge(3)
    job = RotationJob(_log(tmp_path / "log"), NEW)
    assert job.rewrite_spool(spool.directory) == 3
    counted = job.count([], [spool.directory], None)[1]
    assert (counted.versions, counted.waiting) == ({1: 2, 2: 3}, 2)
    spool.close()


def test_versions_of_other_lengths_are_refused(tmp_path: Path) -> None:
    names = Pseudonymiser({9: KEYS[1], 10: KEYS[2]}, 10)
    with pytest.raises(FailedPrecondition, match="as many digits"):
        RotationJob(tmp_path, names)


def test_without_a_service_the_store_waits(tmp_path: Path) -> None:
    log, store = _log(tmp_path / "log"), tmp_path / "store"
    current = store / "0123456789abcdef-k1-0"
    current.mkdir(parents=True)
    (current / "definitions.json").write_text("{}")
    (store / "current").write_text(current.name)
    new = CliRunner().invoke(build(), ["keys", "new", "--version", "2"]).output.strip()
    runner = CliRunner(env={"PODIUM_PSEUDONYM_KEYS": f"{DEVELOPMENT_KEYS},{new}"})
    arguments = ["keys", "rotate", str(log), "--store", str(store), "--target", "127.0.0.1:1"]
    note_removed(log, 5)
    cut = runner.invoke(build(), arguments)
    assert isinstance(cut.exception, FailedPrecondition)
    assert "podium events restore" in cut.exception.message
    assert registry_of(log).key_version() is None
    forget_removed(log)
    done = runner.invoke(build(), arguments)
    assert done.exit_code == 1, done.output
    assert "The store in force is under key 1, and no feature service answers" in done.output
    # The service that starts next goes on with it.
    assert registry_of(log).key_version() == 2


def test_captures_are_written_anew_and_those_that_are_none_stay(tmp_path: Path) -> None:
    captures = capture_requests(tmp_path / "captures", ("ann", "phone"), ("", "tv"), names=OLD)
    (captures / "damaged.capture").write_bytes(b"no capture")
    job = RotationJob(_log(tmp_path / "log"), NEW)
    (before,) = job.count([captures], [], None)[1:]
    # Each names its user or device in the command, and again in the row that was read.
    assert before.versions == {1: 5}
    assert job.rewrite_captures(captures) == 2
    (after,) = job.count([captures], [], None)[1:]
    assert after.versions == {2: 5}
    found = {path.stem: path for path in capture_paths(captures)}
    assert found.pop("damaged").read_bytes() == b"no capture"
    devices = {read_capture(path).command.device_id for path in found.values()}
    assert devices == {NEW.encrypt("phone"), NEW.encrypt("tv")}
    assert job.rewrite_captures(captures) == 0
