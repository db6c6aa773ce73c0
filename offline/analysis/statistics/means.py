"""Means, ratios of sums and winsorised means of two arms.

Second moments of ratios are tea-tasting's (``Aggregates``). Its comparison of means is not used: it
raises OverflowError where a control mean is nearly zero, and gives neither a standard error nor
degrees of freedom. Tests hold ours against it.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import ArrayLike
from tea_tasting.aggr import Aggregates

from offline.analysis.statistics.arrays import MAX_MAGNITUDE, Values, checked, same_length
from offline.analysis.statistics.comparison import (
    Arm,
    Comparison,
    compared,
    welch_degrees_of_freedom,
)
from services.common.errors import InvalidArgument


def welch(
    control: ArrayLike, treatment: ArrayLike, *, alpha: float = 0.05, method: str = "welch"
) -> Comparison:
    """Difference of the means of unit values [units] of each arm; unequal variances.

    Welch 1947: t with Satterthwaite's degrees of freedom. Raises InvalidArgument for an arm of
    fewer than two units and for values that are not finite.
    """
    first, second = mean_of(checked("control", control)), mean_of(checked("treatment", treatment))
    freedom = welch_degrees_of_freedom(first, second)
    return compared(method, first, second, alpha=alpha, degrees_of_freedom=freedom)


def mean_of(values: Values) -> Arm:
    """Mean, its variance and the number of ``values`` [units >= 2]."""
    return Arm(float(values.mean()), float(values.var(ddof=1)) / len(values), len(values))


def ratio(
    control_numerator: ArrayLike,
    control_denominator: ArrayLike,
    treatment_numerator: ArrayLike,
    treatment_denominator: ArrayLike,
    *,
    alpha: float = 0.05,
) -> Comparison:
    """Difference of sum(numerator) / sum(denominator), each [units] of an arm.

    Delta method: Deng, Knoblich & Lu 2018, "Applying the Delta Method in Metric Analytics",
    section 3; units are what was randomised, the denominator what they did.
    Raises InvalidArgument for denominators that sum to zero.
    """
    arms = []
    for name, numerator, denominator in (
        ("control", control_numerator, control_denominator),
        ("treatment", treatment_numerator, treatment_denominator),
    ):
        above = checked(f"{name}_numerator", numerator)
        below = checked(f"{name}_denominator", denominator)
        same_length(f"{name}_denominator", below, above)
        arms.append(_ratio_of(name, above, below))
    freedom = welch_degrees_of_freedom(*arms)
    return compared("ratio", *arms, alpha=alpha, degrees_of_freedom=freedom)


def _ratio_of(name: str, numerator: Values, denominator: Values) -> Arm:
    _require_sum(f"{name}_denominator", denominator)
    covariance = np.cov(numerator, denominator)
    above, below = float(numerator.mean()), float(denominator.mean())
    variance = ratio_variance(above, below, covariance[0, 0], covariance[1, 1], covariance[0, 1])
    # Rounding may leave a little less than nothing where a ratio has no spread.
    return Arm(above / below, max(float(variance), 0.0) / len(numerator), len(numerator))


def ratio_variance(
    numerator_mean: ArrayLike,
    denominator_mean: ArrayLike,
    numerator_variance: ArrayLike,
    denominator_variance: ArrayLike,
    covariance: ArrayLike,
) -> Values:
    """Variance [...] of a unit's part in a ratio of sums, from means, variances and covariance
    [...] of units: the delta method (Deng, Knoblich & Lu 2018), tea-tasting's arithmetic."""

    def number(values: ArrayLike) -> float:
        # What is a number there may as well be an array: it is only computed with.
        return cast("float", np.asarray(values, dtype=np.float64))

    moments = Aggregates(
        None,
        {"above": number(numerator_mean), "below": number(denominator_mean)},
        {"above": number(numerator_variance), "below": number(denominator_variance)},
        {("above", "below"): number(covariance)},
    )
    return np.asarray(moments.ratio_var("above", "below"), dtype=np.float64)


def _require_sum(name: str, denominator: Values) -> None:
    # What is so small is zero but for rounding, and a square of it is zero.
    if abs(denominator.sum()) * MAX_MAGNITUDE < 1.0:
        raise InvalidArgument.field(name, "sums to zero")


def linearised(numerator: ArrayLike, denominator: ArrayLike) -> Values:
    """Values [units] of which mean and variance are the arm's ratio and its delta-method variance.

    R + (numerator - R denominator) / mean(denominator), R the arm's ratio: Budylin et al. 2018,
    "Consistent Transformation of Ratio Metrics", scaled so that the mean is R. What is
    for means (CUPED, clusters, sequences) is so for ratios, too.
    """
    above, below = checked("numerator", numerator), checked("denominator", denominator)
    same_length("denominator", below, above)
    _require_sum("denominator", below)
    value = above.mean() / below.mean()
    return np.asarray(value + (above - value * below) / below.mean())


def winsorised(
    control: ArrayLike, treatment: ArrayLike, *, quantile: float = 0.99, alpha: float = 0.05
) -> Comparison:
    """Welch on values [units] cut at one threshold: the ``quantile`` of both arms together.

    Values above it count as it (Dixon & Tukey 1968; Kohavi, Tang & Xu 2020, chapter 18, on capped
    metrics). From the pooled units, so that both arms are cut alike and neither decides. What is
    compared is the mean of cut values: a treatment that works only through the largest is not seen.
    """
    first, second = checked("control", control), checked("treatment", treatment)
    threshold = winsor_threshold(first, second, quantile=quantile)
    return welch(
        np.minimum(first, threshold),
        np.minimum(second, threshold),
        alpha=alpha,
        method="winsorised",
    )


def winsor_threshold(control: Values, treatment: Values, *, quantile: float) -> float:
    """The ``quantile`` of both arms' values together."""
    if not 0.0 < quantile < 1.0:
        raise InvalidArgument.field("quantile", f"must lie between 0 and 1, is {quantile}")
    return float(np.quantile(np.concatenate([control, treatment]), quantile))
