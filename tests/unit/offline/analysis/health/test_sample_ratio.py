"""The arms' sizes against what was planned, held against scipy's chi-square and exact counts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from offline.analysis.health.sample_ratio import (
    ALARM_BELOW_BY_DAY,
    check_over_time,
    check_sample_ratio,
    over_time_p,
)

ARMS = ("control", "new")


def test_a_gap_of_less_than_a_percent_of_many_units_alarms() -> None:
    """The counts that Kohavi, Tang and Xu (2020), chapter 21, give as the example."""
    finding = check_sample_ratio((821_588, 815_482), (0.5, 0.5), ARMS)
    assert finding.level == "alarm"
    assert finding.p_value == pytest.approx(1.8e-6, rel=0.05)
    assert "821,588" in finding.text


@settings(max_examples=30, deadline=None)
@given(
    counts=st.lists(st.integers(50, 5_000), min_size=2, max_size=6),
    weights=st.lists(st.integers(1, 9), min_size=6, max_size=6),
)
def test_it_is_pearsons_chi_square(counts: list[int], weights: list[int]) -> None:
    shares = np.array(weights[: len(counts)]) / sum(weights[: len(counts)])
    expected = shares * sum(counts)
    assert over_time_p(np.array([counts]), shares.tolist()) == pytest.approx(
        stats.chisquare(counts, expected).pvalue
    )


def test_days_that_cancel_out_alarm_day_by_day_alone() -> None:
    days = np.array([[600, 400], [400, 600]] * 3)
    assert check_sample_ratio(days.sum(axis=0).tolist(), (0.5, 0.5), ARMS).level == "ok"
    assert check_over_time(days, (0.5, 0.5)).level == "alarm"


def test_it_alarms_as_often_as_it_says() -> None:
    """Small days are taken together, so that the chi-square holds for them, too."""
    random = np.random.default_rng(5)
    experiments = random.multinomial(30, (0.7, 0.2, 0.1), size=(400, 6))
    found = [over_time_p(days, (0.7, 0.2, 0.1)) for days in experiments]
    assert 0.02 < np.mean([p < 0.05 for p in found if p is not None]) < 0.09


@pytest.mark.parametrize("counts", [(), (0, 0), (3, 5)])
def test_few_units_are_not_judged(counts: tuple[int, ...]) -> None:
    if not counts:
        assert over_time_p(np.zeros((0, 2), np.int64), (0.5, 0.5)) is None
        return
    assert check_sample_ratio(counts, (0.5, 0.5), ARMS).level == "not_checked"


def test_an_arm_without_a_share_has_no_units() -> None:
    assert check_sample_ratio((500, 500), (1.0, 0.0), ARMS).level == "alarm"
    assert check_sample_ratio((500, 0), (1.0, 0.0), ARMS).level == "not_checked"


def test_arms_without_a_fault_alarm_as_often_as_is_said() -> None:
    """Sizes in all at 0.001, days at a tenth of it: 0.11 % together, here of 60,000."""
    random = np.random.default_rng(11)
    days = random.binomial(400, 0.5, size=(60_000, 7))
    daily = ((days - 200.0) ** 2 / 100.0).sum(axis=1)
    whole = (days.sum(axis=1) - 1_400.0) ** 2 / 700.0
    alarms = (stats.chi2.sf(whole, 1) < 0.001) | (stats.chi2.sf(daily, 7) < ALARM_BELOW_BY_DAY)
    error = np.sqrt(0.0011 / 60_000)
    assert alarms.mean() == pytest.approx(0.0011, abs=4 * error)
    # These are the checks' own p-values.
    counts = np.stack([days[0], 400 - days[0]], axis=1)
    assert over_time_p(counts, (0.5, 0.5)) == pytest.approx(stats.chi2.sf(daily[0], 7))


@pytest.mark.parametrize(("swing", "level"), [(19, "ok"), (26, "alarm")])
def test_days_alarm_at_a_tenth_of_the_level(swing: int, level: str) -> None:
    days = np.array([[200 + swing, 200 - swing], [200 - swing, 200 + swing]] * 3)
    p_value = over_time_p(days, (0.5, 0.5))
    assert p_value is not None
    assert (0.0001 < p_value < 0.05) == (level == "ok")
    assert check_over_time(days, (0.5, 0.5)).level == level
