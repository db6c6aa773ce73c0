"""``podium serve``: help that names every setting, and the three services as child processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli import serve
from services.common.settings import (
    CommonSettings,
    ExperimentSettings,
    FeatureSettings,
    RankerSettings,
    describe_settings,
)

ROOT = Path(__file__).parents[3]


def _help(name: str) -> str:
    app = typer.Typer(rich_markup_mode=None)
    serve.register(app)
    result = CliRunner().invoke(app, ["serve", name, "--help"])
    assert result.exit_code == 0
    return " ".join(result.output.split())


@pytest.mark.parametrize(
    ("name", "kinds"),
    [
        ("feature", [FeatureSettings]),
        ("ranker", [RankerSettings]),
        ("experiment", [ExperimentSettings]),
        ("all", [FeatureSettings, RankerSettings, ExperimentSettings]),
    ],
)
def test_help_names_every_setting(name: str, kinds: list[type[CommonSettings]]) -> None:
    text = _help(name)
    for kind in kinds:
        for setting in describe_settings(kind):
            assert f"{setting.variable} " in text
            assert " ".join(f"{setting.sentence} [default: {setting.default}]".split()) in text


_PARENT = """
import sys
from pathlib import Path
from cli.serve import ServiceProcesses

child = '''
import signal, sys, time
from pathlib import Path
name, directory, code = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
def stop(number, frame):
    with (directory / "stopped").open("a") as file:
        file.write(name + "\\\\n")
    sys.exit(code)
signal.signal(signal.SIGTERM, stop)
sys.stdout.write(name + "\\\\n")
sys.stdout.flush()
(directory / ("started-" + name)).touch()
if name == sys.argv[4]:
    # Not before the others can tell that they were stopped.
    while len(list(directory.glob("started-*"))) < 3:
        time.sleep(0.01)
    sys.exit(code)
while True:
    signal.pause()
'''
directory, code, ends = sys.argv[1:]
processes = ServiceProcesses(
    patience_s=20,
    command_of=lambda name: [sys.executable, "-c", child, name, directory, code, ends],
)
sys.exit(processes.run_until_signalled())
"""


@contextmanager
def _parent(directory: Path, code: int, ends: str) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(_PARENT), str(directory), str(code), ends],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as parent:
        try:
            assert parent.stdout is not None
            started = {parent.stdout.readline().strip() for _ in serve.SERVICES}
            assert started == set(serve.SERVICES)
            yield parent
        finally:
            parent.terminate()


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (3, 1)])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_all_in_order(
    tmp_path: Path, code: int, expected: int, number: signal.Signals
) -> None:
    with _parent(tmp_path, code, "none") as parent:
        parent.send_signal(number)
        _, errors = parent.communicate(timeout=60)
    assert parent.returncode == expected, errors
    assert (tmp_path / "stopped").read_text().split() == list(serve.SERVICES)


def test_when_one_ends_the_others_are_stopped_and_it_shows(tmp_path: Path) -> None:
    with _parent(tmp_path, 0, "experiment") as parent:
        _, errors = parent.communicate(timeout=60)
    assert parent.returncode == 1
    assert "the experiment service ended by itself" in errors
    assert (tmp_path / "stopped").read_text().split() == ["ranker", "feature"]
