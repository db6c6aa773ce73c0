"""Every command of ``docs/event_log.md`` runs."""

from __future__ import annotations

import shlex
from pathlib import Path

import duckdb
import pytest
from s3fs import S3FileSystem
from typer.testing import CliRunner

from cli.main import build
from offline.archive.columns import SCHEMA
from services.common.domain import load_domain
from services.common.event_log import list_segments, read_log
from services.feature.applying.apply import Applier
from services.feature.store.embedded import EmbeddedStore
from tests.support.readme import blocks, commands
from tests.support.s3_server import s3_environment, s3_server

ROOT = Path(__file__).parents[2]
END_MS = 1_767_225_600_000
DOCS = ROOT / "docs" / "event_log.md"


def _run(line: str, data: Path) -> str:
    arguments = [
        part.replace("data/", f"{data}/", 1) if part.startswith("data/") else part
        for part in shlex.split(line)[1:]
    ]
    done = CliRunner().invoke(build(), arguments)
    assert done.exit_code == 0, f"{line}\n{done.output}\n{done.exception}"
    return done.output


def _fill_store(log: Path, directory: Path) -> None:
    store = EmbeddedStore(directory)
    try:
        applier = Applier(load_domain(ROOT / "config" / "live_courses.yaml"), store, lambda: END_MS)
        applier.prepare(log)
        applier.apply(list(read_log(log)))
    finally:
        store.close()


@pytest.mark.slow
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = commands(DOCS)
    assert all(line.startswith(".venv/bin/podium ") for line in lines)
    with s3_server() as endpoint:
        for name, value in s3_environment(endpoint).items():
            monkeypatch.setenv(name, value)
        S3FileSystem().mkdir("events")
        for line in lines:
            if "--store" in line:
                _fill_store(tmp_path / "log", tmp_path / "store")
            output = _run(line, tmp_path)
            if "inspect" in line:
                assert "nothing is damaged or missing" in output
                assert "The first" in output
    records = sum(1 for _ in read_log(tmp_path / "log"))
    assert list_segments(tmp_path / "log")[0].first_arrival == 0
    (query,) = blocks(DOCS, "sql")
    counts = duckdb.sql(query.replace("data/", f"{tmp_path}/")).fetchall()
    assert sum(count for _, count in counts) == records


def test_every_column_is_named() -> None:
    text = DOCS.read_text()
    assert all(f"`{name}`" in text for name in SCHEMA.names)
