"""A/A checks: quiet where arms are alike, loud where they are not or the test is too ready."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from offline.analysis.health.comparing import Floats, welch_p
from offline.analysis.health.self_check import (
    check_before_exposure,
    check_control,
    check_control_clusters,
)

RANDOM = np.random.default_rng


def welch_p_of(control: Floats, treatment: Floats) -> float:
    groups = [group - control.mean() for group in (control, treatment)]
    sums, squares, counts = (
        np.array([measure(group) for group in groups])
        for measure in (
            np.sum,
            lambda group: np.square(group).sum(),
            lambda group: float(len(group)),
        )
    )
    return float(welch_p(sums, squares, counts))


def test_welchs_test_is_scipys() -> None:
    random = RANDOM(1)
    control, treatment = 1e6 + random.normal(size=40), 1e6 + 0.3 + 2 * random.normal(size=25)
    assert welch_p_of(control, treatment) == pytest.approx(
        stats.ttest_ind(control, treatment, equal_var=False).pvalue, rel=1e-6
    )
    assert welch_p_of(np.ones(5), np.ones(5)) == 1.0
    assert welch_p_of(np.ones(5), np.zeros(5)) == 0.0


@pytest.mark.parametrize(
    ("p_value", "level"), [(0.4, "ok"), (0.0009, "alarm"), (None, "not_checked")]
)
def test_what_differed_before_exposure_alarms(p_value: float | None, level: str) -> None:
    found = check_before_exposure("spend_before", "new", p_value)
    assert found.level == level
    assert found.subject == "spend_before"


def test_the_control_drawn_apart_differs_as_often_as_it_may() -> None:
    values = RANDOM(3).normal(size=400)
    assert check_control("watch_time", values, 0.05, share=0.5, seed=1).level == "ok"
    assert check_control("watch_time", values[:5], 0.05, share=0.5, seed=1).level == "not_checked"


def test_a_metric_of_few_buyers_and_uneven_arms_is_told() -> None:
    """One unit in hundred pays, and few units stand for the treatment: Welch's variance of an arm
    without a buyer is zero, so that the test finds a difference far too often."""
    values = np.where(np.arange(1_000) % 100 == 0, 1.0, 0.0)
    found = check_control("revenue", values, 0.05, share=0.1, seed=1)
    assert found.level == "notice"
    assert "too ready" in found.text


def test_clusters_are_drawn_whole() -> None:
    """Units of a cluster are alike: a test that takes them for independent is told, one that
    compares means of clusters is not."""
    random = RANDOM(4)
    clusters = np.repeat(np.arange(30), 40)
    values = np.repeat(random.normal(size=30), 40) + random.normal(size=1_200)
    means = np.bincount(clusters, values) / 40

    def naive(treated: NDArray[np.bool_]) -> float:
        return welch_p_of(values[~treated], values[treated])

    def of_clusters(treated: NDArray[np.bool_]) -> float:
        return welch_p_of(means[~treated[::40]], means[treated[::40]])

    settings = {"share": 0.5, "seed": 1, "draws": 200}
    assert check_control_clusters("w", clusters, naive, 0.05, **settings).level == "notice"
    assert check_control_clusters("w", clusters, of_clusters, 0.05, **settings).level == "ok"
    few = clusters < 7
    assert check_control_clusters("w", clusters[few], naive, 0.05, **settings).level == (
        "not_checked"
    )
