import math

import numpy as np
import pytest
import scipy.stats
import tea_tasting as tt
from hypothesis import given, settings
from hypothesis import strategies as st
from tea_tasting.aggr import Aggregates

from offline.analysis.statistics.comparison import (
    Arm,
    compared,
    relative_interval,
    welch_degrees_of_freedom,
)
from offline.analysis.statistics.means import linearised, ratio, welch, winsorised
from services.common.errors import InvalidArgument


def skewed(seed: int, units: int) -> np.ndarray:
    return np.random.default_rng(seed).lognormal(1.0, 1.0, units)


def test_welch_is_scipys() -> None:
    control, treatment = skewed(1, 40), skewed(2, 70) * 1.3
    ours = welch(control, treatment, alpha=0.1)
    theirs = scipy.stats.ttest_ind(treatment, control, equal_var=False)
    interval = theirs.confidence_interval(0.9)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.degrees_of_freedom == pytest.approx(theirs.df)
    assert (ours.lower, ours.upper) == pytest.approx((interval.low, interval.high))
    assert ours.standard_error == pytest.approx(ours.estimate / theirs.statistic)
    assert (ours.control_units, ours.treatment_units) == (40, 70)


def test_a_published_comparison() -> None:
    # GrowthBook, packages/stats/tests/frequentist/test_tests.py, test_two_sided_ttest.
    control, treatment = Arm(0.41, 3.9**2 / 3407, 3407), Arm(0.7, 6.2**2 / 3461, 3461)
    freedom = welch_degrees_of_freedom(control, treatment)
    found = compared("welch", control, treatment, alpha=0.05, degrees_of_freedom=freedom)
    assert (found.lower, found.upper) == pytest.approx((0.04538, 0.53462), abs=5e-6)
    assert found.p_value == pytest.approx(0.02016, abs=5e-6)
    assert found.relative == pytest.approx(0.70732, abs=5e-6)


def test_relative_bounds_solve_fiellers_equation() -> None:
    control, treatment = Arm(10.0, 0.7, 50), Arm(11.0, 0.4, 60)
    for bound in relative_interval(control, treatment, critical=2.0, covariance=0.1):
        factor = 1.0 + bound
        gap = treatment.mean - factor * control.mean
        variance = treatment.variance + factor**2 * control.variance - 2 * factor * 0.1
        assert abs(gap) == pytest.approx(2.0 * math.sqrt(variance))


def test_a_fall_from_below_zero_is_a_fall() -> None:
    rise = compared("welch", Arm(10, 0.1, 99), Arm(12, 0.1, 99), alpha=0.05)
    fall = compared("welch", Arm(-10, 0.1, 99), Arm(-12, 0.1, 99), alpha=0.05)
    assert fall.relative == -rise.relative == pytest.approx(-0.2)
    bounds = (-rise.relative_upper, -rise.relative_lower)
    assert (fall.relative_lower, fall.relative_upper) == bounds
    assert fall.relative_upper < 0


def test_relative_bounds_of_a_control_near_zero_are_infinite() -> None:
    found = compared("welch", Arm(0.1, 1.0, 9), Arm(5.0, 1.0, 9), alpha=0.05)
    assert (found.relative_lower, found.relative_upper) == (-math.inf, math.inf)
    assert math.isnan(compared("welch", Arm(0, 1, 9), Arm(1, 1, 9), alpha=0.05).relative)


@given(
    st.floats(-5, 5),
    st.floats(0.5, 5),
    st.integers(0, 10_000),
)
@settings(max_examples=25, deadline=None)
def test_swapped_arms_flip_the_sign_and_scale_goes_through(
    shift: float, scale: float, seed: int
) -> None:
    random = np.random.default_rng(seed)
    control, treatment = random.normal(3, 1, 12), random.normal(3, 2, 9)
    ours, swapped = welch(control, treatment), welch(treatment, control)
    moved = welch(shift + scale * control, shift + scale * treatment)
    assert (ours.estimate, ours.lower) == pytest.approx((-swapped.estimate, -swapped.upper))
    assert ours.p_value == pytest.approx(swapped.p_value) == pytest.approx(moved.p_value)
    assert moved.estimate == pytest.approx(scale * ours.estimate)
    assert moved.standard_error == pytest.approx(scale * ours.standard_error)
    # Fieller's interval leaves out zero exactly where the absolute one does.
    if math.isfinite(ours.relative_lower):
        inside = ours.relative_lower <= 0 <= ours.relative_upper
        assert inside == (ours.lower <= 0 <= ours.upper)


def test_ratio_is_tea_tastings_and_that_of_linearised_values() -> None:
    random = np.random.default_rng(3)
    sessions = [1.0 + random.poisson(2.0, units) for units in (200, 150)]
    orders = [random.binomial(count.astype(int), 0.3).astype(float) for count in sessions]
    ours = ratio(orders[0], sessions[0], orders[1], sessions[1])
    arms = []
    for above, below in zip(orders, sessions, strict=True):
        moments = np.cov(above, below)
        arms.append(
            Aggregates(
                len(above),
                {"orders": above.mean(), "sessions": below.mean()},
                {"orders": moments[0, 0], "sessions": moments[1, 1]},
                {("orders", "sessions"): moments[0, 1]},
            )
        )
    theirs = tt.RatioOfMeans("orders", "sessions").analyze_aggregates(*arms)
    assert ours.p_value == pytest.approx(theirs.pvalue)
    assert ours.lower == pytest.approx(theirs.effect_size_ci_lower)
    assert ours.treatment_mean == pytest.approx(orders[1].sum() / sessions[1].sum())
    straight = welch(*(linearised(*pair) for pair in zip(orders, sessions, strict=True)))
    assert straight.standard_error == pytest.approx(ours.standard_error)
    assert straight.estimate == pytest.approx(ours.estimate)


def test_a_ratio_of_ones_is_the_mean() -> None:
    control, treatment = skewed(4, 30), skewed(5, 30)
    ours = ratio(control, np.ones(30), treatment, np.ones(30))
    assert ours.p_value == pytest.approx(welch(control, treatment).p_value)


def test_winsorised_cuts_both_arms_at_the_pooled_quantile() -> None:
    control, treatment = np.arange(100.0), np.arange(100.0) + 0.5
    treatment[-1] = 1e9
    ours = winsorised(control, treatment, quantile=0.95)
    threshold = np.quantile(np.concatenate([control, treatment]), 0.95)
    assert ours.treatment_mean == pytest.approx(np.minimum(treatment, threshold).mean())
    assert ours.method == "winsorised"


def test_no_spread_is_certain() -> None:
    assert welch([1.0, 1.0], [1.0, 1.0]).p_value == 1.0
    different = welch([1.0, 1.0], [2.0, 2.0])
    assert (different.p_value, different.lower, different.upper) == (0.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: welch([1.0], [1.0, 2.0]), "control"),
        (lambda: welch([1.0, 2.0], [1.0, math.nan]), "treatment"),
        (lambda: welch([1.0, 2.0], [1.0, 2.0], alpha=0.0), "alpha"),
        (lambda: ratio([1, 2], [0, 0], [1, 2], [1, 2]), "control_denominator"),
        (lambda: ratio([1, 2], [1, 1], [1, 2], [1, 2, 3]), "treatment_denominator"),
        (lambda: winsorised([1, 2], [1, 2], quantile=1.0), "quantile"),
    ],
)
def test_bad_input_names_the_field(call: object, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        call()  # type: ignore[operator]
    assert caught.value.violations[0].field == field


def test_numbers_too_large_or_too_small_to_square_are_refused_by_name() -> None:
    with pytest.raises(InvalidArgument, match="treatment: must be within 1e\\+60 of zero"):
        welch([1.0, 2.0], [1e300, -1e300])
    with pytest.raises(InvalidArgument, match="control_denominator: sums to zero"):
        ratio([1.0, 2.0], [1e-300, 2e-300], [1.0, 2.0], [1.0, 1.0])
    with pytest.raises(InvalidArgument, match="denominator: sums to zero"):
        linearised([1.0, 2.0], [5e-324, 0.0])
