"""Every command of the README runs. The gate itself runs ``make demo`` and ``make test``."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from cli.demo.processes import Services, demo_environment, free_port
from podium.common.v1 import common_pb2
from podium.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from services.common.channels import open_channel
from tests.e2e.conftest import READY_SECONDS, ROOT
from tests.support.readme import commands

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


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the README's commands for real logs have run."""
    data = tmp_path_factory.mktemp("imported")
    _write_enrolments(data / "mooccubex")
    (run,) = [lines for lines in _pipelines() if " import " in lines[0]]
    assert all(_run(line, data) for line in run)
    return data


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_world_is_simulated_trained_on_and_evaluated(tmp_path: Path) -> None:
    (run,) = [lines for lines in _pipelines() if " simulate " in lines[0]]
    assert all(_run(line, tmp_path) for line in run)


def _serve(environment: dict[str, str], ports: dict[str, int], output: Path) -> Services:
    """The three services, ready."""
    services = Services(environment, output)
    try:
        for name, port in ports.items():
            services.start(name)
            services.wait_ready(name, f"localhost:{port}", READY_SECONDS)
    except BaseException:
        services.stop()
        raise
    return services


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_another_domain_is_imported_trained_and_served(imported: Path, tmp_path: Path) -> None:
    named = dict(re.findall(r"(PODIUM_\w+_FILE)=([^\s`]+)", README.read_text()))
    assert named.keys() == {"PODIUM_DOMAIN_FILE", "PODIUM_EXPERIMENTS_FILE"}
    ports = {name: free_port() for name in ("feature", "experiment", "ranker")}
    environment = demo_environment(imported / "mooc", ports) | named
    services = _serve(environment, ports, tmp_path / "output")
    try:
        with open_channel(f"localhost:{ports['ranker']}") as channel:
            asked = ranker_pb2.RankRequest(
                actor=common_pb2.Actor(user_id="U_3"), surface="courses", k=5
            )
            answer = ranker_pb2_grpc.RankerServiceStub(channel).Rank(asked, timeout=20)
    finally:
        problems = services.stop()
    assert problems == ""
    enrolled = {f"C_{30 + (3 + step) % 10}" for step in range(7)}
    assert len(set(answer.slate.ids)) == 5
    assert all(id_.startswith("C_") and id_ not in enrolled for id_ in answer.slate.ids)
    assert not answer.degraded


def test_the_files_of_an_import_are_named(tmp_path: Path) -> None:
    _write_enrolments(tmp_path / "mooccubex")
    text = README.read_text()
    assert all(f"`{path.name}`" in text for path in (tmp_path / "mooccubex").iterdir())


def test_no_command_is_left_out() -> None:
    checked = {line for run in _pipelines() for line in run} | RUN_BY_THE_GATE
    rest = [line for line in commands(README) if line not in checked]
    assert [line.split()[0] for line in rest] == [".venv/bin/podium", "grpcurl"]
    assert rest[0] == ".venv/bin/podium up"
