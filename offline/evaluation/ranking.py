"""Exact ranks of the true items among all that may be ranked, never among a sample."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.ragged import Ragged, Rows

UNRANKED = np.iinfo(np.int64).max
_LOWEST = np.iinfo(np.int64).min


def order_keys(
    scores: NDArray[np.float32], barred: Ragged, available: NDArray[np.bool_]
) -> NDArray[np.int64]:
    """Keys int64 [B, I] whose descending order is the ranking, all distinct within a row.

    Equal scores are ordered by item row, so ties never depend on the sorting routine. What may not
    be ranked gets the lowest integer: items that are barred [B] or not ``available`` [I], and those
    whose score isn't finite (the system did not rank them). ``scores`` [B, I].
    """
    bits = np.ascontiguousarray(scores, dtype=np.float32).view(np.int32).astype(np.int64)
    # A float's bits order like integers once the negative ones are mirrored; -0.0 falls on 0.0.
    monotone = np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))
    keys = (monotone << 32) + (scores.shape[1] - 1 - np.arange(scores.shape[1], dtype=np.int64))
    keys[~np.isfinite(scores)] = _LOWEST
    keys[barred.owners, barred.values] = _LOWEST
    keys[:, ~available] = _LOWEST
    return np.asarray(keys, dtype=np.int64)


def ranks_of(keys: NDArray[np.int64], wanted: Ragged) -> Rows:
    """0-based rank of each value of ``wanted`` [B] in its row; ``UNRANKED`` where it has none.

    ``keys`` as of ``order_keys``; the answer is aligned with ``wanted.values``.
    """
    owners = wanted.owners
    own = keys[owners, wanted.values]
    ranks = np.empty(len(own), dtype=np.int64)
    for start in range(0, len(own), 1024):
        part = slice(start, start + 1024)
        ranks[part] = (keys[owners[part]] > own[part, None]).sum(axis=1)
    ranks[own == _LOWEST] = UNRANKED
    return ranks


def top_k(keys: NDArray[np.int64], k: int) -> NDArray[np.int64]:
    """Item rows [B, min(k, I)] in order of rank, -1 where nothing more may be ranked."""
    k = min(k, keys.shape[1])
    best = np.argpartition(-(keys + 1), k - 1, axis=1)[:, :k]
    found = np.take_along_axis(keys, best, axis=1)
    order = np.argsort(-(found + 1), axis=1)
    rows = np.take_along_axis(best, order, axis=1)
    rows[np.take_along_axis(found, order, axis=1) == _LOWEST] = -1
    return rows
