"""Quantiles of two arms."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import ndtri

from offline.analysis.statistics.arrays import Values, checked
from offline.analysis.statistics.clusters import cluster_robust
from offline.analysis.statistics.comparison import (
    Arm,
    Comparison,
    compared,
    welch_degrees_of_freedom,
)
from services.common.errors import InvalidArgument

# The width of Woodruff's interval from which the standard error is read.
_DEVIATE = float(ndtri(0.975))


def quantile(
    control: ArrayLike,
    treatment: ArrayLike,
    *,
    at: float,
    control_units: ArrayLike | None = None,
    treatment_units: ArrayLike | None = None,
    alpha: float = 0.05,
) -> Comparison:
    """Difference of the quantiles ``at`` (0.9: the ninetieth percentile) of values [observations].

    ``control_units``, ``treatment_units`` [observations]: the unit that was randomised where it has
    several observations, or comes in a cluster that was. Standard errors by Woodruff 1952: the
    quantiles at ``at`` ± 1.96 standard errors of the share of observations below (of units: Deng,
    Knoblich & Lu 2018, section 4; CR2 with its degrees of freedom). Raises InvalidArgument for
    ``at`` outside (0, 1).
    """
    if not 0.0 < at < 1.0:
        raise InvalidArgument.field("at", f"must lie between 0 and 1, is {at}")
    first, own = _quantile_of("control", control, control_units, at)
    second, other = _quantile_of("treatment", treatment, treatment_units, at)
    freedom = welch_degrees_of_freedom(first, second, freedom=(own, other))
    return compared("quantile", first, second, alpha=alpha, degrees_of_freedom=freedom)


def _quantile_of(
    name: str, values: ArrayLike, units: ArrayLike | None, at: float
) -> tuple[Arm, float]:
    """The arm, and the degrees of freedom of its variance."""
    observed = checked(name, values)
    ordered = np.sort(observed)
    middle = _at(ordered, at)
    count, freedom = len(observed), len(observed) - 1.0
    share_error = math.sqrt(at * (1.0 - at) / len(observed))
    if units is not None:
        below = (observed <= middle).astype(np.float64)
        count, share_error, freedom = _error_of_share(name, below, units)
    low = _at(ordered, max(at - _DEVIATE * share_error, 0.0))
    high = _at(ordered, min(at + _DEVIATE * share_error, 1.0))
    return Arm(middle, ((high - low) / (2.0 * _DEVIATE)) ** 2, count), freedom


def _at(ordered: Values, at: float) -> float:
    """The quantile of sorted values, between two of them in a straight line (numpy's)."""
    place = at * (len(ordered) - 1)
    below = int(place)
    above = min(below + 1, len(ordered) - 1)
    return float(ordered[below] + (place - below) * (ordered[above] - ordered[below]))


def _error_of_share(name: str, below: Values, units: ArrayLike) -> tuple[int, float, float]:
    """Units, the standard error of a share of observations by unit, its degrees of freedom."""
    index = np.unique(np.asarray(units), return_inverse=True)[1]
    if len(index) != len(below):
        raise InvalidArgument.field(
            f"{name}_units", f"has {len(index)} for {len(below)} observations"
        )
    count = int(index.max()) + 1
    if count < 2:
        raise InvalidArgument.field(f"{name}_units", "needs at least 2 units, has 1")
    fit = cluster_robust(below, np.ones((len(below), 1)), index)
    return count, math.sqrt(float(fit.covariance[0, 0])), fit.degrees_of_freedom([1.0])
