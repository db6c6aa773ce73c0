import math

import numpy as np
import pytest
import scipy.stats
import tea_tasting as tt
from hypothesis import given, settings
from hypothesis import strategies as st
from tea_tasting.aggr import Aggregates

from offline.analysis.statistics.power import (
    Baseline,
    Clustering,
    Design,
    minimum_effect,
    needed,
    needed_to_hold,
    power_of,
    proportion,
    ratio_baseline,
)
from services.common.errors import InvalidArgument

ONE = Baseline(10.0, 1.0)


def test_numbers_of_rs_manual() -> None:
    # R, help(power.t.test), examples: n = 20 an arm, delta 1, sd 1: power 0.8689528; power 0.90,
    # delta 1: n = 22.02110.
    assert power_of(ONE, 1.0, 40, Design()) == pytest.approx(0.8689528, abs=5e-8)
    assert needed(ONE, 1.0, Design(power=0.9)).control_units == math.ceil(22.02110)


def test_tea_tasting_agrees_where_it_has_a_number() -> None:
    metric = tt.Mean("value", power=0.8, n_obs=(500,), effect_size=None)
    aggregates = Aggregates(500, {"value": 10.0}, {"value": 9.0})
    theirs = metric.solve_power_from_aggregates(aggregates, "effect_size")[0].effect_size
    assert minimum_effect(Baseline(10.0, 9.0), 500, Design()) == pytest.approx(theirs, rel=1e-5)


def test_a_share_finds_as_often_as_it_says() -> None:
    random = np.random.default_rng(1)
    design = Design(treatment_share=0.3)
    units = needed(proportion(0.1), 0.03, design)
    drawn = [
        random.binomial(count, share, 20_000) / count
        for count, share in ((units.control_units, 0.1), (units.treatment_units, 0.13))
    ]
    error = np.sqrt(
        drawn[0] * (1 - drawn[0]) / units.control_units
        + drawn[1] * (1 - drawn[1]) / units.treatment_units
    )
    found = (drawn[1] - drawn[0]) / error > scipy.stats.norm.isf(0.025)
    assert found.mean() == pytest.approx(0.8, abs=0.02)


@given(
    st.floats(0.01, 2.0),
    st.floats(0.1, 0.9),
    st.booleans(),
    st.sampled_from([None, Clustering(20.0, 0.1, 0.7)]),
)
@settings(max_examples=20, deadline=None)
def test_units_effect_and_power_agree(
    effect: float, share: float, always_valid: bool, clustering: Clustering | None
) -> None:
    design = Design(treatment_share=share, clustering=clustering, always_valid=always_valid)
    units = needed(ONE, effect, design)
    assert power_of(ONE, effect, units.units * 1.01 + 40, design) >= 0.8
    # Whole clusters are coarse where there are few.
    if min(units.control_units, units.treatment_units) > 800:
        assert minimum_effect(ONE, units.units, design) == pytest.approx(effect, rel=0.1)
    more = needed(ONE, effect, Design(treatment_share=share, power=0.9, clustering=clustering))
    less = needed(ONE, effect, Design(treatment_share=share, clustering=clustering))
    assert more.units >= less.units
    assert always_valid is False or units.units >= less.units


def test_margins_of_negative_means_are_mirrored() -> None:
    below = Baseline(-10.0, 1.0)
    for less_is_better in (False, True):
        ours = needed_to_hold(ONE, 0.05, Design(), less_is_better=less_is_better)
        theirs = needed_to_hold(below, 0.05, Design(), less_is_better=not less_is_better)
        assert ours == theirs
    # A margin is as large an effect; what is less of the control varies less.
    whole = needed(ONE, 0.5, Design()).units
    assert needed_to_hold(ONE, 0.05, Design()).units < whole
    assert needed_to_hold(ONE, 0.05, Design(), less_is_better=True).units > whole


def test_covariates_and_clusters_scale_the_variance() -> None:
    plain = needed(ONE, 0.05, Design()).units
    assert needed(ONE, 0.05, Design(explained=0.4)).units == pytest.approx(0.6 * plain, rel=0.01)
    clustering = Clustering(30.0, 0.05, 0.8)
    # Eldridge, Ashby & Kerry 2006: 1 + ((0.8² + 1) 30 - 1) 0.05.
    assert clustering.design_effect == pytest.approx(3.41)
    grouped = needed(ONE, 0.05, Design(clustering=clustering))
    assert grouped.units == pytest.approx(3.41 * plain, rel=0.01)
    assert grouped.control_clusters == math.ceil(grouped.control_units / 30)


def test_a_ratio_has_the_variance_of_the_delta_method() -> None:
    random = np.random.default_rng(2)
    below = 1.0 + random.poisson(2.0, 200_000)
    above = random.binomial(below.astype(int), 0.3)
    covariance = np.cov(above, below)
    baseline = ratio_baseline(
        above.mean(), below.mean(), covariance[0, 0], covariance[1, 1], covariance[0, 1]
    )
    samples = random.integers(0, 200_000, (2_000, 500))
    ratios = above[samples].sum(axis=1) / below[samples].sum(axis=1)
    assert baseline.variance / 500 == pytest.approx(ratios.var(), rel=0.1)
    assert baseline.mean == pytest.approx(0.3, abs=0.01)


@pytest.mark.parametrize(
    ("call", "field"),
    [
        (lambda: needed(ONE, 0.0, Design()), "effect"),
        (lambda: needed(ONE, 1e-9, Design()), "effect"),
        (lambda: needed(proportion(0.5), 0.6, Design()), "effect"),
        (lambda: needed(Baseline(1.0, 0.0), 0.1, Design()), "variance"),
        (lambda: needed(ONE, 0.1, Design(power=1.0)), "power"),
        (lambda: needed(ONE, 0.1, Design(explained=1.0)), "explained"),
        (lambda: minimum_effect(ONE, 3, Design()), "units"),
        (lambda: minimum_effect(proportion(0.99), 10, Design()), "units"),
        (lambda: needed(ONE, 0.1, Design(clustering=Clustering(0.5, 0.1))), "cluster_size"),
        (lambda: needed_to_hold(ONE, 1.0, Design()), "margin"),
        (lambda: needed_to_hold(Baseline(0.0, 1.0), 0.1, Design()), "mean"),
        (lambda: needed_to_hold(ONE, 1e-9, Design()), "margin"),
        (lambda: proportion(1.0), "share"),
        (lambda: ratio_baseline(1.0, 0.0, 1.0, 1.0, 0.0), "denominator_mean"),
    ],
)
def test_bad_input_names_the_field(call: object, field: str) -> None:
    with pytest.raises(InvalidArgument) as caught:
        call()  # type: ignore[operator]
    assert caught.value.violations[0].field == field
