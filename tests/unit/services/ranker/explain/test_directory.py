"""Captures on disk: bounded, read back, renamed; and the thread that writes them."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from services.common.errors import InvalidArgument, NotFound
from services.common.pseudonym import KEY_BYTES, Pseudonymiser
from services.ranker.explain.capture import Capture
from services.ranker.explain.codec import to_bytes
from services.ranker.explain.directory import (
    CaptureFiles,
    capture_paths,
    path_of,
    read_capture,
    recorded_commands,
    rename_actors,
)
from services.ranker.explain.trace import Trace
from services.ranker.explain.writer import WAITING, CaptureMetrics, CaptureWriter
from services.ranker.types import RankCommand
from tests.support.eventually import eventually
from tests.unit.services.ranker.explain.traced_world import NAMES, World
from tests.unit.services.ranker.fakes import FakeUsers

DAY_S = 86_400.0
ROWS = {f"i{n}": {"clicks": n, "live": 1, "score": 0.1 * n} for n in range(8)}


def captures(count: int) -> list[Capture]:
    """Captures of requests of different users."""
    world = World(ROWS, FakeUsers({}))
    for number in range(count):
        world.rank(RankCommand("everything", f"user-{number}", "", 4))
    return world.captures()


def test_the_oldest_make_room_and_a_restart_knows_them(tmp_path: Path) -> None:
    some = captures(6)
    size = max(len(to_bytes(capture)) for capture in some)
    files = CaptureFiles(tmp_path, max_bytes=3 * size, max_age_s=DAY_S)
    assert [files.write(capture) for capture in some[:4]] == [0, 0, 0, 1]
    (tmp_path / "half.capture.partial").write_bytes(b"half")
    again = CaptureFiles(tmp_path, max_bytes=3 * size, max_age_s=DAY_S)
    assert [again.write(capture) for capture in some[4:]] == [1, 1]
    assert {path.stem for path in tmp_path.iterdir()} == {c.rank_id for c in some[3:]}
    # A repeated answer takes the place of the first.
    assert again.write(some[5]) == 0
    with pytest.raises(InvalidArgument, match="all may have"):
        CaptureFiles(tmp_path / "small", max_bytes=10, max_age_s=DAY_S).write(some[0])


def test_what_is_too_old_is_removed_whether_anything_is_written_or_not(tmp_path: Path) -> None:
    now_s = [1_000_000.0]
    some = captures(4)

    def opened() -> CaptureFiles:
        return CaptureFiles(
            tmp_path, max_bytes=1 << 20, max_age_s=DAY_S, now_ns=lambda: int(now_s[0] * 1e9)
        )

    def written(files: CaptureFiles, capture: Capture) -> int:
        removed = files.write(capture)
        os.utime(path_of(tmp_path, capture.rank_id), (now_s[0], now_s[0]))
        return removed

    files = opened()
    assert [written(files, capture) for capture in some[:2]] == [0, 0]
    now_s[0] += DAY_S / 2
    assert (written(files, some[2]), files.expire()) == (0, 0)
    now_s[0] += DAY_S / 2 + 1
    # Another process knows how old they are by the files.
    assert opened().expire() == 2
    assert written(files, some[3]) == 2
    assert {path.stem for path in tmp_path.iterdir()} == {c.rank_id for c in some[2:]}


def test_what_is_removed_by_others_frees_its_room_in_time(tmp_path: Path) -> None:
    some = captures(5)
    size = max(len(to_bytes(capture)) for capture in some)
    files = CaptureFiles(tmp_path, max_bytes=2 * size, max_age_s=DAY_S)
    for capture in some:
        files.write(capture)
        path_of(tmp_path, capture.rank_id).unlink()
    assert files.write(some[0]) == 1
    assert len(capture_paths(tmp_path)) == 1


def test_recorded_commands_write_nothing_and_name_nobody(tmp_path: Path) -> None:
    files = CaptureFiles(tmp_path, max_bytes=1 << 20, max_age_s=DAY_S)
    for capture in captures(4):
        files.write(capture)
    (tmp_path / "damaged.capture").write_bytes(b"no capture")
    found = list(recorded_commands(tmp_path, 3))
    assert len(found) == 3
    assert all(command.dry_run and not command.rank_id for command in found)
    assert {command.surface for command in found} == {"everything"}
    assert all(command.user_id.startswith("p1.") for command in found)
    assert list(recorded_commands(tmp_path / "nowhere", 3)) == []


def test_actors_are_renamed_under_a_new_key(tmp_path: Path) -> None:
    (capture,) = captures(1)
    files = CaptureFiles(tmp_path, max_bytes=1 << 20, max_age_s=DAY_S)
    files.write(capture)
    path = path_of(tmp_path, capture.rank_id)
    os.utime(path, (1_000.0, 2_000.0))
    both = Pseudonymiser(NAMES.__reduce__()[1][0] | {2: b"2" * KEY_BYTES}, 2)
    assert rename_actors(path, both)
    # It is no later capture for that.
    assert path.stat().st_mtime == 2_000.0
    renamed = read_capture(path)
    assert renamed.command.user_id == both.encrypt("user-0")
    assert list(renamed.rows.ids) == [both.encrypt("user-0")]
    assert b"p1." not in path.read_bytes()
    assert not rename_actors(path, both)


def test_files_that_are_not_there_or_no_captures_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        read_capture(tmp_path / "none.capture")
    with pytest.raises(InvalidArgument) as caught:
        path_of(tmp_path, "../outside")
    assert caught.value.reason == "BAD_RANK_ID"


def traces(count: int) -> list[Trace]:
    world = World(ROWS, FakeUsers({}))
    for _ in range(count):
        world.rank(RankCommand("plain", "ann", "", 2))
    return world.traces


def test_a_writer_that_is_behind_drops_and_counts() -> None:
    registry = CollectorRegistry()
    (capture,) = captures(1)
    written: list[Capture] = []

    def write(made: Capture) -> int:
        written.append(made)
        if len(written) == 2:
            raise OSError("full")
        return 1

    writer = CaptureWriter(
        lambda trace: replace(capture, rank_id=trace.result.rank_id),
        write,
        lambda: 0,
        CaptureMetrics(registry),
    )
    offered = traces(WAITING + 3)
    for trace in offered:
        writer.offer(trace)

    def counted(name: str, **labels: str) -> float:
        return registry.get_sample_value(f"podium_ranker_captures_{name}_total", labels) or 0.0

    assert counted("dropped", reason="busy") == 3
    writer.start()
    eventually(lambda: counted("written") == WAITING - 1, "captures to be written")
    writer.close()
    assert counted("dropped", reason="failed") == 1
    assert counted("removed") == WAITING - 1
    assert [c.rank_id for c in written] == [t.result.rank_id for t in offered[:WAITING]]


def test_a_writer_with_nothing_to_write_still_removes_what_is_too_old() -> None:
    registry = CollectorRegistry()
    asked = 0

    def expire() -> int:
        nonlocal asked
        asked += 1
        if asked == 1:
            raise OSError("away")
        return 2

    (capture,) = captures(1)
    metrics = CaptureMetrics(registry)
    writer = CaptureWriter(lambda _: capture, lambda _: 0, expire, metrics, expire_every_s=0.0)
    writer.start()
    removed = "podium_ranker_captures_removed_total"
    eventually(lambda: registry.get_sample_value(removed), "captures to be removed")
    writer.close()
    assert asked > 1
