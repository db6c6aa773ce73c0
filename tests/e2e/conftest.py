"""One running Podium for the tests of this folder."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from cli.demo.processes import free_port

ROOT = Path(__file__).parents[2]
READY_SECONDS = 400


@dataclass(frozen=True)
class Running:
    """Ports of the three services, and the directory they work in."""

    feature_port: int
    ranker_port: int
    experiment_port: int
    directory: Path


@pytest.fixture(scope="session")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    """``podium up`` on a small world; it must end with exit code 0."""
    directory = tmp_path_factory.mktemp("up") / "data"
    output_path = directory.parent / "output.txt"
    at = Running(free_port(), free_port(), free_port(), directory)
    flags = ["--users", "150", "--weeks", "3", "--courses", "60", "--dir", str(directory)]
    for name in ("feature", "ranker", "experiment"):
        flags += [f"--{name}-port", str(getattr(at, f"{name}_port"))]
    with output_path.open("wb") as output:
        child = subprocess.Popen(
            [sys.executable, "-m", "cli.main", "up", *flags],
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    try:
        give_up = time.monotonic() + READY_SECONDS
        while "Running until" not in output_path.read_text():
            assert child.poll() is None, output_path.read_text()
            assert time.monotonic() < give_up, output_path.read_text()
            time.sleep(0.1)
        yield at
    finally:
        child.send_signal(signal.SIGTERM)
        code = child.wait(timeout=90)
    assert code == 0, output_path.read_text()
