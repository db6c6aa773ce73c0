"""What every method that compares two arms gives, and the arithmetic that they share."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtr, ndtri, stdtr, stdtrit

from offline.analysis.statistics.arrays import Values
from services.common.errors import InvalidArgument


@dataclass(frozen=True)
class Comparison:
    """Treatment against control.

    ``estimate`` is treatment minus control in the metric's unit, ``lower`` and ``upper`` its
    interval at level 1 - alpha, ``p_value`` two-sided. ``relative`` is estimate / |control mean|
    (nan where that is 0), so that it has the estimate's sign, with its own interval, which is
    infinite where the control mean can't be told from zero. ``degrees_of_freedom`` of the t
    distribution used; None where it was the normal one or none. ``method`` names the method, the
    key of the table of measured validity.
    """

    method: str
    estimate: float
    standard_error: float
    lower: float
    upper: float
    p_value: float
    relative: float
    relative_lower: float
    relative_upper: float
    control_mean: float
    treatment_mean: float
    control_units: int
    treatment_units: int
    degrees_of_freedom: float | None


@dataclass(frozen=True)
class Arm:
    """An arm's mean (or ratio, or quantile), the variance of that estimate, and its units."""

    mean: float
    variance: float
    units: int


def compared(
    method: str,
    control: Arm,
    treatment: Arm,
    *,
    alpha: float,
    degrees_of_freedom: float | None = None,
    covariance: float = 0.0,
) -> Comparison:
    """The comparison by the t distribution, or the normal one without ``degrees_of_freedom``.

    ``covariance`` is that of both arms' estimates. The relative interval is Fieller's: all r for
    which treatment - control - r |control| is not told from zero (Fieller 1954). Where it has
    ends it so leaves out zero exactly where the absolute one does. Raises InvalidArgument for an
    alpha outside (0, 1).
    """
    critical = critical_value(alpha, degrees_of_freedom)
    estimate = treatment.mean - control.mean
    variance = max(control.variance + treatment.variance - 2.0 * covariance, 0.0)
    standard_error = math.sqrt(variance)
    low, high = relative_interval(control, treatment, critical=critical, covariance=covariance)
    return Comparison(
        method=method,
        estimate=estimate,
        standard_error=standard_error,
        lower=estimate - critical * standard_error,
        upper=estimate + critical * standard_error,
        p_value=two_sided_p_value(estimate, standard_error, degrees_of_freedom),
        relative=estimate / abs(control.mean) if control.mean != 0.0 else math.nan,
        relative_lower=low,
        relative_upper=high,
        control_mean=control.mean,
        treatment_mean=treatment.mean,
        control_units=control.units,
        treatment_units=treatment.units,
        degrees_of_freedom=degrees_of_freedom,
    )


def critical_value(alpha: float, degrees_of_freedom: float | None = None) -> float:
    """The 1 - alpha / 2 quantile of t, or of the normal distribution."""
    if not 0.0 < alpha < 1.0:
        raise InvalidArgument.field("alpha", f"must lie between 0 and 1, is {alpha}")
    if degrees_of_freedom is None:
        return float(ndtri(1.0 - alpha / 2.0))
    return float(stdtrit(degrees_of_freedom, 1.0 - alpha / 2.0))


def two_sided_p_value(
    estimate: float, standard_error: float, degrees_of_freedom: float | None = None
) -> float:
    """Without any spread a difference is certain: 0, and none is 1."""
    if standard_error == 0.0:
        return 1.0 if estimate == 0.0 else 0.0
    distance = -abs(estimate) / standard_error
    if degrees_of_freedom is None:
        return float(2.0 * ndtr(distance))
    return float(2.0 * stdtr(degrees_of_freedom, distance))


def relative_interval(
    control: Arm, treatment: Arm, *, critical: float, covariance: float = 0.0
) -> tuple[float, float]:
    """Fieller's bounds of (treatment - control) / |control| for the ``critical`` value of the
    distribution.

    (-inf, inf) where the control mean can't be told from zero.
    """
    low, high = fieller(
        control.mean,
        control.variance,
        treatment.mean,
        treatment.variance,
        critical=critical,
        covariance=covariance,
    )
    return float(low), float(high)


def fieller(
    control_mean: ArrayLike,
    control_variance: ArrayLike,
    treatment_mean: ArrayLike,
    treatment_variance: ArrayLike,
    *,
    critical: ArrayLike,
    covariance: float = 0.0,
) -> tuple[Values, Values]:
    """Bounds [...] of (treatment - control) / |control| from means and their variances [...].

    Fieller 1954: all r for which treatment - control - r |control| is not told from zero at the
    ``critical`` value. (-inf, inf) where the control mean can't be told from zero, or the critical
    value is infinite.
    """
    control, treatment, bound = (
        np.asarray(each, dtype=np.float64) for each in (control_mean, treatment_mean, critical)
    )
    squared = np.where(np.isfinite(bound), bound, 0.0) ** 2
    leading = control**2 - squared * control_variance
    bounded = np.isfinite(bound) & (leading > 0.0)
    middle = control * treatment - squared * covariance
    last = treatment**2 - squared * treatment_variance
    reach = np.sqrt(np.maximum(middle**2 - leading * last, 0.0))
    divisor = np.where(bounded, leading, 1.0)
    low, high = (middle - reach) / divisor - 1.0, (middle + reach) / divisor - 1.0
    above = control > 0.0
    return (
        np.where(bounded, np.where(above, low, -high), -np.inf),
        np.where(bounded, np.where(above, high, -low), np.inf),
    )


def welch_degrees_of_freedom(
    control: Arm, treatment: Arm, *, freedom: tuple[float, float] | None = None
) -> float | None:
    """Of a difference of two independent means (Welch 1947).

    ``freedom``: of the arms' variances; units - 1 unless given. None where neither arm has any
    spread.
    """
    if control.variance + treatment.variance == 0.0:
        return None
    own, other = freedom or (control.units - 1.0, treatment.units - 1.0)
    return float(satterthwaite(control.variance, treatment.variance, own, other))


def satterthwaite(
    first: ArrayLike, second: ArrayLike, first_freedom: ArrayLike, second_freedom: ArrayLike
) -> Values:
    """Degrees of freedom [...] of the sum of two independent variances [...] from theirs [...].

    Satterthwaite 1946. nan where both variances are 0.
    """
    one, other = (np.asarray(each, dtype=np.float64) for each in (first, second))
    total = one + other
    # Shares of the total: squares of tiny variances would be rounded to zero.
    with np.errstate(invalid="ignore"):
        shares = one / total, other / total
    return np.asarray(
        1.0
        / (shares[0] ** 2 / np.asarray(first_freedom) + shares[1] ** 2 / np.asarray(second_freedom))
    )
