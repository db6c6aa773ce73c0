"""Solves what goes with what: each item of a history as a weighted sum over the other items.

EASE (Steck 2019, "Embarrassingly shallow autoencoders for sparse data", arXiv:1905.03375). It has a
weight for every pair of items, while the towers' vectors hold few numbers an item, and knows no
order, while the towers trust the latest items most: the two are wrong about different choices.
"""

from __future__ import annotations

import numpy as np
import scipy.linalg
import scipy.sparse
from numpy.typing import NDArray

from offline.dataset.tables import TRAIN
from offline.training.data import Histories, IntArray
from services.common.affinities import Affinities
from services.common.errors import FailedPrecondition

RIDGE = 200.0
# Of each item the largest weights; with all of them items are ordered no better.
KEPT = 200
# The system has a row and a column for each: 800 MB at this many.
MOST_ITEMS = 10_000


def fit_affinities(histories: Histories, items: int) -> Affinities:
    """The table of ``items`` [V] of the sequence's vocabulary, from the training events.

    With X 1 where a user met an item and P = (X'X + ``RIDGE`` I)^-1, the weight of item i for item
    j is -P_ij / P_jj, and 0 for itself. Raises ``FailedPrecondition`` where V is too large.
    """
    if items > MOST_ITEMS:
        raise FailedPrecondition(
            f"affinities are solved for at most {MOST_ITEMS:,} items, the sequence's vocabulary "
            f"has {items:,}"
        )
    size = items + 1
    owners = np.repeat(np.arange(len(histories.offsets) - 1), np.diff(histories.offsets))
    counted = (histories.split == TRAIN) & (histories.items > 0)
    pairs = np.unique(np.stack([owners[counted], histories.items[counted]]), axis=1)
    met = scipy.sparse.csr_matrix(
        (np.ones(pairs.shape[1]), (pairs[0], pairs[1])), (len(histories.offsets) - 1, size)
    )
    gram = (met.T @ met).toarray()
    gram[np.diag_indices(size)] += RIDGE
    inverse = scipy.linalg.inv(gram, overwrite_a=True)
    weights = inverse / -np.diag(inverse)
    weights[np.diag_indices(size)] = 0.0
    return _largest(weights, min(KEPT, size))


def _largest(weights: NDArray[np.float64], count: int) -> Affinities:
    """The ``count`` entries of the largest size of each row, by column."""
    places = np.argpartition(-np.abs(weights), count - 1, axis=1)[:, :count]
    rows: IntArray = np.sort(places, axis=1)
    return Affinities(rows, np.take_along_axis(weights, rows, axis=1))
