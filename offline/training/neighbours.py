"""Which items users meet together, from their histories: the item-kNN source reads it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import scipy.sparse

from offline.dataset.tables import TRAIN
from offline.training.data import FloatArray, Histories, IntArray

NEIGHBOURS = 20
HISTORY = 100
SHRINKAGE = 5.0
_ROWS_AT_ONCE = 2_000


@dataclass(frozen=True)
class ItemNeighbours:
    """The most similar other items of each of I items, the most similar first.

    ``rows`` int64 [I, K]: catalogue rows, -1 after the last; ``similarities`` float32 [I, K], 0
    there.
    """

    rows: IntArray
    similarities: FloatArray


def item_neighbours(histories: Histories, items: int, count: int = NEIGHBOURS) -> ItemNeighbours:
    """Neighbours by how many users met both in their training events.

    With n users an item, and m both: m / (sqrt(n1 n2) + ``SHRINKAGE``), the cosine of their sets
    of users, made smaller where few users met them. Of each user the last ``HISTORY`` different
    items count; equal similarities are ordered by row.
    """
    met = _met(histories, items)
    users = np.asarray(met.sum(axis=0)).ravel()
    rows = np.full((items, count), -1, np.int64)
    similarities = np.zeros((items, count), np.float32)
    transposed = met.T.tocsr()
    for start in range(0, items, _ROWS_AT_ONCE):
        both = (transposed[start : start + _ROWS_AT_ONCE] @ met).tocsr()
        for at in range(both.shape[0]):
            item = start + at
            part = slice(both.indptr[at], both.indptr[at + 1])
            others, shared = both.indices[part], both.data[part]
            kept = others != item
            others, shared = others[kept], shared[kept]
            similar = shared / (np.sqrt(users[item] * users[others]) + SHRINKAGE)
            best = np.lexsort((others, -similar))[:count]
            rows[item, : len(best)] = others[best]
            similarities[item, : len(best)] = similar[best]
    return ItemNeighbours(rows, similarities)


def within(neighbours: ItemNeighbours, kept: IntArray) -> ItemNeighbours:
    """The neighbours among the catalogue rows ``kept`` [N] alone, rows being places in ``kept``."""
    place = np.full(len(neighbours.rows) + 1, -1, np.int64)
    place[kept] = np.arange(len(kept))
    # The last place stands for -1.
    rows = place[neighbours.rows[kept]]
    similarities = np.where(rows >= 0, neighbours.similarities[kept], np.float32(0))
    order = np.argsort(rows < 0, axis=1, kind="stable")
    return ItemNeighbours(
        np.take_along_axis(rows, order, axis=1),
        np.take_along_axis(similarities, order, axis=1).astype(np.float32),
    )


def _met(histories: Histories, items: int) -> scipy.sparse.csr_matrix:
    """1 where a user met an item in training, float64 [users, items]."""
    owners: list[IntArray] = []
    found: list[IntArray] = []
    known = (histories.split == TRAIN) & (histories.targets >= 0)
    for user, (start, end) in enumerate(
        zip(histories.offsets[:-1], histories.offsets[1:], strict=True)
    ):
        own = histories.targets[start:end][known[start:end]][::-1]
        _, first = np.unique(own, return_index=True)
        last = own[np.sort(first)[:HISTORY]]
        found.append(last)
        owners.append(np.full(len(last), user, np.int64))
    shape = (len(found), items)
    if not found:
        return scipy.sparse.csr_matrix(shape)
    columns = np.concatenate(found)
    pairs = (np.concatenate(owners), columns)
    return scipy.sparse.csr_matrix((np.ones(len(columns)), pairs), shape=shape)
