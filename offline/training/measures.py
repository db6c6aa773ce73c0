"""How good predicted probabilities are."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.training.data import FloatArray


def binary_metrics(logits: FloatArray, labels: FloatArray) -> dict[str, float]:
    """Figures of one objective over its mature rows: ``logits``, ``labels`` ``[N]``.

    ``rows``; ``positives``; ``logloss`` in nats; ``calibration``, the sum of probabilities over
    the number of positives; ``auc``. Those that the labels do not define are left out.
    """
    found = {"rows": float(len(labels)), "positives": float(labels.sum())}
    if not len(labels):
        return found
    wide = logits.astype(np.float64)
    found["logloss"] = float(np.mean(np.logaddexp(0.0, wide) - labels * wide))
    if labels.sum() > 0:
        found["calibration"] = float((1.0 / (1.0 + np.exp(-wide))).sum() / labels.sum())
    if 0 < labels.sum() < len(labels):
        found["auc"] = area_under_curve(wide, labels)
    return found


def area_under_curve(scores: NDArray[np.float64], labels: FloatArray) -> float:
    """Probability that a positive outscores a negative, ties counting half (Mann-Whitney U)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    mean_rank = below + (counts + 1) / 2.0
    positive = labels > 0
    positives, negatives = int(positive.sum()), int((~positive).sum())
    rank_sum = float(mean_rank[place][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)
