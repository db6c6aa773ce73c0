"""Figures of one user's ranking, from the ranks of the true items alone."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.ragged import Ragged, Rows
from offline.evaluation.ranking import UNRANKED

Values = NDArray[np.float64]


def hit_rate(ranks: Ragged, k: int) -> Values:
    """1 where any true item stands among the first k, else 0, [n]."""
    return (_sum(ranks, ranks.values < k) > 0).astype(np.float64)


def recall(ranks: Ragged, k: int) -> Values:
    """Share of the true items among the first k, [n]."""
    return _sum(ranks, ranks.values < k) / ranks.lengths


def ndcg(ranks: Ragged, k: int) -> Values:
    """Binary NDCG at k (Järvelin & Kekäläinen 2002, log base 2), [n].

    The ideal puts min(k, number of true items) of them first.
    """
    near = np.minimum(ranks.values, k)
    gains = np.where(near < k, 1.0 / np.log2(near + 2.0), 0.0)
    ideal = np.cumsum(1.0 / np.log2(np.arange(k) + 2.0))
    best: Values = ideal[np.minimum(ranks.lengths, k) - 1]
    return _sum(ranks, gains) / best


def reciprocal_rank(ranks: Ragged) -> Values:
    """1 / (1 + rank) of the best true item; 0 where none is ranked, [n]."""
    best = np.minimum.reduceat(ranks.values, ranks.offsets[:-1]) if len(ranks) else ranks.values
    ranked = best < UNRANKED
    return np.where(ranked, 1.0 / (1.0 + np.where(ranked, best, 0)), 0.0)


def user_metrics(ranks: Ragged, cutoffs: Sequence[int]) -> dict[str, Values]:
    """HR and NDCG at each cutoff and MRR, by name, [n] each. ``ranks``: one row a user."""
    found = {f"hr@{k}": hit_rate(ranks, k) for k in cutoffs}
    found |= {f"ndcg@{k}": ndcg(ranks, k) for k in cutoffs}
    return found | {"mrr": reciprocal_rank(ranks)}


def coverage(shown: Rows, available: NDArray[np.bool_]) -> float:
    """Share of the ``available`` items [I] that appear in ``shown`` (item rows, -1 is padding)."""
    total = int(available.sum())
    return len(np.unique(shown[shown >= 0])) / total if total else 0.0


def _sum(ranks: Ragged, values: NDArray[np.float64] | NDArray[np.bool_]) -> Values:
    return np.bincount(ranks.owners, weights=values, minlength=len(ranks)).astype(np.float64)
