import math

import numpy as np
import pytest
import scipy.stats

from offline.analysis.statistics.quantiles import quantile
from services.common.errors import InvalidArgument


def test_the_standard_error_is_the_asymptotic_one() -> None:
    # sqrt(q (1 - q) / n) / f(quantile), f the density (Cramér 1946, 28.5).
    random = np.random.default_rng(1)
    control, treatment = random.normal(size=40_000), random.normal(size=40_000)
    for at in (0.5, 0.9):
        density = scipy.stats.norm.pdf(scipy.stats.norm.ppf(at))
        one = math.sqrt(at * (1 - at) / 40_000) / density
        found = quantile(control, treatment, at=at)
        assert found.standard_error == pytest.approx(math.sqrt(2) * one, rel=0.08)
        assert found.control_mean == pytest.approx(np.quantile(control, at))


def test_observations_of_one_unit_are_no_independent_ones() -> None:
    random = np.random.default_rng(2)
    values = np.repeat(random.lognormal(size=(2, 500)), 8, axis=1)
    units = np.repeat(np.arange(500), 8)
    naive = quantile(*values, at=0.75)
    ours = quantile(*values, at=0.75, control_units=units, treatment_units=units)
    assert ours.standard_error == pytest.approx(math.sqrt(8) * naive.standard_error, rel=0.25)
    assert ours.control_units == 500
    # With an observation each, nothing changes but the share's n - 1.
    own = np.arange(4000)
    alone = quantile(*values, at=0.75, control_units=own, treatment_units=own)
    assert alone.standard_error == pytest.approx(naive.standard_error, rel=0.02)


def test_swapped_arms_and_scale() -> None:
    random = np.random.default_rng(3)
    control, treatment = random.lognormal(size=(2, 300))
    ours = quantile(control, treatment, at=0.8)
    swapped = quantile(treatment * 3, control * 3, at=0.8)
    assert swapped.estimate == pytest.approx(-3 * ours.estimate)
    assert swapped.p_value == pytest.approx(ours.p_value)


def test_bad_input() -> None:
    for at in (0.0, 1.0):
        with pytest.raises(InvalidArgument, match="at"):
            quantile([1.0, 2.0], [1.0, 2.0], at=at)
    with pytest.raises(InvalidArgument, match="control_units"):
        quantile([1.0, 2.0], [1.0, 2.0], at=0.5, control_units=[1, 1])
