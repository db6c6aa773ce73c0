"""The archive in S3, on a real server: atomic, exclusive, the same as on local disk."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from s3fs import S3FileSystem

from offline.archive.compact import compact_log
from offline.archive.manifest import MANIFEST_NAME
from offline.archive.read import read_archive, read_history
from offline.archive.remote import LEASE_MS, S3Target
from offline.archive.remove import remove_archived
from offline.archive.rewrite import rewrite_archive
from offline.archive.source import EventFilter, open_source
from offline.archive.target import LocalTarget, open_target
from offline.archive.writer import load_manifest, write_archive
from services.common.errors import FailedPrecondition, InvalidArgument, NotFound, Unavailable
from services.common.event_log import list_segments
from tests.support.archives import SMALL, append, payloads
from tests.support.s3_server import s3_environment, s3_server

RECORDS = payloads(5, 60)
NOW_MS = 1_800_000_000_000


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    with s3_server() as endpoint, pytest.MonkeyPatch.context() as patch:
        for name, value in s3_environment(endpoint).items():
            patch.setenv(name, value)
        S3FileSystem().mkdir("events")
        yield "s3://events"


@pytest.fixture
def url(bucket: str, request: pytest.FixtureRequest) -> str:
    return f"{bucket}/{request.node.name}/archive"


def target_of(url: str) -> S3Target:
    target = open_target(url)
    assert isinstance(target, S3Target)
    return target


def test_holds_what_a_local_archive_holds(url: str, tmp_path: Path) -> None:
    log = append(tmp_path / "log", RECORDS[:45])
    target = target_of(url)
    compact_log(log, target, limits=SMALL)
    append(log, RECORDS[45:])
    report = compact_log(log, target, limits=SMALL)
    local = LocalTarget(tmp_path / "archive")
    compact_log(log, local, limits=SMALL)
    assert load_manifest(target) == load_manifest(local)
    assert target.names() == local.names() == report.manifest.names()
    for name in local.names():
        assert target.open(name).read() == local.open(name).read()
    assert list(read_archive(target)) == list(enumerate(RECORDS))
    tables = open_source(url).tables(EventFilter(types=("click",)))
    assert sum(table.num_rows for table in tables) > 0


def test_archived_segments_are_read_from_there(url: str, tmp_path: Path) -> None:
    log = append(tmp_path / "log", RECORDS)
    target = target_of(url)
    compact_log(log, target, limits=SMALL)
    remove_archived(log, target, len(RECORDS))
    assert len(list_segments(log)) == 1
    assert list(read_history(log, target)) == list(enumerate(RECORDS))


def test_two_writers_exclude_one_another(url: str, tmp_path: Path) -> None:
    log = append(tmp_path / "log", RECORDS)
    with (
        write_archive(target_of(url), lambda: NOW_MS),
        pytest.raises(FailedPrecondition, match="another process") as refused,
    ):
        compact_log(log, target_of(url), limits=SMALL, clock_ms=lambda: NOW_MS + 1)
    assert refused.value.reason == "ARCHIVE_LOCKED"
    assert compact_log(log, target_of(url), limits=SMALL).records == len(RECORDS)


def test_a_writer_whose_claim_ran_out_can_not_commit(url: str, tmp_path: Path) -> None:
    log = append(tmp_path / "log", RECORDS)
    target = target_of(url)

    def overtaken() -> None:
        with write_archive(target_of(url), lambda: NOW_MS) as slow:
            compact_log(log, target, limits=SMALL, clock_ms=lambda: NOW_MS + LEASE_MS + 1)
            slow.commit(load_manifest(target).batches[0], {}, replaced=None, last_digest="")

    with pytest.raises(FailedPrecondition, match="another process"):
        overtaken()
    assert len(load_manifest(target).batches) > 1
    assert list(read_archive(target_of(url))) == list(enumerate(RECORDS))


def test_a_writer_that_died_is_followed_when_its_claim_runs_out(url: str, tmp_path: Path) -> None:
    log = append(tmp_path / "log", RECORDS)
    target = target_of(url)
    with write_archive(target, lambda: NOW_MS):
        found = target.read_manifest()
    after = target.read_manifest()
    assert found is not None
    assert after is not None
    # Its claim as it was, and half of what it wrote.
    target.replace_manifest(found[0], after[1])
    staged = tmp_path / "half"
    staged.write_bytes(b"half")
    target.put("date=2026-01-01/half.parquet", staged)
    with pytest.raises(FailedPrecondition, match="another process"):
        compact_log(log, target, limits=SMALL, clock_ms=lambda: NOW_MS + LEASE_MS - 1)
    compact_log(log, target, limits=SMALL, clock_ms=lambda: NOW_MS + LEASE_MS)
    assert target.names() == load_manifest(target).names()
    assert list(read_archive(target)) == list(enumerate(RECORDS))


def test_a_file_replaced_while_reading_is_no_error(url: str, tmp_path: Path) -> None:
    log = append(tmp_path / "log", RECORDS[:40])
    target = target_of(url)
    compact_log(log, target, limits=SMALL)
    reader = read_archive(target_of(url))
    found = [next(reader)]
    append(log, RECORDS[40:])
    compact_log(log, target, limits=SMALL)
    assert [*found, *reader] == list(enumerate(RECORDS))


def test_records_are_dropped_and_their_files_gone(url: str, tmp_path: Path) -> None:
    target = target_of(url)
    compact_log(append(tmp_path / "log", RECORDS), target, limits=SMALL)
    rewrite_archive(target, lambda arrival, record: None if arrival % 2 else record)
    assert list(read_archive(target)) == list(enumerate(RECORDS))[::2]
    assert target.names() == load_manifest(target).names()
    assert all(".r1." in name for name in target.names())


def test_what_is_not_there_is_named(url: str, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="no archive at s3://events"):
        list(read_archive(target_of(url)))
    missing = target_of("s3://no-such-bucket/archive")
    with pytest.raises(NotFound, match="s3://no-such-bucket/archive"):
        compact_log(append(tmp_path / "log", RECORDS), missing)
    with pytest.raises(NotFound, match="s3://no-such-bucket/archive"):
        missing.put(MANIFEST_NAME, tmp_path / "log" / "writer.lock")
    for wrong in ("s3://", "s3://bucket-alone", "gs://bucket/path", ""):
        with pytest.raises(InvalidArgument, match="archive"):
            open_target(wrong)


def test_without_credentials_it_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    S3FileSystem.clear_instance_cache()
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises((Unavailable, FailedPrecondition), match=r"s3://events/.*credentials"):
        target_of(url).read_manifest()
    S3FileSystem.clear_instance_cache()
