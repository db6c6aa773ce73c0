"""Bootstrap intervals over users: percentile method (Efron & Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A mean with the bounds of its two-sided interval."""

    mean: float
    low: float
    high: float


def resampled_means(values: Values, *, resamples: int, seed: int) -> Values:
    """Means [resamples, columns] of users drawn with replacement from ``values`` [users, columns].

    Every column sees the same draws, so differences of columns are paired.
    """
    users = len(values)
    if users == 0:
        raise ValueError("a bootstrap needs at least one user")
    rng = np.random.default_rng(seed)
    means = np.empty((resamples, values.shape[1]))
    for index in range(resamples):
        times_drawn = np.bincount(rng.integers(0, users, users), minlength=users)
        means[index] = times_drawn @ values / users
    return means


def interval(mean: float, means: Values, confidence: float = 0.95) -> Interval:
    """Percentile interval from the resampled ``means`` [resamples] of one figure."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(means, [tail, 1.0 - tail])
    return Interval(mean, float(low), float(high))


def intervals(
    values: Values, *, resamples: int = 1000, seed: int = 0, confidence: float = 0.95
) -> list[Interval]:
    """One interval a column of ``values`` [users, columns]."""
    means = resampled_means(values, resamples=resamples, seed=seed)
    return [
        interval(float(values[:, column].mean()), means[:, column], confidence)
        for column in range(values.shape[1])
    ]
