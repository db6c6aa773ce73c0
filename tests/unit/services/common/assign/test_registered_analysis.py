"""What an experiment is judged by: carried, checked, and kept while it runs."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from services.common.assign.canonical import definitions_of, items_of
from services.common.assign.change_checks import change_errors
from services.common.assign.definitions import load_experiments
from services.common.assign.model import Definitions
from services.common.assign.registered import (
    Covariate,
    Guardrail,
    Inside,
    Segment,
    Switchback,
)
from services.common.domain import Domain, load_domain
from services.common.errors import ConfigError

ROOT = Path(__file__).parents[5]
WITHOUT = """\
experiments:
  weights:
    unit: host
    salt: weights_1
    running: true
    revision: 2
    variants:
      control: {weight: 0.25}
      other: {weight: 0.75}
"""
SECTION = """\
    analysis:
      primary: revenue_7d
      guardrails: {watch_ms_3d: {margin: 0.02}}
      secondary: [click_rate_3d]
      segments: {region: {exposure: region}, tier: {user: segment}}
      covariates: {spent_before: {metric: revenue_7d, window: 28d}}
      control: other
      alpha: 0.1
      method: always_valid
      inside: {entered_by: [impression]}
"""


@pytest.fixture(scope="module")
def domain() -> Domain:
    return load_domain(ROOT / "config" / "live_courses.yaml")


def _load(tmp_path: Path, text: str, domain: Domain | None = None) -> Definitions:
    path = tmp_path / "experiments.yaml"
    path.write_text(text, encoding="utf-8")
    return load_experiments(path, domain)


def test_the_section_is_read_and_carried_in_the_canonical_form(
    tmp_path: Path, domain: Domain
) -> None:
    definitions = _load(tmp_path, WITHOUT + SECTION, domain)
    analysis = definitions.experiments["weights"].analysis
    assert analysis is not None
    assert analysis.metrics == ("revenue_7d", "watch_ms_3d", "click_rate_3d")
    assert analysis.guardrails == {"watch_ms_3d": Guardrail(0.02)}
    assert analysis.segments["tier"] == Segment("user", "segment")
    assert analysis.covariates == {"spent_before": Covariate("revenue_7d", 28 * 86_400_000)}
    assert (analysis.control, analysis.alpha, analysis.method) == ("other", 0.1, "always_valid")
    assert analysis.inside == Inside(("impression",))
    again = definitions_of(items_of(definitions).values())
    assert again.experiments == definitions.experiments
    assert again.hash == definitions.hash


def test_it_leaves_the_canonical_form_of_others_and_everybodys_arm_alone(tmp_path: Path) -> None:
    without, judged = _load(tmp_path, WITHOUT), _load(tmp_path, WITHOUT + SECTION)
    plain = items_of(without)["experiment", "weights"].text
    assert "analysis" not in plain
    assert items_of(judged)["experiment", "weights"].text.startswith(plain[:-1])
    assert without.experiments["weights"].arms == judged.experiments["weights"].arms


@pytest.mark.parametrize(
    ("before", "after", "field", "line"),
    [
        ("primary: revenue_7d", "primary: revenu", "primary", 11),
        ("{watch_ms_3d: ", "{revenue_7d: ", "guardrails.revenue_7d", 12),
        ("[click_rate_3d]", "[clicks]", "secondary.0", 13),
        ("[click_rate_3d]", "[watch_ms_3d]", "secondary.0", 13),
        ("{user: segment}", "{user: colour}", "segments.tier.user", 14),
        ("{user: segment}", "{user: segment, exposure: a}", "segments.tier", 14),
        ("metric: revenue_7d", "metric: none", "covariates.spent_before.metric", 15),
        ("window: 28d", "window: 28", "covariates.spent_before.window", 15),
        ("control: other", "control: third", "control", 16),
        ("alpha: 0.1", "alpha: 0", "alpha", 17),
        ("method: always_valid", "method: peek", "method", 18),
        ("[impression]", "[impresion]", "inside.entered_by.0", 19),
    ],
)
def test_mistakes_are_told_with_line_and_field(
    tmp_path: Path, domain: Domain, before: str, after: str, field: str, line: int
) -> None:
    text = WITHOUT + SECTION
    assert text.count(before) == 1
    with pytest.raises(ConfigError) as caught:
        _load(tmp_path, text.replace(before, after), domain)
    assert caught.value.field == f"experiments.weights.analysis.{field}"
    assert caught.value.line == line


def test_only_groups_have_an_inside(tmp_path: Path, domain: Domain) -> None:
    of_users = (WITHOUT + SECTION).replace("unit: host", "unit: user")
    with pytest.raises(ConfigError, match=r"analysis\.inside.*the unit is user"):
        _load(tmp_path, of_users, domain)


def test_slices_of_time_have_no_covariates_of_their_own(tmp_path: Path, domain: Domain) -> None:
    of_slices = (WITHOUT + SECTION).replace("unit: host", "unit: time_slice\n    slice: 30m")
    assert _load(tmp_path, of_slices, domain).experiments
    with pytest.raises(ConfigError, match=r"analysis\.covariates.*need an inside"):
        _load(tmp_path, of_slices.replace("      inside: {entered_by: [impression]}\n", ""), domain)


SLICES = (WITHOUT + SECTION).replace("unit: host", "unit: time_slice\n    slice: 30m")
CUT = SLICES + "      switchback: {burn_in: 5m, block_slices: 48}\n      planned_units: 20000\n"


def test_slices_are_cut_and_blocked_as_registered(tmp_path: Path, domain: Domain) -> None:
    definitions = _load(tmp_path, CUT, domain)
    analysis = definitions.experiments["weights"].analysis
    assert analysis is not None
    assert analysis.switchback == Switchback(burn_in_ms=300_000, block_slices=48)
    assert analysis.planned_units == 20_000
    again = definitions_of(items_of(definitions).values())
    assert again.experiments == definitions.experiments
    plain = items_of(_load(tmp_path, SLICES))["experiment", "weights"].text
    assert "switchback" not in plain
    assert "planned_units" not in plain


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("5m", "30m", r"switchback\.burn_in.*shorter than a slice, which has 1800000 ms"),
        ("5m", "-5m", r"switchback\.burn_in.*is not a duration"),
        ("block_slices: 48", "block_slices: 0", r"switchback\.block_slices"),
        ("planned_units: 20000", "planned_units: 1", "planned_units"),
        ("unit: time_slice\n    slice: 30m", "unit: host", "switchback.*the unit is host"),
    ],
)
def test_slices_that_cannot_be_cut_so(
    tmp_path: Path, domain: Domain, before: str, after: str, said: str
) -> None:
    with pytest.raises(ConfigError, match=said):
        _load(tmp_path, CUT.replace(before, after), domain)


def test_a_share_of_slices_of_unlike_lengths_is_refused(tmp_path: Path, domain: Domain) -> None:
    rows = CUT.replace("      inside: {entered_by: [impression]}\n", "").replace(
        "      covariates: {spent_before: {metric: revenue_7d, window: 28d}}\n", ""
    )
    assert _load(tmp_path, rows, domain).experiments
    with pytest.raises(ConfigError, match="buyers_7d needs an inside, to be a total or ratio"):
        _load(tmp_path, rows.replace("[click_rate_3d]", "[buyers_7d]"), domain)


def test_a_running_experiment_keeps_what_decides(tmp_path: Path) -> None:
    without, judged = _load(tmp_path, WITHOUT), _load(tmp_path, WITHOUT + SECTION)
    raised = replace(
        judged, experiments={"weights": replace(judged.experiments["weights"], revision=3)}
    )
    found = [where for where, _ in change_errors(without, raised)]
    assert found == [("experiments", "weights", "analysis")]
    stopped = _load(tmp_path, WITHOUT.replace("running: true", "running: false"))
    assert list(change_errors(stopped, raised)) == []
