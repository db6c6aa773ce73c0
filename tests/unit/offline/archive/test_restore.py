"""What was removed from a log comes back from its archive, and nothing is read over the hole."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest

from offline.archive.compact import compact_log
from offline.archive.read import read_archive
from offline.archive.remove import remove_archived
from offline.archive.restore import restore_log
from offline.archive.rewrite import rewrite_archive
from offline.archive.target import LocalTarget
from services.common import files as files_module
from services.common.errors import FailedPrecondition
from services.common.event_log import LogWriter, list_segments, read_log
from services.common.log_removed import note_removed
from services.feature.applying.apply import Applier
from services.feature.store.embedded import EmbeddedStore
from tests.support.archives import SMALL, Crash, append, payloads
from tests.support.event_streams import START_MS, small_domain

RECORDS = payloads(8, 80)
EXPECTED = list(enumerate(RECORDS))


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return append(tmp_path / "log", RECORDS)


@pytest.fixture
def target(log: Path, tmp_path: Path) -> LocalTarget:
    """Archive of the log, from which all but the last segment are removed."""
    target = LocalTarget(tmp_path / "archive")
    compact_log(log, target, limits=SMALL)
    assert remove_archived(log, target, len(RECORDS))
    return target


def test_a_log_is_whole_again(log: Path, target: LocalTarget) -> None:
    first = list_segments(log)[0].first_arrival
    with LogWriter(log) as writer:
        assert restore_log(target, log, segment_bytes=3_000).records == first
        writer.append([b"after"])
    assert len(list_segments(log)) > 3
    assert list(read_log(log)) == [*EXPECTED, (len(RECORDS), b"after")]
    assert restore_log(target, log).records == 0
    assert {path.suffix for path in log.iterdir()} == {".segment", ".lock"}


def test_a_lost_log_is_made_anew(target: LocalTarget, tmp_path: Path) -> None:
    assert restore_log(target, tmp_path / "new").records == len(RECORDS)
    assert list(read_log(tmp_path / "new")) == EXPECTED


def test_gaps_of_the_archive_keep_the_arrivals_behind_them(
    log: Path, target: LocalTarget, tmp_path: Path
) -> None:
    rewrite_archive(target, lambda arrival, record: None if arrival in (5, 6) else record)
    restore_log(target, tmp_path / "new")
    starts = [segment.first_arrival for segment in list_segments(tmp_path / "new")]
    assert starts == [0, 7]
    assert list(read_log(tmp_path / "new", 7)) == EXPECTED[7:]


def test_a_crash_leaves_no_hole(
    log: Path, target: LocalTarget, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = list_segments(log)
    real = files_module.LocalFiles.replace
    renamed: list[Path] = []

    def crashing(self: files_module.LocalFiles, source: Path, to: Path) -> None:
        if len(renamed) == 2:
            raise Crash
        renamed.append(to)
        real(self, source, to)

    monkeypatch.setattr(files_module.LocalFiles, "replace", crashing)
    with pytest.raises(Crash):
        restore_log(target, log, segment_bytes=1_500)
    monkeypatch.undo()
    segments = list_segments(log)
    assert len(segments) == len(kept) + 2
    first = segments[0].first_arrival
    assert list(read_log(log, first)) == EXPECTED[first:]
    assert restore_log(target, log).records == first
    assert list(read_log(log)) == EXPECTED


def test_an_archive_that_does_not_fit_is_refused(
    log: Path, target: LocalTarget, tmp_path: Path
) -> None:
    other = LocalTarget(tmp_path / "other")
    compact_log(append(tmp_path / "other log", payloads(9, 80)), other, limits=SMALL)
    with pytest.raises(FailedPrecondition, match="another log's"):
        restore_log(other, log)
    short = LocalTarget(tmp_path / "short")
    compact_log(append(tmp_path / "short log", RECORDS[:5]), short, limits=SMALL)
    with pytest.raises(FailedPrecondition, match="ends at arrival 5"):
        restore_log(short, log)


def test_a_store_is_not_filled_from_a_cut_log(
    log: Path, target: LocalTarget, tmp_path: Path
) -> None:
    store = EmbeddedStore(tmp_path / "store")
    try:
        applier = Applier(small_domain(Random(3)), store, lambda: START_MS)
        with pytest.raises(FailedPrecondition, match="podium events restore") as refused:
            applier.prepare(log)
        assert refused.value.reason == "LOG_CUT"
        restore_log(target, log, segment_bytes=3_000)
        assert applier.prepare(log) == 0
        applier.apply(list(read_log(log, 0, 10)))
        # What it has not applied yet is taken away after all.
        for segment in list_segments(log)[1:-1]:
            segment.path.unlink()
        note_removed(log, len(RECORDS) - 1)
        with pytest.raises(FailedPrecondition, match="podium events restore"):
            applier.prepare(log)
        applier.apply(list(read_archive(target, 10)))
        assert applier.prepare(log) == len(RECORDS)
    finally:
        store.close()
