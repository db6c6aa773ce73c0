"""A Podium that ``podium up`` runs: what the README asks of it, and ``make load``."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Running
from tests.support.readme import blocks, commands

README = ROOT / "README.md"
# ``podium up`` simulates and trains first.
pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


def test_rank_from_python(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = blocks(README, "python")
    exec(snippet.replace("50052", str(running.ranker_port)), {})  # noqa: S102 - the README's own
    rank_id, rest = capsys.readouterr().out.split(" ", 1)
    assert len(rank_id) == 26
    assert rest.count("room_") == 5


@pytest.fixture(scope="session")
def grpcurl() -> str:
    """Where grpcurl lies. It comes in no wheel: without it the test is skipped, in CI too."""
    found = shutil.which("grpcurl")
    if found is None:
        pytest.skip("grpcurl is not on PATH")
    return found


def test_rank_from_grpcurl(grpcurl: str, running: Running) -> None:
    (line,) = [line for line in commands(README) if line.startswith("grpcurl ")]
    arguments = shlex.split(line.replace("50052", str(running.ranker_port)))[1:]
    answer = subprocess.run([grpcurl, *arguments], capture_output=True, text=True, check=True)
    ids = json.loads(answer.stdout)["slate"]["ids"]
    assert len(ids) == 5
    assert all(id_.startswith("course_") for id_ in ids)


def test_load_prints_rate_percentiles_and_statuses(running: Running) -> None:
    if shutil.which("ghz") is None and not (ROOT.parent / "shared" / "bin" / "ghz").exists():
        pytest.skip("ghz is not installed")
    done = subprocess.run(
        [ROOT / "deploy" / "load" / "run", "--duration", "1s"],
        env=os.environ
        | {"TARGET": f"localhost:{running.ranker_port}", "VENV": str(Path(sys.prefix))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "requests/s" in done.stdout
    assert "p99" in done.stdout
    assert "'OK'" in done.stdout
