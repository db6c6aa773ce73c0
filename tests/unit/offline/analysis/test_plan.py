"""Plans: metrics of the domain as they are measured, and what is wrong with them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from offline.analysis.plan import plan_of
from services.common.assign.model import Definitions, Experiment, Variant
from services.common.assign.registered import Analysis, Guardrail, Inside
from services.common.domain import Domain, load_domain
from services.common.errors import ConfigError, FailedPrecondition, InvalidArgument, NotFound

ROOT = Path(__file__).parents[4]
LIVE_COURSES = ROOT / "config" / "live_courses.yaml"
DAY_MS = 86_400_000
ARMS = (Variant("a", 0.25), Variant("b", 0.75))
PLAIN = Experiment("e", "user", "salt", ARMS, coverage=0.1)
JUDGED = replace(PLAIN, analysis=Analysis("revenue_7d", control="b"))


@pytest.fixture(scope="module")
def domain() -> Domain:
    return load_domain(LIVE_COURSES)


def _definitions(experiment: Experiment) -> Definitions:
    return Definitions({experiment.key: experiment}, "")


def test_the_control_comes_first_with_the_shares_that_variants_are_to_get(domain: Domain) -> None:
    plan = plan_of(_definitions(JUDGED), "e", domain)
    assert (plan.variants, plan.control) == (("b", "a"), "b")
    assert plan.shares == pytest.approx((0.75, 0.25))
    assert (plan.design, plan.cluster, plan.registered) == ("user", None, True)
    assert plan.report_time_zone == "Asia/Shanghai"


@pytest.mark.parametrize(
    ("changes", "design", "cluster"),
    [
        ({"unit": "host"}, "cluster", None),
        ({"unit": "time_slice", "slice_ms": 1_000}, "switchback", None),
        ({"other_unit": "host"}, "two_sided", "host"),
    ],
)
def test_designs_follow_from_what_is_randomised(
    domain: Domain, changes: dict[str, object], design: str, cluster: str | None
) -> None:
    experiment = replace(JUDGED, **changes)  # type: ignore[arg-type]
    plan = plan_of(_definitions(experiment), "e", domain)
    assert (plan.design, plan.cluster) == (design, cluster)
    if cluster is None:
        inside = replace(JUDGED.analysis, inside=Inside(("impression",)))  # type: ignore[type-var]
        plan = plan_of(_definitions(replace(experiment, analysis=inside)), "e", domain)
        assert plan.cluster == experiment.unit


def test_metrics_say_what_they_measure_and_when_units_count(domain: Domain) -> None:
    names = ("repurchase_7d", "click_rate_3d", "revenue_capped_7d")
    judged = replace(JUDGED, analysis=Analysis("revenue_7d", secondary=names))
    metrics = plan_of(_definitions(judged), "e", domain).metrics
    assert tuple(metrics) == ("revenue_7d", *names)
    assert metrics["revenue_7d"].definition == (
        "mean amount_minor of purchase within 7d of the first exposure"
    )
    assert metrics["revenue_7d"].unit == "USD minor units"
    assert metrics["repurchase_7d"].maturity_ms == 14 * DAY_MS
    assert metrics["click_rate_3d"].statistic == "ratio"
    capped = metrics["revenue_capped_7d"]
    assert (capped.statistic, capped.level) == ("winsorised_mean", 0.999)


def test_what_has_no_plan_is_told(domain: Domain) -> None:
    with pytest.raises(NotFound, match="no experiment 'other'; there are e"):
        plan_of(_definitions(PLAIN), "other", domain)
    with pytest.raises(FailedPrecondition, match="registers no analysis") as caught:
        plan_of(_definitions(PLAIN), "e", domain)
    assert caught.value.reason == "NO_ANALYSIS"
    with pytest.raises(InvalidArgument, match="'profit' is not one of buyers_7d, "):
        plan_of(_definitions(PLAIN), "e", domain, Analysis("profit"))
    explored = plan_of(_definitions(JUDGED), "e", domain, Analysis("buyers_7d"))
    assert (explored.registered, explored.primary) == (False, "buyers_7d")
    guarded = Analysis("buyers_7d", guardrails={"lost": Guardrail()})
    with pytest.raises(InvalidArgument, match="guardrails"):
        plan_of(_definitions(PLAIN), "e", domain, guarded)


@pytest.mark.parametrize(
    ("metric", "field", "problem"),
    [
        ("kind: total, events: [buy], window: 7d", "events.0", "'buy' is not"),
        ("kind: total, events: [click], value: price, window: 7d", "value", "not an int attribute"),
        (
            "kind: conversion, events: [watch], at_least: {ms: 5}, window: 7d",
            "at_least.ms",
            "not an int attribute of watch",
        ),
        (
            "kind: ratio, numerator: {events: [click]}, denominator: {events: [x]}, window: 7d",
            "denominator.events.0",
            "'x' is not",
        ),
        (
            "kind: total, events: [click], window: 7d, refund_delay: 1d",
            "refund_delay",
            "is for metrics of purchases",
        ),
        (
            "kind: total, events: [click], window: 7d, statistic: quantile",
            "total",
            "quantile is for",
        ),
        ("kind: total, events: [click], window: 7d, quantile: 0.5", "total", "quantile is for"),
        ("kind: mean, events: [click], window: 7d", "", "kind"),
        ("kind: conversion, events: [click]", "window", "required"),
    ],
)
def test_mistakes_in_metrics_are_told_with_line_and_field(
    tmp_path: Path, metric: str, field: str, problem: str
) -> None:
    text = LIVE_COURSES.read_text(encoding="utf-8") + f"  wrong: {{{metric}}}\n"
    path = tmp_path / "domain.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=problem) as caught:
        load_domain(path)
    assert caught.value.line == text.count("\n")
    assert caught.value.field == ".".join(("metrics", "wrong", *([field] if field else [])))


def test_metrics_leave_the_hash_that_logs_and_bundles_carry_alone(domain: Domain) -> None:
    assert domain.metrics
    assert domain.model_copy(update={"metrics": {}}).config_hash == domain.config_hash
    assert domain.model_copy(update={"name": "other"}).config_hash != domain.config_hash


def test_what_counts_for_a_slice_of_time_ends_with_it(domain: Domain) -> None:
    slices = replace(JUDGED, unit="time_slice", slice_ms=1_800_000)
    plan = plan_of(_definitions(slices), "e", domain)
    definition = plan.metrics[plan.primary].definition
    assert definition.endswith("of the first exposure, until the slice ends at most")
