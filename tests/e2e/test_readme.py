"""Every command of the README runs. The gate itself runs ``make demo`` and ``make test``."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.e2e.conftest import ROOT, Running
from tests.support.readme import blocks, commands

README = ROOT / "README.md"
BIN = Path(sys.executable).parent
RUN_BY_THE_GATE = {"make demo", "make test"}
PIPELINES = ("simulate", "import")


def _podium_commands() -> list[str]:
    return [line for line in commands(README) if line.startswith(".venv/bin/podium ")]


def _pipelines() -> list[list[str]]:
    """The README's runs of ``podium``: one begins where events come in."""
    runs: list[list[str]] = []
    for line in _podium_commands():
        verb = line.split()[1]
        if verb in PIPELINES:
            runs.append([])
        if verb != "up":
            runs[-1].append(line)
    return runs


def _run(line: str, data: Path) -> str:
    line = line.replace("mooccubex mooccubex ", f"mooccubex {data / 'mooccubex'} ")
    arguments = [
        part.replace("data/", f"{data}/", 1) if part.startswith("data/") else part
        for part in shlex.split(line)[1:]
    ]
    done = subprocess.run(
        [BIN / "podium", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{line}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def _write_enrolments(folder: Path) -> None:
    """A log of the shape of MOOCCubeX's, small: four circles of ten courses each."""
    folder.mkdir()
    courses = 40
    (folder / "item_list.txt").write_text(
        "org_id remap_id\n" + "".join(f"C_{i} {i}\n" for i in range(courses))
    )
    (folder / "user_list.txt").write_text(
        "org_id remap_id gender\n" + "".join(f"U_{i} {i} 1\n" for i in range(200))
    )
    (folder / "kg_final.txt").write_text("".join(f"{i} 0 {courses + i % 5}\n" for i in range(40)))
    lines = [
        " ".join(
            str(n) for n in (user, *((user % 4) * 10 + (user + step) % 10 for step in range(7)))
        )
        for user in range(200)
    ]
    (folder / "sequences.txt").write_text("\n".join(lines) + "\n")


@pytest.mark.slow
@pytest.mark.parametrize("run", _pipelines(), ids=lambda run: run[0].split()[1])
def test_the_commands_one_by_one(run: list[str], tmp_path: Path) -> None:
    _write_enrolments(tmp_path / "mooccubex")
    output = [_run(line, tmp_path) for line in run]
    assert all(output)


def test_no_command_is_left_out() -> None:
    checked = {line for run in _pipelines() for line in run} | RUN_BY_THE_GATE
    rest = [line for line in commands(README) if line not in checked]
    assert [line.split()[0] for line in rest] == [".venv/bin/podium", "grpcurl"]
    assert rest[0] == ".venv/bin/podium up"


def test_rank_from_python(running: Running, capsys: pytest.CaptureFixture[str]) -> None:
    (snippet,) = blocks(README, "python")
    exec(snippet.replace("50052", str(running.ranker_port)), {})  # noqa: S102 - the README's own
    rank_id, rest = capsys.readouterr().out.split(" ", 1)
    assert len(rank_id) == 26
    assert rest.count("room_") == 5


def test_rank_from_grpcurl(running: Running) -> None:
    grpcurl = shutil.which("grpcurl")
    if grpcurl is None:
        pytest.skip("grpcurl is not installed")
    (line,) = [line for line in commands(README) if line.startswith("grpcurl ")]
    arguments = shlex.split(line.replace("50052", str(running.ranker_port)))[1:]
    answer = subprocess.run([grpcurl, *arguments], capture_output=True, text=True, check=True)
    ids = json.loads(answer.stdout)["slate"]["ids"]
    assert len(ids) == 5
    assert all(id_.startswith("course_") for id_ in ids)
