"""The comparison that checks use: means of two groups with unequal variances."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from offline.analysis.statistics.comparison import satterthwaite

Floats = NDArray[np.float64]


def welch_p(sums: Floats, squares: Floats, counts: Floats) -> Floats:
    """Two-sided p-values of Welch's t-test, from sums, sums of squares and counts, [..., 2] each.
    1 where both groups are constant and alike, or where one has fewer than two units (Welch
    1947)."""
    with np.errstate(divide="ignore", invalid="ignore"):
        means = sums / counts
        variances = np.maximum(squares - sums * means, 0.0) / (counts - 1) / counts
        total = variances.sum(axis=-1)
        difference = means[..., 1] - means[..., 0]
        freedom = satterthwaite(
            variances[..., 0], variances[..., 1], counts[..., 0] - 1, counts[..., 1] - 1
        )
        p_values = 2 * stats.t.sf(np.abs(difference) / np.sqrt(total), freedom)
    p_values = np.where((total == 0) & (difference != 0), 0.0, p_values)
    return np.asarray(np.where(np.isnan(p_values), 1.0, p_values), np.float64)
