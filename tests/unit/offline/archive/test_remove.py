"""Segments go only when they are archived, applied, and not the last."""

from __future__ import annotations

from pathlib import Path

import pytest

from offline.archive.compact import compact_log
from offline.archive.read import read_history
from offline.archive.remove import remove_archived
from offline.archive.target import LocalTarget
from services.common.errors import FailedPrecondition
from services.common.event_log import HEADER, LogReader, LogWriter, list_segments, read_log
from tests.support.archives import SMALL, append, payloads

RECORDS = payloads(8, 80)


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return append(tmp_path / "log", RECORDS)


@pytest.fixture
def target(log: Path, tmp_path: Path) -> LocalTarget:
    target = LocalTarget(tmp_path / "archive")
    compact_log(log, target, limits=SMALL)
    return target


def test_the_log_goes_on_and_history_begins_at_0(log: Path, target: LocalTarget) -> None:
    before = list_segments(log)
    assert len(before) > 3
    removed = remove_archived(log, target, len(RECORDS))
    assert removed == before[:-1]
    assert list_segments(log) == before[-1:]
    with LogWriter(log) as writer:
        assert writer.append([b"after"]) == len(RECORDS)
    expected = list(enumerate([*RECORDS, b"after"]))
    assert list(read_history(log, target)) == expected
    assert list(read_history(log, target, 5, 9)) == expected[5:9]
    assert list(read_history(log, target, len(RECORDS) - 1)) == expected[-2:]
    assert LogReader(log, len(RECORDS)).read(9) == expected[-1:]
    assert remove_archived(log, target, len(RECORDS)) == []
    assert compact_log(log, target, limits=SMALL).records == 1
    assert list(read_history(log, target)) == expected


@pytest.mark.parametrize("applied", [0, 1, 2, 20, 33])
def test_what_the_store_has_not_applied_stays(log: Path, target: LocalTarget, applied: int) -> None:
    remove_archived(log, target, applied)
    # The record before its position is there too: a store knows its log by it.
    start = max(applied - 1, 0)
    assert LogReader(log, start).read(1) == [(start, RECORDS[start])]
    second = list_segments(log)[1].first_arrival
    assert second > start


def test_what_is_not_archived_stays(log: Path, target: LocalTarget) -> None:
    append(log, RECORDS * 2)
    remove_archived(log, target, 3 * len(RECORDS))
    last = len(RECORDS) - 1
    assert next(read_log(log, last)) == (last, RECORDS[last])
    assert compact_log(log, target, limits=SMALL).records == 2 * len(RECORDS)
    assert list(read_history(log, target)) == list(enumerate(RECORDS * 3))


def test_a_segment_that_differs_from_the_archive_stays(log: Path, target: LocalTarget) -> None:
    before = list_segments(log)
    second = before[1].path
    data = second.read_bytes()
    first_length = HEADER.unpack_from(data)[0] + HEADER.size
    second.write_bytes(data[first_length:] + data[:first_length])
    with pytest.raises(FailedPrecondition, match=second.name):
        remove_archived(log, target, len(RECORDS))
    assert list_segments(log) == before[1:]


def test_without_its_archive_a_cut_log_is_refused(log: Path, target: LocalTarget) -> None:
    remove_archived(log, target, len(RECORDS))
    with pytest.raises(FailedPrecondition, match="begins at arrival") as refused:
        list(read_history(log, None))
    assert refused.value.reason == "LOG_CUT"
    other = LocalTarget(log.parent / "other")
    with pytest.raises(FailedPrecondition, match="begins at arrival"):
        compact_log(log, other, limits=SMALL)
