"""How good predicted probabilities are, and rankings."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from offline.training.data import FloatArray, IntArray

BINS = 10
"""Bins of a reliability table."""


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


@dataclass(frozen=True)
class Reliability:
    """How often what was predicted came true: per bin the number of ``rows`` int64, the mean
    ``predicted`` and the share ``observed`` float64, all ``[B]``, least likely first.

    ``expected_calibration_error``: the mean of |predicted - observed| over the rows; ``brier``: the
    mean squared difference of probability and label (Brier 1950).
    """

    rows: NDArray[np.int64]
    predicted: NDArray[np.float64]
    observed: NDArray[np.float64]
    expected_calibration_error: float
    brier: float


def reliability(
    probabilities: NDArray[np.floating], labels: NDArray[np.floating], bins: int = BINS
) -> Reliability:
    """Reliability of ``probabilities [N]`` of ``labels [N]``, at least one, in ``bins`` of about
    equal numbers of rows (Nguyen & O'Connor 2015): rare outcomes would crowd in bins of equal
    width."""
    order = np.argsort(probabilities, kind="stable")
    parts = [part for part in np.array_split(order, bins) if len(part)]
    rows = np.array([len(part) for part in parts], np.int64)
    wide, met = probabilities.astype(np.float64), labels.astype(np.float64)
    predicted = np.array([wide[part].mean() for part in parts])
    observed = np.array([met[part].mean() for part in parts])
    error = float((np.abs(predicted - observed) * rows).sum() / rows.sum())
    return Reliability(rows, predicted, observed, error, float(((wide - met) ** 2).mean()))


def area_under_curve(scores: NDArray[np.float64], labels: FloatArray) -> float:
    """Probability that a positive outscores a negative, ties counting half (Mann-Whitney U)."""
    _, place, counts = np.unique(scores, return_inverse=True, return_counts=True)
    below = np.cumsum(counts) - counts
    mean_rank = below + (counts + 1) / 2.0
    positive = labels > 0
    positives, negatives = int(positive.sum()), int((~positive).sum())
    rank_sum = float(mean_rank[place][positive].sum())
    return (rank_sum - positives * (positives + 1) / 2.0) / (positives * negatives)


def ranks_of(scores: FloatArray, wanted: IntArray) -> IntArray:
    """Rank from 0 of each row's wanted column; ties count for it."""
    own = np.take_along_axis(scores, wanted[:, None], axis=1)
    ranks: IntArray = (scores > own).sum(axis=1)
    return ranks


def rank_metrics(rank: IntArray) -> dict[str, float]:
    """Metrics of ranks from 0 over the whole catalogue, one relevant item a row."""
    gain = np.where(rank < 10, 1.0 / np.log2(rank + 2.0), 0.0)
    return {
        "hit_rate_at_10": float((rank < 10).mean()),
        "ndcg_at_10": float(gain.mean()),
        "mrr": float((1.0 / (rank + 1.0)).mean()),
        "recall_at_500": float((rank < 500).mean()),
    }
