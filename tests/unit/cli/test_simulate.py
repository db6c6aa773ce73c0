"""``podium simulate`` as a command."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from cli import simulate
from offline.simulator.parameters import RANGES
from services.common.errors import FailedPrecondition, InvalidArgument
from services.common.event_log import read_log

DOMAIN = str(Path(__file__).parents[3] / "config" / "live_courses.yaml")
SMALL = ["--weeks", "1", "--users", "15", "--hosts", "4", "--courses", "12", "--domain", DOMAIN]


@pytest.fixture
def app() -> typer.Typer:
    app = typer.Typer()
    simulate.register(app)
    return app


def test_writes_a_log_and_says_what_is_in_it(app: typer.Typer, tmp_path: Path) -> None:
    arguments = ["--log", str(tmp_path / "log"), "--truth", str(tmp_path / "truth"), *SMALL]
    result = CliRunner().invoke(app, [*arguments, "--end", "2026-05-01T00:00:00Z"])
    assert result.exit_code == 0, result.output
    count = sum(1 for _ in read_log(tmp_path / "log"))
    assert f"{count:,} events" in result.output
    assert "impression" in result.output
    assert (tmp_path / "truth" / "cuts.json").is_file()
    again = CliRunner().invoke(app, [*arguments, "--end", "2026-05-01T00:00:00Z"])
    assert isinstance(again.exception, FailedPrecondition)


def test_equal_flags_give_equal_bytes(app: typer.Typer, tmp_path: Path) -> None:
    logs = []
    for name in ("a", "b"):
        arguments = ["--log", str(tmp_path / name), *SMALL, "--end", "2026-05-01", "--seed", "9"]
        assert CliRunner().invoke(app, arguments).exit_code == 0
        logs.append([data for _, data in read_log(tmp_path / name)])
    assert logs[0] == logs[1]


def test_help_names_every_parameter_with_its_range(app: typer.Typer) -> None:
    output = CliRunner().invoke(app, ["--help"], env={"COLUMNS": "240"}).output
    for name in RANGES:
        assert f"--{name.replace('_', '-')}" in output


def test_the_end_is_read_as_utc_and_now_is_the_only_clock() -> None:
    now = datetime(2026, 5, 1, 12, tzinfo=UTC)
    assert simulate.end_of_log("now", now) == 1_777_636_800_000
    assert simulate.end_of_log("2026-05-01T12:00:00", now) == 1_777_636_800_000
    assert simulate.end_of_log("2026-05-01T20:00:00+08:00", now) == 1_777_636_800_000
    with pytest.raises(InvalidArgument, match="end"):
        simulate.end_of_log("tomorrow", now)
