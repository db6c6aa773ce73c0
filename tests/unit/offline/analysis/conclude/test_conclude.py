"""Reports of worlds whose truth is known."""

from __future__ import annotations

import json
from dataclasses import astuple, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.analysis.conclude.conclude import conclude
from offline.analysis.conclude.effects import PLANNED_UNITS, corrected, horizon_units
from offline.analysis.model import Effect, Report
from offline.analysis.plan import AnalysisPlan
from offline.analysis.report.json import from_json, to_json
from offline.analysis.report.summary import summary
from offline.analysis.statistics.clusters import clustered
from offline.analysis.statistics.cuped import cuped
from offline.analysis.units.table import Credits, UnitTable
from services.common.assign.registered import Guardrail
from services.common.errors import InvalidArgument
from tests.unit.offline.analysis.conclude.worlds import DAYS, HOUR_MS, World, plan, planned

GOLDEN = Path(__file__).parents[4] / "golden" / "report_v1.json"
BARE = {"covariates": (), "segments": {}}
DESIGNS: dict[str, tuple[AnalysisPlan, World]] = {
    "user": (plan(), World()),
    "ratio": (plan(**BARE), World(ratio=True)),
    "quantile": (
        plan(
            **BARE,
            metrics={"revenue": planned("revenue", statistic="quantile", level=0.5)},
            guardrails={},
        ),
        World(),
    ),
    "winsorised": (
        plan(
            **BARE,
            metrics={"revenue": planned("revenue", statistic="winsorised_mean", level=0.95)},
            guardrails={},
        ),
        World(),
    ),
    "hosts": (plan(unit="host", cluster="host", design="cluster"), World(clusters=30)),
    "two_sided": (
        plan(other_unit="host", cluster="host", design="two_sided"),
        World(units=500, clusters=30),
    ),
    "switchback": (
        plan(unit="time_slice", cluster="time_slice", slice_ms=4 * HOUR_MS, design="switchback"),
        World(),
    ),
}
METHODS = {
    "user": "cuped",
    "ratio": "ratio",
    "quantile": "quantile",
    "winsorised": "winsorised",
    "hosts": "clustered_cuped",
    "two_sided": "two_sided_total",
    "switchback": "switchback",
}


def _report(of: AnalysisPlan, world: World) -> Report:
    return conclude(of, world.table(of), definitions_hash="0123abcd")


def _primary(report: Report) -> Effect:
    assert report.primary is not None
    return report.primary.effects[0]


@pytest.mark.parametrize("design", DESIGNS)
def test_each_design_has_its_estimator_and_finds_what_is_there(design: str) -> None:
    of, world = DESIGNS[design]
    report = _report(of, replace(world, lifts={"revenue": (3.0,)}))
    assert report.method.estimator == METHODS[design]
    effect = _primary(report)
    assert effect.verdict == "better"
    assert effect.effect.lower is not None
    assert effect.effect.upper is not None
    assert effect.effect.lower < 3.0 < effect.effect.upper
    assert effect.sequence[-1].effect == effect.effect
    assert (len(effect.parts) == 3) == (design == "two_sided")
    assert from_json(to_json(report)) == report


@pytest.mark.parametrize("design", DESIGNS)
def test_swapped_arms_have_the_opposite_effects(design: str) -> None:
    of, world = DESIGNS[design]
    table = world.table(of)
    swapped = replace(
        table,
        variant=1 - table.variant,
        other_variant=None if table.other_variant is None else 1 - table.other_variant,
    )
    one = conclude(of, table, definitions_hash="")
    other = conclude(of, swapped, definitions_hash="")
    for metric, mirrored in zip(one.metrics, other.metrics, strict=True):
        for effect, back in zip(metric.effects, mirrored.effects, strict=True):
            _check_opposite(effect, back)


def _check_opposite(effect: Effect, back: Effect) -> None:
    assert effect.p_value == pytest.approx(back.p_value)
    pairs = [(effect.effect, back.effect)]
    pairs += [(a.effect, b.effect) for a, b in zip(effect.segments, back.segments, strict=True)]
    for found, mirrored in pairs:
        assert found.estimate == pytest.approx(-(mirrored.estimate or 0.0))
        assert found.lower == pytest.approx(-(mirrored.upper or 0.0))
        assert (found.relative or 0.0) * (mirrored.relative or 0.0) <= 0


def test_the_decision_is_what_the_metrics_say() -> None:
    shipped = _report(plan(), World(lifts={"revenue": (3.0,)}))
    assert (shipped.decision.outcome, shipped.decision.variant) == ("ship", "new")
    lost = _report(plan(), World(lifts={"revenue": (-3.0,)}))
    assert (lost.decision.outcome, lost.decision.reasons[0].code) == (
        "do_not_ship",
        "primary_worse",
    )
    harmed = _report(plan(), World(lifts={"revenue": (3.0,), "watch_time": (-3.0,)}))
    assert harmed.decision.reasons[0].code == "guardrail_broken"
    nothing = _report(plan(), World(seed=3))
    assert nothing.decision.reasons[0].code == "no_difference_shown"


def test_the_estimate_is_the_statistics_own() -> None:
    of, world = plan(segments={}), World(lifts={"revenue": (1.0,)})
    table = world.table(of)
    arms = [table.variant == arm for arm in range(2)]
    values, before = table.metrics["revenue"].numerator, table.covariates["spend_before"]
    expected = cuped(values[arms[0]], values[arms[1]], before[arms[0]], before[arms[1]])
    effect = _primary(conclude(of, table, definitions_hash=""))
    assert effect.effect.estimate == expected.estimate
    assert effect.effect.relative_upper == expected.relative_upper
    assert effect.p_value == expected.p_value


def test_a_look_before_the_end_concludes_nothing() -> None:
    world = World(lifts={"revenue": (5.0,)}, as_of_days=8)
    report = _report(plan(), world)
    assert report.decision.outcome == "keep_running"
    assert report.decision.reasons[0].code == "peek"
    assert {e.verdict for m in report.metrics for e in m.effects} == {"too_early"}
    assert "confidence" not in " ".join(summary(report).sure)
    assert [w.code for w in report.warnings] == ["immature"]
    # All have been exposed, but the windows of the last have not ended.
    last_day = _report(plan(), replace(world, as_of_days=DAYS + 1.0))
    assert last_day.decision.reasons[0].code == "peek"


def test_an_always_valid_plan_concludes_on_the_way() -> None:
    of = plan(method="always_valid", guardrails={"watch_time": Guardrail()})
    report = _report(of, World(lifts={"revenue": (5.0,)}, as_of_days=8))
    assert report.decision.outcome == "ship"
    assert report.method.looks == "always_valid"
    assert report.method.estimator == "asymptotic_sequence_cuped"
    assert _report(of, World(as_of_days=8)).decision.outcome == "keep_running"


@pytest.mark.parametrize("covariates", [False, True])
@pytest.mark.parametrize("design", ["user", "ratio", "winsorised", "hosts", "switchback"])
def test_a_sequence_says_on_a_day_what_it_had_said_on_that_day(
    design: str, covariates: bool
) -> None:
    """Neither its tuning nor the ratio or cut of a day must depend on when one looks."""
    of, world = DESIGNS[design]
    of = replace(of, method="always_valid", segments={}, covariates=plan().covariates)
    of = of if covariates else replace(of, covariates=())
    world = replace(world, lifts={"revenue": (1.0,)})
    early, late = (
        _primary(_report(of, replace(world, as_of_days=days))).sequence for days in (7.0, 12.0)
    )
    assert len(early) == 5
    for then, now in zip(early, late, strict=False):
        assert then.day_ms == now.day_ms
        assert astuple(then.effect) == pytest.approx(astuple(now.effect))


@pytest.mark.parametrize("design", ["ratio", "winsorised"])
def test_a_course_of_looks_is_of_what_was_known_then(design: str) -> None:
    of, world = DESIGNS[design]
    early, late = (_primary(_report(of, replace(world, as_of_days=d))).sequence for d in (7, 12))
    assert early
    for then, now in zip(early, late, strict=False):
        assert astuple(then.effect) == pytest.approx(astuple(now.effect))


def test_sequences_are_tuned_by_what_was_registered_alone() -> None:
    of = plan(variants=("control", "a", "b"), shares=(0.4, 0.3, 0.3))
    assert horizon_units(of, 1) == pytest.approx(0.7 * PLANNED_UNITS)
    assert horizon_units(replace(of, planned_units=2_000), 2) == pytest.approx(1_400)
    reach = []
    for planned_units in (1_000, 100_000):
        always = plan(method="always_valid", planned_units=planned_units, **BARE)
        effect = _primary(_report(always, World())).effect
        assert effect.upper is not None
        assert effect.lower is not None
        reach.append(effect.upper - effect.lower)
    assert reach[0] < reach[1]


@pytest.mark.parametrize("design", ["quantile", "two_sided"])
def test_what_has_no_sequence_counts_at_the_end_alone(design: str) -> None:
    of, world = DESIGNS[design]
    of = replace(of, method="always_valid", guardrails={})
    world = replace(world, lifts={"revenue": (5.0,)})
    early = _report(of, replace(world, as_of_days=8))
    assert early.method.looks == "fixed"
    assert early.decision.reasons[0].code == "peek"
    assert "no_sequence" in [warned.code for warned in early.warnings]
    assert _report(of, world).decision.outcome == "ship"


@pytest.mark.parametrize("design", ["hosts", "switchback"])
def test_groups_have_sequences_of_their_own(design: str) -> None:
    of, world = DESIGNS[design]
    of = replace(of, method="always_valid", guardrails={})
    report = _report(of, replace(world, lifts={"revenue": (6.0,)}, as_of_days=9))
    assert report.method.estimator == "clustered_sequence"
    assert report.decision.outcome == "ship"


@settings(max_examples=15, deadline=None)
@given(
    share=st.floats(0.7, 0.9),
    lift=st.floats(-5, 5),
    method=st.sampled_from(["fixed", "always_valid"]),
    registered=st.booleans(),
    seed=st.integers(0, 1_000),
)
def test_arms_of_wrong_sizes_conclude_nothing(
    share: float, lift: float, method: str, registered: bool, seed: int
) -> None:
    of = plan(method=method, registered=registered)
    world = World(lifts={"revenue": (lift,)}, shares=(share, 1 - share), seed=seed)
    report = _report(of, world)
    assert report.withheld
    assert (report.decision.outcome, report.decision.reasons[0].code) == (
        "no_conclusion",
        "sample_ratio",
    )
    assert not any(metric.effects for metric in report.metrics)


def test_hosts_of_wrong_numbers_alarm_and_viewers_of_wrong_numbers_do_not() -> None:
    """What was drawn is what must have the planned sizes."""
    of, world = DESIGNS["hosts"]
    table = world.table(of)
    quiet = (table.variant == 1) | (table.unit % 5 == 0)
    assert not conclude(of, _only(table, quiet), definitions_hash="").withheld
    table = replace(world, clusters=200).table(of)
    assert table.cluster is not None
    missing = (table.variant == 1) | (table.cluster % 20 == 0)
    assert conclude(of, _only(table, missing), definitions_hash="").withheld


def _only(table: UnitTable, rows: np.ndarray) -> UnitTable:
    return replace(
        table,
        unit=table.unit[rows],
        variant=table.variant[rows],
        exposed_ms=table.exposed_ms[rows],
        cluster=None if table.cluster is None else table.cluster[rows],
        metrics={
            name: replace(
                m,
                numerator=m.numerator[rows],
                mature=m.mature[rows],
                matured_ms=m.matured_ms[rows],
            )
            for name, m in table.metrics.items()
        },
        covariates={name: column[rows] for name, column in table.covariates.items()},
        segments={name: column[rows] for name, column in table.segments.items()},
        overlaps={name: column[rows] for name, column in table.overlaps.items()},
        slopes=table.slopes[rows],
    )


def test_a_report_before_anything_was_exposed_says_so() -> None:
    of = plan()
    report = _report(of, World(as_of_days=0.0))
    assert report.decision.reasons[0].code == "nothing_exposed"
    assert "Nobody was exposed" in summary(report).tested
    assert from_json(to_json(report)) == report


def test_a_report_before_any_window_ended_waits() -> None:
    for method in ("fixed", "always_valid"):
        report = _report(plan(method=method), World(as_of_days=1.5))
        assert report.decision.reasons[0].code == "no_mature_units"
        assert _primary(report).verdict == "not_measured"


def test_arms_that_differed_before_exposure_conclude_nothing() -> None:
    report = _report(plan(), World(lifts={"revenue": (3.0,)}, before_lift=0.6))
    assert report.decision.reasons[0].code == "not_alike_before"


@pytest.mark.parametrize("design", ["user", "hosts", "two_sided"])
def test_an_effect_that_fades_since_exposure_is_noticed(design: str) -> None:
    of, world = DESIGNS[design]
    world = replace(world, lifts={"revenue": (3.0,)})
    levels = [
        [f.level for f in _report(of, w).health if f.subject.endswith("since exposure")]
        for w in (world, replace(world, fading=0.5))
    ]
    assert levels == [["ok"], ["notice"]]


@pytest.mark.parametrize("design", ["user", "hosts", "two_sided"])
def test_an_effect_that_follows_what_people_do_is_no_trend(design: str) -> None:
    of, world = DESIGNS[design]
    table = replace(world, lifts={"revenue": (3.0,)}).table(of)
    # All is done in the first part of the window, by both arms, and more by one of them.
    first = -3 / 28 * table.metrics[of.primary].numerator
    for slopes in (first + table.slopes, first):
        report = conclude(of, replace(table, slopes=slopes), definitions_hash="0123abcd")
        assert [f.level for f in report.health if f.subject.endswith("since exposure")] == ["ok"]


def test_a_switchback_has_a_p_value_by_arms_drawn_anew() -> None:
    of, world = DESIGNS["switchback"]
    for lift, level in ((3.0, "ok"), (0.0, "ok")):
        report = _report(of, replace(world, lifts={"revenue": (lift,)}))
        (drawn,) = [f for f in report.health if f.check == "randomisation"]
        p_value = _primary(report).p_value
        assert p_value is not None
        assert drawn.p_value is not None
        assert drawn.level == level
        assert (drawn.p_value <= 0.05) == (p_value <= 0.05) == (lift > 0)
    anytime = _report(replace(of, method="always_valid"), world)
    assert "randomisation" not in [f.check for f in anytime.health]


def test_a_switchback_is_clustered_by_blocks_of_slices() -> None:
    of, world = DESIGNS["switchback"]
    table = world.table(of)
    metric = table.metrics["revenue"]
    expected = clustered(metric.numerator, table.variant == 1, table.exposed_ms // (12 * HOUR_MS))
    found = _primary(conclude(replace(of, block_slices=3), table, definitions_hash=""))
    assert found.standard_error == pytest.approx(expected.standard_error)
    assert found.standard_error != _primary(_report(of, world)).standard_error


def test_what_a_burn_in_leaves_is_told_by_time() -> None:
    """A slice that is cut has less of everything: compared is by the time of a whole one."""
    of, world = DESIGNS["switchback"]
    of = replace(of, burn_in_ms=HOUR_MS // 2, guardrails={}, segments={}, covariates=())
    table = world.table(of)
    share = np.where(table.unit % 2, 0.75, 1.0) * table.metrics["revenue"].mature
    metric = table.metrics["revenue"]
    cut = replace(metric, numerator=metric.numerator * share, denominator=share)
    report = conclude(
        of, replace(table, metrics={**table.metrics, "revenue": cut}), definitions_hash=""
    )
    assert report.primary is not None
    for mean, arm in zip(report.primary.means, (0, 1), strict=True):
        rows = (table.variant == arm) & metric.mature
        assert mean.mean == pytest.approx(
            (metric.numerator * share)[rows].sum() / share[rows].sum()
        )
    (told,) = [w.text for w in report.warnings if w.code == "carry_over"]
    assert told.startswith("Of a slice the first 30 minutes count for nothing")


def test_a_plan_of_afterwards_concludes_nothing() -> None:
    report = _report(plan(registered=False), World(lifts={"revenue": (3.0,)}))
    assert report.decision.reasons[0].code == "not_registered"


def test_several_variants_are_corrected_for_one_another() -> None:
    of = plan(variants=("control", "a", "b"), shares=(0.4, 0.3, 0.3), **BARE)
    world = World(lifts={"revenue": (0.9, 0.2)}, shares=of.shares)
    report = _report(of, world)
    assert report.primary is not None
    effects = report.primary.effects
    p_values = [effect.p_value for effect in effects]
    assert [effect.p_adjusted for effect in effects] == corrected(p_values, "holm")
    assert "several_comparisons" in [warned.code for warned in report.warnings]
    alone = _report(replace(of, correction="none"), world)
    assert alone.primary is not None
    assert [effect.p_adjusted for effect in alone.primary.effects] == p_values


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_what_is_no_number_is_named(bad: float) -> None:
    of = plan()
    table = World().table(of)
    broken = table.metrics["watch_time"].numerator.copy()
    broken[5] = bad
    metrics = {
        **table.metrics,
        "watch_time": replace(table.metrics["watch_time"], numerator=broken),
    }
    with pytest.raises(InvalidArgument, match=r"metrics\.watch_time\.numerator"):
        conclude(of, replace(table, metrics=metrics), definitions_hash="")
    before = np.where(table.unit == 3, bad, table.covariates["spend_before"])
    with pytest.raises(InvalidArgument, match=r"covariates\.spend_before"):
        conclude(of, replace(table, covariates={"spend_before": before}), definitions_hash="")


def test_p_values_count_others_only_where_there_are_others() -> None:
    """One variant, one guardrail: nothing is corrected, and the report says nothing of it."""
    assert not _report(plan(), World()).corrected
    two = plan(variants=("control", "a", "b"), shares=(0.4, 0.3, 0.3), **BARE)
    assert _report(two, World(shares=two.shares)).corrected
    assert not _report(replace(two, correction="none"), World(shares=two.shares)).corrected


def test_corrections_pass_over_what_was_not_measured() -> None:
    assert corrected([0.01, None, 0.04], "holm") == [0.02, None, 0.04]
    assert corrected([0.03, None, 0.04], "benjamini_hochberg") == [0.04, None, 0.04]
    assert corrected([], "holm") == []


def test_quantiles_of_pairs_are_not_compared_by_means() -> None:
    of = replace(DESIGNS["quantile"][0], other_unit="host", cluster="host", design="two_sided")
    report = _report(of, World(clusters=40, lifts={"revenue": (3.0,)}))
    assert report.decision.reasons[0].code == "not_measured"
    assert any("no comparison of quantiles" in warned.text for warned in report.warnings)


def test_two_rankings_in_one_slate_are_compared_by_person() -> None:
    of = plan(variants=("control", "mixed"), interleaved={"mixed": ("control", "better")})
    random = np.random.default_rng(4)
    person = np.repeat(np.arange(200), 3)
    earned = random.poisson((0.3, 0.6), size=(600, 2)).astype(np.float64)
    credited = Credits("mixed", ("control", "better"), person, {"revenue": earned})
    table = replace(World().table(of), credits=(credited,))
    report = conclude(of, table, definitions_hash="")
    (told,) = report.preferences
    assert told.treatment == "better"
    assert told.lower > 0
    assert report.decision.reasons[0].code == "interleaving"
    assert from_json(to_json(report)) == report


def test_a_small_example_gives_the_report_that_is_pinned() -> None:
    """Figures that change here change in every report: see that they should."""
    of = plan(metrics={"revenue": planned("revenue")}, guardrails={})
    report = _report(of, World(units=60, lifts={"revenue": (2.0,)}))
    found, pinned = json.loads(to_json(report)), json.loads(GOLDEN.read_text(encoding="utf-8"))
    _check_equal(found, pinned, "report")


def _check_equal(found: object, pinned: object, at: str) -> None:
    if isinstance(pinned, dict):
        assert isinstance(found, dict)
        assert list(found) == list(pinned), at
        for key in pinned:
            _check_equal(found[key], pinned[key], f"{at}.{key}")
    elif isinstance(pinned, list):
        assert isinstance(found, list)
        assert len(found) == len(pinned), at
        for place, (one, other) in enumerate(zip(found, pinned, strict=True)):
            _check_equal(one, other, f"{at}[{place}]")
    elif isinstance(pinned, float):
        assert found == pytest.approx(pinned, rel=1e-6, abs=1e-12), at
    else:
        assert found == pinned, at


@pytest.mark.parametrize("design", DESIGNS)
def test_a_look_at_a_single_unit_measures_nothing(design: str) -> None:
    of, world = DESIGNS[design]
    table = replace(world, units=1, clusters=world.clusters and 1).table(of)
    only = np.arange(table.rows) == 0
    single = {n: replace(c, mature=c.mature & only) for n, c in table.metrics.items()}
    report = conclude(of, replace(table, metrics=single), definitions_hash="0123abcd")
    assert {effect.verdict for m in report.metrics for effect in m.effects} == {"not_measured"}
    assert from_json(to_json(report)) == report
