import math

import numpy as np
import pytest

from offline.analysis.statistics.bayesian import Prior, posterior, relative_prior
from offline.analysis.statistics.comparison import Arm, Comparison, compared
from services.common.errors import InvalidArgument


def effect(estimate: float, standard_error: float) -> Comparison:
    control, treatment = (
        Arm(10.0, standard_error**2 / 2, 9),
        Arm(10.0 + estimate, standard_error**2 / 2, 9),
    )
    return compared("welch", control, treatment, alpha=0.05)


def test_published_posteriors() -> None:
    # GrowthBook, packages/stats/tests/bayesian/test_tests.py, TestGaussianEffectABTest: quantiles
    # of 7.16 and 7.69, whose difference has this interval without a prior; then with priors of
    # variances 1 and 1e6 on the relative effect.
    error = (0.6157689162044129 - 0.45725595891154214) / (2 * 1.959963984540054)
    measured = effect(7.694499927525767 - 7.157987489967789, error)
    known = posterior(measured, relative_prior(7.157987489967789, deviation=1.0))
    assert known.mean == pytest.approx(0.536495315442269)
    assert (known.lower, known.upper) == pytest.approx((0.4572401014910488, 0.6157505293934893))
    flat = posterior(measured, relative_prior(7.157987489967789, deviation=1e3))
    assert flat.mean == pytest.approx(0.536512437540855, rel=1e-11)


def test_a_published_chance_and_losses() -> None:
    # The same file, TestNorm: 10 units of 10 and 10.5, variances 0.25 and 1; of the relative effect
    # the chance is 0.91923, the risks 0.05131 and 0.00131.
    error = math.sqrt(0.1 / 10**2 + 0.025 * 10.5**2 / 10**4)
    found = posterior(effect(0.05, error), Prior(0.0, 1e6))
    assert found.chance_to_beat_control == pytest.approx(0.91923, abs=5e-6)
    assert found.loss_of_control == pytest.approx(0.05131, abs=5e-6)
    assert found.loss_of_treatment == pytest.approx(0.00131, abs=5e-6)


def test_draws_from_bayes_rule_agree() -> None:
    # Effects from the prior, weighed by how likely each makes the estimate.
    random = np.random.default_rng(1)
    effects = random.normal(0.2, 0.5, 400_000)
    weights = np.exp(-((0.6 - effects) ** 2) / (2 * 0.4**2))
    weights /= weights.sum()
    found = posterior(effect(0.6, 0.4), Prior(0.2, 0.5))
    assert found.mean == pytest.approx(weights @ effects, abs=0.005)
    assert found.chance_to_beat_control == pytest.approx(weights @ (effects > 0), abs=0.005)
    assert found.loss_of_treatment == pytest.approx(weights @ np.maximum(-effects, 0), abs=0.002)


def test_losses_differ_by_the_mean_and_signs_swap() -> None:
    found, other = (posterior(effect(sign * 0.3, 0.2), Prior(0.0, 1.0)) for sign in (1, -1))
    assert found.loss_of_control - found.loss_of_treatment == pytest.approx(found.mean)
    assert other.chance_to_beat_control == pytest.approx(1 - found.chance_to_beat_control)
    assert other.loss_of_treatment == pytest.approx(found.loss_of_control)


def test_no_spread_and_bad_input() -> None:
    certain = posterior(effect(0.0, 0.0), Prior(0.0, 1.0))
    assert (certain.chance_to_beat_control, certain.loss_of_treatment) == (0.5, 0.0)
    assert relative_prior(-20.0) == Prior(0.0, 6.0)
    with pytest.raises(InvalidArgument, match="control_mean"):
        relative_prior(0.0)
    with pytest.raises(InvalidArgument, match="prior"):
        posterior(effect(0.1, 0.1), Prior(0.0, 0.0))
    with pytest.raises(InvalidArgument, match="standard_error"):
        posterior(effect(0.1, math.inf), Prior(0.0, 1.0))


def test_deviations_too_small_to_square_weigh_as_any_other() -> None:
    small, usual = 1e-200, 1.0
    found = [
        posterior(compared("welch", Arm(0.0, 0.0, 9), Arm(0.0, 0.0, 9), alpha=0.05), prior)
        for prior in (Prior(0.0, small), Prior(0.0, usual))
    ]
    assert [each.deviation for each in found] == [0.0, 0.0]
    assert posterior(effect(0.0, 2.0), Prior(0.0, 2.0)).deviation == pytest.approx(math.sqrt(2.0))
