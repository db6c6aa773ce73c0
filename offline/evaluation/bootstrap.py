"""Bootstrap intervals over users: percentile method (Efron & Tibshirani 1993, chapter 13)."""

from __future__ import annotations

from collections.abc import Sequence
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


def clustered_interval(
    groups: Sequence[Values], *, resamples: int = 2000, seed: int = 0, confidence: float = 0.95
) -> Interval:
    """Interval of the mean of group means when groups, then their users, are drawn again.

    ``groups``: values [users] of each, such as one simulated world. Two-stage bootstrap (Davison &
    Hinkley 1997, section 3.8): covers what differs between worlds and between users. With a single
    group it is the plain bootstrap.
    """
    means = np.stack(
        [
            resampled_means(values[:, None], resamples=resamples, seed=seed + place)[:, 0]
            for place, values in enumerate(groups)
        ]
    )
    rng = np.random.default_rng([seed, len(groups)])
    drawn = rng.integers(0, len(groups), (len(groups), resamples))
    # Each draw of a world takes its own draw of users.
    users_drawn = rng.integers(0, resamples, (len(groups), resamples))
    mean = float(np.mean([values.mean() for values in groups]))
    return interval(mean, means[drawn, users_drawn].mean(axis=0), confidence)
