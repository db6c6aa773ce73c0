"""podium power: units, days and smallest effects on one page, or a word on what is wrong."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from cli.main import build
from offline.analysis.power import margins, plans, smallest_effects
from offline.analysis.statistics.power import Baseline, Design, proportion
from services.common.errors import InvalidArgument


def _run(*arguments: str) -> tuple[int, str]:
    result = CliRunner().invoke(build(), ["power", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_a_share_with_traffic() -> None:
    code, output = _run("--share", "0.03", "--effect", "0.1", "--units-per-day", "5000")
    (plan,) = plans(proportion(0.03), [0.1], Design(), units_per_day=5000)
    assert code == 0
    assert f"{plan.needed.units:,}" in output
    assert f"{plan.days:,.1f}" in output
    seen = smallest_effects(proportion(0.03), [14.0], Design(), units_per_day=5000)
    assert f"{100 * seen[0].relative:+.2f} %" in output


def test_clusters_covariates_and_a_sequence() -> None:
    arguments = ("--mean", "10", "--deviation", "4", "--effect", "0.02")
    _, plain = _run(*arguments)
    code, output = _run(
        *arguments,
        "--cluster-size",
        "40",
        "--cluster-correlation",
        "0.1",
        "--explained",
        "0.2",
        "--always-valid",
    )
    assert code == 0
    assert "Design effect of clusters: 4.90" in output
    assert "always valid" in output
    assert "clusters, control" in output
    assert "clusters, control" not in plain


def test_a_ratio() -> None:
    code, output = _run("--ratio", "0.9", "3", "1", "2", "0.5", "--effect", "0.05")
    assert code == 0
    assert "0.315" in output


def test_margins_of_guardrails() -> None:
    arguments = ("--mean", "10", "--deviation", "4", "--margin", "0.02", "--units-per-day", "900")
    code, output = _run(*arguments)
    (held,) = margins(Baseline(10.0, 16.0), [0.02], Design(), units_per_day=900)
    assert code == 0
    assert held.days is not None
    assert f"{held.needed.units:,}" in output
    assert f"{held.days:,.1f}" in output
    assert "one-sided at 0.025" in output
    # Of effects nothing was asked.
    assert "To find it" not in output
    _, seen = _run(*arguments, "--days", "7")
    assert "The smallest effect" in seen
    _, both = _run(*arguments, "--effect", "0.05", "--less-is-better")
    (grown,) = margins(Baseline(10.0, 16.0), [0.02], Design(), less_is_better=True)
    assert "To find it" in both
    assert f"{grown.needed.units:,}" in both
    with pytest.raises(InvalidArgument, match="margin"):
        _run("--share", "0.1", "--margin", "1.5")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mean", "10", "--deviation", "-4"), "must be positive"),
        (("--effect", "0.1"), "give one of"),
        (("--share", "0.1", "--mean", "2", "--deviation", "1"), "give one of"),
        (("--mean", "2"), "goes with"),
        (("--share", "0.1", "--days", "7"), "needs"),
        (("--share", "0.1", "--less-is-better"), "needs"),
    ],
)
def test_what_does_not_go_together(arguments: tuple[str, ...], said: str) -> None:
    code, output = _run(*arguments)
    assert code == 2
    assert said in output


def test_bad_numbers() -> None:
    with pytest.raises(InvalidArgument, match="share"):
        _run("--share", "1.5")
    with pytest.raises(InvalidArgument, match="mean"):
        plans(Baseline(0.0, 1.0), [0.1], Design())
    with pytest.raises(InvalidArgument, match="units_per_day"):
        smallest_effects(proportion(0.1), [7.0], Design(), units_per_day=0.0)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--mean", "10", "--deviation", "1e300"), "variance: must be positive"),
        (("--share", "0.03", "--cluster-size", "nan"), "cluster_size: must be 1 to"),
        (
            ("--share", "0.03", "--cluster-size", "5", "--cluster-variation", "nan"),
            "cluster_variation: must be 0 to",
        ),
        (("--share", "0.03", "--treatment-share", "1e-300"), "treatment_share: must lie"),
        (("--share", "0.03", "--units-per-day", "inf"), "days: 7 bring inf units"),
        (("--share", "0.03", "--units-per-day", "9", "--days", "nan"), "days: nan bring nan"),
        (("--ratio", "1", "1e-300", "1", "1", "0.5"), "denominator_mean: must not be 0"),
    ],
)
def test_numbers_that_nothing_can_be_computed_with(arguments: tuple[str, ...], said: str) -> None:
    with pytest.raises(InvalidArgument, match=said):
        _run(*arguments)
