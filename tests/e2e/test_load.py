"""``make load`` against a running ranker."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Running


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
