"""``podium analyse``: what it prints, writes, and how it ends."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from cli.analyse import _explored
from cli.main import build
from services.common.assign.model import Definitions, Experiment
from services.common.assign.registered import Analysis, Switchback
from services.common.errors import (
    ConfigError,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PodiumError,
)
from tests.support.analysed_log import EXPERIMENTS, write_sold_log

ROOT = Path(__file__).parents[3]
DOMAIN = ROOT / "config" / "live_courses.yaml"


def _run(tmp_path: Path, key: str, *arguments: str, log: Path | None = None) -> Result:
    experiments = tmp_path / "experiments.yaml"
    experiments.write_text(EXPERIMENTS, encoding="utf-8")
    command = ["analyse", key, "--domain", DOMAIN, "--experiments", experiments]
    command += ["--log", log or tmp_path / "log", "--columns", tmp_path / "columns"]
    command += ["--out", tmp_path / "out", *arguments]
    return CliRunner().invoke(build(), [str(part) for part in command], env={"COLUMNS": "200"})


@pytest.fixture(scope="module")
def sold(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_sold_log(tmp_path_factory.mktemp("sold") / "log")


def test_it_prints_and_writes_what_the_experiment_did(tmp_path: Path, sold: Path) -> None:
    result = _run(tmp_path, "prices", log=sold)
    assert result.exit_code == 0, result.output
    assert "Ship “shown”" in result.output
    report = json.loads((tmp_path / "out" / "prices.json").read_text(encoding="utf-8"))
    assert report["decision"]["outcome"] == "ship"
    assert {arm["variant"]: arm["units"] for arm in report["arms"]} == {
        "control": 200,
        "shown": 200,
    }
    html = (tmp_path / "out" / "prices.html").read_text(encoding="utf-8")
    assert "buyers_7d" in html


def test_a_metric_that_was_not_registered_explores(tmp_path: Path, sold: Path) -> None:
    result = _run(tmp_path, "idle", "--primary", "revenue_7d", log=sold)
    assert "nobody was exposed to idle" in str(result.exception)
    result = _run(tmp_path, "prices", "--primary", "revenue_7d", log=sold)
    assert result.exit_code == 0, result.output
    report = json.loads((tmp_path / "out" / "prices.json").read_text(encoding="utf-8"))
    assert [metric["name"] for metric in report["metrics"]] == ["revenue_7d"]
    assert report["decision"]["outcome"] == "no_conclusion"


def test_records_that_the_log_lost_are_told_in_every_report(tmp_path: Path) -> None:
    log = write_sold_log(tmp_path / "log")
    (segment,) = log.glob("*.segment")
    content = bytearray(segment.read_bytes())
    content[len(content) // 2] ^= 1
    segment.write_bytes(content)
    for _ in range(2):
        result = _run(tmp_path, "prices", log=log)
        assert result.exit_code == 0, result.output
        report = json.loads((tmp_path / "out" / "prices.json").read_text(encoding="utf-8"))
        (warned,) = [w["text"] for w in report["warnings"] if w["code"] == "lost_records"]
        assert "1 of its records at least are lost" in warned


@pytest.mark.parametrize(
    ("key", "arguments", "error", "said"),
    [
        ("price", (), NotFound, "no experiment 'price'; there are idle, prices"),
        ("idle", (), FailedPrecondition, "registers no analysis"),
        ("idle", ("--primary", "profit"), InvalidArgument, "'profit' is not one of buyers_7d"),
        ("prices", ("--as-of", "soon"), InvalidArgument, "is no ISO 8601 time"),
        ("prices", ("--domain", "none.yaml"), ConfigError, "none.yaml"),
        ("prices", ("--log", "nowhere"), NotFound, "nowhere"),
    ],
)
def test_what_cannot_be_analysed_is_told(
    tmp_path: Path, key: str, arguments: tuple[str, ...], error: type[PodiumError], said: str
) -> None:
    result = _run(tmp_path, key, *arguments)
    assert isinstance(result.exception, error)
    assert said in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_another_burn_in_explores(tmp_path: Path, sold: Path) -> None:
    result = _run(tmp_path, "prices", "--burn-in", "5m", log=sold)
    assert isinstance(result.exception, InvalidArgument)
    assert "switchback: is for time slices; the unit is user" in str(result.exception)
    result = _run(tmp_path, "prices", "--burn-in", "soon", log=sold)
    assert "burn-in: 'soon' is not a duration" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ((None, None, None), None),
        ((None, "7m", None), Analysis("a", secondary=("b",), switchback=Switchback(420_000, 2))),
        ((None, None, 4), Analysis("a", secondary=("b",), switchback=Switchback(300_000, 4))),
        (("c", None, None), Analysis("c", switchback=Switchback(300_000, 2))),
        ((None, "0s", None), Analysis("a", secondary=("b",), switchback=Switchback(0, 2))),
        (("c", "0s", 1), Analysis("c", switchback=Switchback())),
    ],
)
def test_what_explores_keeps_how_slices_are_cut(
    arguments: tuple[str | None, str | None, int | None], expected: Analysis | None
) -> None:
    registered = Analysis("a", secondary=("b",), switchback=Switchback(300_000, 2))
    experiment = Experiment("e", "time_slice", "s", (), slice_ms=1_800_000, analysis=registered)
    assert _explored(Definitions({"e": experiment}, ""), "e", *arguments) == expected


def test_before_anybody_was_exposed_it_says_so(tmp_path: Path) -> None:
    log = write_sold_log(tmp_path / "log", users=3, exposed=False)
    result = _run(tmp_path, "prices", log=log)
    assert isinstance(result.exception, FailedPrecondition)
    assert "nobody was exposed to prices by 2026-01-21 00:00 UTC (" in result.exception.message
    assert not (tmp_path / "out").exists()
