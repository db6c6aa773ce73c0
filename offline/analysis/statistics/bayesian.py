"""A Bayesian summary of an effect: a normal prior, a normal likelihood."""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.special import ndtr

from offline.analysis.statistics.comparison import Comparison, critical_value
from services.common.errors import InvalidArgument

# Relative effects of three experiments in ten go beyond 30 %: GrowthBook's proper default.
RELATIVE_DEVIATION = 0.3


@dataclass(frozen=True)
class Prior:
    """A normal distribution of the effect (treatment minus control) in the metric's unit."""

    mean: float
    deviation: float


@dataclass(frozen=True)
class Posterior:
    """What is believed of the effect after the experiment.

    ``mean``, ``deviation``, ``lower`` and ``upper`` (credible at 1 - alpha) in the metric's unit;
    ``chance_to_beat_control``: that the effect is above zero. ``loss_of_treatment``: what choosing
    treatment loses on average where it is worse, ``loss_of_control`` the reverse, both over all
    that may be true (not only where it is so).
    """

    mean: float
    deviation: float
    lower: float
    upper: float
    chance_to_beat_control: float
    loss_of_treatment: float
    loss_of_control: float
    prior: Prior


def relative_prior(control_mean: float, *, deviation: float = RELATIVE_DEVIATION) -> Prior:
    """No effect on average, ``deviation`` of the control mean: GrowthBook's proper default, 0.3."""
    if control_mean == 0.0:
        raise InvalidArgument.field("control_mean", "is 0: name a prior in the metric's unit")
    return Prior(0.0, deviation * abs(control_mean))


def posterior(comparison: Comparison, prior: Prior, *, alpha: float = 0.05) -> Posterior:
    """The effect's posterior from an estimate and its standard error.

    Conjugate normal updating (Gelman et al. 2013, section 2.5); losses are E max(0, ∓effect) of
    GrowthBook's Bayesian engine (its white paper's "risk"). Raises InvalidArgument for a prior
    without spread, and an effect without a standard error.
    """
    if not (math.isfinite(prior.deviation) and prior.deviation > 0.0):
        raise InvalidArgument.field("prior.deviation", f"must be positive, is {prior.deviation}")
    if not math.isfinite(comparison.standard_error):
        raise InvalidArgument.field("comparison.standard_error", "is not known yet")
    critical = critical_value(alpha)
    # Weights, not precisions: a standard error of zero leaves the estimate. Of a ratio: squares of
    # tiny deviations would be rounded to zero.
    spread = comparison.standard_error / prior.deviation
    weight = 1.0 / (1.0 + spread * spread)
    mean = weight * comparison.estimate + (1.0 - weight) * prior.mean
    deviation = math.sqrt(weight) * comparison.standard_error
    return Posterior(
        mean=mean,
        deviation=deviation,
        lower=mean - critical * deviation,
        upper=mean + critical * deviation,
        chance_to_beat_control=_chance_above_zero(mean, deviation),
        loss_of_treatment=_mean_above_zero(-mean, deviation),
        loss_of_control=_mean_above_zero(mean, deviation),
        prior=prior,
    )


def _chance_above_zero(mean: float, deviation: float) -> float:
    if deviation == 0.0:
        return 0.5 if mean == 0.0 else float(mean > 0.0)
    return float(ndtr(mean / deviation))


def _mean_above_zero(mean: float, deviation: float) -> float:
    """E max(0, X) of a normal X."""
    if deviation == 0.0:
        return max(mean, 0.0)
    standard = mean / deviation
    density = math.exp(-(standard**2) / 2.0) / math.sqrt(2.0 * math.pi)
    return max(float(mean * ndtr(standard) + deviation * density), 0.0)
