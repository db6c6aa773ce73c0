"""Archived records are changed or dropped, the rest stays as it was."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.archive.compact import compact_log
from offline.archive.read import read_archive
from offline.archive.rewrite import RewriteReport, holds_actor, rewrite_archive
from offline.archive.target import LocalTarget
from offline.archive.writer import load_manifest
from podium.event.v1.event_pb2 import LoggedEvent
from tests.support.archives import SMALL, Crash, CrashingTarget, append, contents, payloads

RECORDS = payloads(9, 60)


def without(name: str) -> list[tuple[int, bytes]]:
    return [(a, r) for a, r in enumerate(RECORDS) if transform(name)(a, r) is not None]


def transform(name: str):
    def drop(_: int, record: bytes) -> bytes | None:
        return None if LoggedEvent.FromString(record).event.actor.user_id == name else record

    return drop


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return append(tmp_path / "log", RECORDS)


@pytest.fixture
def target(log: Path, tmp_path: Path) -> LocalTarget:
    target = LocalTarget(tmp_path / "archive")
    compact_log(log, target, limits=SMALL)
    return target


def test_dropped_records_leave_gaps_and_no_bytes(target: LocalTarget, tmp_path: Path) -> None:
    report = rewrite_archive(target, transform("ann"))
    expected = without("ann")
    assert list(read_archive(target)) == expected
    assert report.dropped == len(RECORDS) - len(expected) > 0
    gaps = [a for g in load_manifest(target).gaps() for a in range(g.first_arrival, g.next_arrival)]
    assert gaps == sorted(set(range(len(RECORDS))) - {a for a, _ in expected})
    assert {gap.reason for gap in load_manifest(target).gaps()} == {"erased"}
    listed = load_manifest(target).names() | {"manifest.json"}
    assert set(contents(tmp_path / "archive")) == listed
    assert rewrite_archive(target, transform("ann")) == RewriteReport(0, 0, 0)


def test_an_erased_archive_is_compacted_further(log: Path, target: LocalTarget) -> None:
    rewrite_archive(target, transform("ann"))
    erased = list(load_manifest(target).gaps())
    append(log, RECORDS[:20])
    assert compact_log(log, target, limits=SMALL).gaps == ()
    kept = without("ann") + [(len(RECORDS) + a, r) for a, r in enumerate(RECORDS[:20])]
    assert list(read_archive(target)) == kept
    assert list(load_manifest(target).gaps()) == erased


def test_the_last_record_may_be_erased(log: Path, target: LocalTarget) -> None:
    last = len(RECORDS) - 1
    rewrite_archive(target, lambda arrival, record: None if arrival == last else record)
    append(log, RECORDS[:1])
    compact_log(log, target, limits=SMALL)
    expected = [*list(enumerate(RECORDS))[:-1], (last + 1, RECORDS[0])]
    assert list(read_archive(target)) == expected
    assert load_manifest(target).next_arrival == last + 2


def test_changed_records_keep_their_arrival(target: LocalTarget) -> None:
    def blank(_: int, record: bytes) -> bytes:
        logged = LoggedEvent.FromString(record)
        if logged.event.actor.user_id != "bob":
            return record
        logged.event.actor.Clear()
        return logged.SerializeToString(deterministic=True)

    report = rewrite_archive(target, blank)
    assert list(read_archive(target)) == [(a, blank(a, r)) for a, r in enumerate(RECORDS)]
    assert report.changed > 0
    assert not list(load_manifest(target).gaps())


def test_only_batches_that_concern_are_read_and_written(target: LocalTarget) -> None:
    before = load_manifest(target)
    assert rewrite_archive(target, transform("ann"), concerns=holds_actor(target, ["nobody"])) == (
        RewriteReport(0, 0, 0)
    )
    assert load_manifest(target) == before
    rewrite_archive(target, transform("ann"), concerns=holds_actor(target, ["ann"]))
    assert list(read_archive(target)) == without("ann")


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 8), st.booleans())
def test_a_crash_anywhere_is_made_good(steps: int, after: bool) -> None:
    with TemporaryDirectory() as name:
        log = append(Path(name) / "log", RECORDS)
        target = LocalTarget(Path(name) / "archive")
        compact_log(log, target, limits=SMALL)
        crashing = CrashingTarget(Path(name) / "archive", steps, after=after)
        try:
            rewrite_archive(crashing, transform("ann"))
        except Crash:
            found = list(read_archive(target))
            assert set(without("ann")) <= set(found) <= set(enumerate(RECORDS))
        rewrite_archive(target, transform("ann"))
        assert list(read_archive(target)) == without("ann")
        listed = load_manifest(target).names() | {"manifest.json"}
        assert set(contents(Path(name) / "archive")) == listed
