"""How the command ends on errors."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["simulate", "--log", "{file}/log", "--users", "10", "--weeks", "1"], "Not a directory"),
        (["bundle", "list", "--bundles", "{file}/absent"], "there is no directory of bundles at"),
        (["dataset", "--domain", "{file}/a.yaml", "--log", "x", "--out", "y"], "cannot be read"),
    ],
)
def test_a_path_that_can_not_be_used_is_one_line(
    arguments: list[str], message: str, tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    done = subprocess.run(
        [sys.executable, "-m", "cli.main", *(a.format(file=file) for a in arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert str(file) in line
    assert message in line
