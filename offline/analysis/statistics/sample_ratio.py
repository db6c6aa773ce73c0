"""Did the arms get the units they should? (sample ratio mismatch)"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import chdtrc

from services.common.errors import InvalidArgument

ALARM_BELOW = 0.001


@dataclass(frozen=True)
class SampleRatio:
    """Pearson's statistic of ``observed`` units against ``expected`` ones, and its p-value."""

    observed: tuple[int, ...]
    expected: tuple[float, ...]
    statistic: float
    p_value: float

    @property
    def alarm(self) -> bool:
        """p < 0.001: nothing may be concluded (Kohavi, Tang & Xu 2020, chapter 21)."""
        return self.p_value < ALARM_BELOW


def sample_ratio(observed: Sequence[int], weights: Sequence[float]) -> SampleRatio:
    """Chi-square test (Pearson 1900) of ``observed`` units [variants] against ``weights``.

    Weights are shares of any scale. Variants of weight zero must have no units, else the p-value is
    0. No units at all give 1. Raises InvalidArgument for lengths that differ, negative numbers, or
    weights that are all zero.
    """
    counts, shares = np.asarray(observed, dtype=np.float64), np.asarray(weights, dtype=np.float64)
    if counts.shape != shares.shape or counts.ndim != 1:
        raise InvalidArgument.field("weights", f"{shares.size} for {counts.size} variants")
    if not (np.isfinite(shares).all() and (shares >= 0.0).all() and shares.sum() > 0.0):
        raise InvalidArgument.field("weights", "must be positive numbers")
    if (counts < 0).any():
        raise InvalidArgument.field("observed", "must not be negative")
    expected = counts.sum() * shares / shares.sum()
    weighed = shares > 0.0
    gaps = (counts - expected)[weighed]
    if counts.sum() == 0:
        statistic, p_value = 0.0, 1.0
    elif counts[~weighed].any():
        statistic, p_value = np.inf, 0.0
    else:
        statistic = float((gaps**2 / expected[weighed]).sum())
        freedom = int(weighed.sum()) - 1
        p_value = float(chdtrc(freedom, statistic)) if freedom else 1.0
    return SampleRatio(
        tuple(int(count) for count in counts),
        tuple(float(share) for share in expected),
        float(statistic),
        p_value,
    )
