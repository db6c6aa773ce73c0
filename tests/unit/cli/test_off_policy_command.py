"""``podium evaluate off-policy`` prints estimates beside the truth and writes them as JSON."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from cli import evaluate
from offline.evaluation.off_policy.report import OffPolicyReport
from services.common.errors import InvalidArgument, NotFound
from tests.support.explored_log import ExploredWorld
from tests.support.open_bandit import write_open_bandit

DOMAIN = Path(__file__).parents[3] / "config" / "live_courses.yaml"


def run(*arguments: str) -> str:
    app = typer.Typer()
    app.callback()(lambda: None)
    evaluate.register(app)
    found = CliRunner().invoke(
        app, ["evaluate", *arguments], catch_exceptions=False, env={"COLUMNS": "200"}
    )
    return f"{found.exit_code}\n{found.output}"


def test_a_table_a_reason_and_a_report(tmp_path: Path) -> None:
    never = np.array([[0.0, 0.5, 0.5], [0.2, 0.3, 0.5]])
    write_open_bandit(tmp_path / "data", impressions=2_000, thompson=never)
    out = tmp_path / "reports" / "off_policy.json"
    printed = run(
        "off-policy", "--log=open-bandit", str(tmp_path / "data"), "--resamples=100", f"--out={out}"
    )
    assert printed.startswith("0\n")
    for text in ("snips", "switch-dr", "per position", "as logged", f"written to {out}"):
        assert text in printed
    assert "men, bts → random: ips (per position), snips (per position)" in printed
    assert "refused: no support" in printed
    report = OffPolicyReport.model_validate_json(out.read_text())
    assert report.comparisons[0].results[-1].kind == "estimate"
    assert "% predicted)" in printed
    kinds = [{result.kind for result in c.results} for c in report.comparisons]
    assert kinds == [{"estimate"}, {"refused"}]
    assert report.limits.effective_sample_size == 100.0
    assert json.loads(out.read_text())["comparisons"][0]["results"][0]["estimator"] == "ips"


def test_options_alone_mean_ranking_and_help_names_both() -> None:
    assert "--dataset" in run("--help", "ranking") + run("ranking", "--help")
    both = run("--help")
    assert "ranking" in both
    assert "off-policy" in both
    assert run("--split=test").startswith("2\n")
    assert "No such option" not in run("--split=test")


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    assert run("off-policy").startswith("2\n")
    assert run("off-policy", "--log=other", str(tmp_path)).startswith("2\n")
    with pytest.raises(NotFound, match="campaign"):
        run("off-policy", "--log=open-bandit", str(tmp_path))


def test_other_weights_from_the_event_log(tmp_path: Path) -> None:
    ExploredWorld().write(tmp_path / "log", tmp_path / "dataset", slates=600)
    arguments = ["off-policy", str(tmp_path / "log"), f"--domain={DOMAIN}", "--resamples=100"]
    chosen = ["--surface=courses", "--objective=click", f"--dataset={tmp_path / 'dataset'}"]
    weights = ["--weight=click=2", "--weight=purchase=0.5"]
    printed = run(*arguments, *chosen, *weights, "--positions=2")
    assert printed.startswith("0\n")
    for text in ("click per 1,000 slates", "click=2", "cascade", "whole slate", "switch-dr"):
        assert text in printed
    for wrong in ("--weight=click", "--weight=click=much", "--weight==1", "--weight=click=inf"):
        with pytest.raises(InvalidArgument, match="is not OBJECTIVE=NUMBER"):
            run(*arguments, *chosen, wrong)
    with pytest.raises(InvalidArgument, match="at least one"):
        run(*arguments, *chosen)
    with pytest.raises(InvalidArgument, match="dataset"):
        run(*arguments, "--weight=click=2")
