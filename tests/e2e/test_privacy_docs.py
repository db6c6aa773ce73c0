"""Every command of ``docs/privacy.md`` runs, in the order in which one would run them."""

from __future__ import annotations

import shlex
import time
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from cli.main import build
from podium.common.v1.common_pb2 import Actor
from podium.feature.v1 import feature_pb2
from services.common.pseudonym import DEVELOPMENT_KEYS, SETTING, Pseudonymiser
from services.common.spool import Spool
from tests.support.feature_server import running_service
from tests.support.feature_streams import interaction
from tests.support.more_features import LIVE_COURSES
from tests.support.readme import commands

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs" / "privacy.md"


def _run(line: str, data: Path, port: int = 0) -> Result:
    arguments = [
        part.replace("data/", f"{data}/", 1).replace("localhost:50051", f"127.0.0.1:{port}")
        for part in shlex.split(line)[1:]
    ]
    return CliRunner().invoke(build(), arguments)


@pytest.mark.slow
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    lines = commands(DOCS)
    assert all(line.startswith(".venv/bin/podium ") for line in lines)
    erase, new, rotate = lines
    compact = "podium events compact data/log --to data/archive"
    with running_service(LIVE_COURSES, tmp_path) as running:
        now_ms = time.time_ns() // 1_000_000
        names = ("ann", "bob")
        events = [interaction(f"e-{who}", "click", now_ms, who, "course:c") for who in names]
        running.client.ingest(*events)
        before = running.client.get("user", "bob", position=2)[0]["user_clicks_7d"]
        assert _run(compact, tmp_path).exit_code == 0
    for folder in ("replica", "captures"):
        (tmp_path / folder).mkdir()
    Spool(tmp_path / "spool", "ranker", Pseudonymiser.from_text(DEVELOPMENT_KEYS)).close()

    made = _run(new, tmp_path)
    both = f"{DEVELOPMENT_KEYS},{made.output.strip()}"
    monkeypatch.setenv(SETTING, both)
    with running_service(LIVE_COURSES, tmp_path, keys=both) as running:
        rotated = _run(rotate, tmp_path, running.port)
        assert rotated.exit_code == 0, rotated.output
        assert "Nothing is under key 1 any more" in rotated.output
        assert running.client.get("user", "bob")[0]["user_clicks_7d"] == before
        gone = feature_pb2.EraseUserRequest(event_id="x", actor=Actor(user_id="ann"))
        position = running.client.stub.EraseUser(gone, timeout=30).log_position
        running.client.get("user", "bob", position=position)
    erased = _run(erase, tmp_path)
    assert erased.exit_code == 0, erased.output
    assert "1 to be forgotten, 1 records erased" in erased.output
