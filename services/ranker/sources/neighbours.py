"""Items that others met together with those of the user's history."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from services.ranker.arrays import Int64Array, UInt64Array
from services.ranker.sources.base import Asked, Ground, Neighbours
from services.ranker.sources.groups import Named, named
from services.ranker.sources.similar import Nothing

Float64Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class ItemKnn:
    """Items with the highest sum of similarities to the last items of a list feature, these left
    out. The similarities are the bundle's; without them nothing is yielded."""

    name: str
    quota: int
    feature: str
    attribute: str
    last: int

    def bind(self, ground: Ground) -> BoundItemKnn | Nothing:
        known = ground.neighbours
        if known is None:
            return Nothing()
        items = named(ground, self.attribute)
        code_of_row = _codes_of_rows(ground, self.attribute, items, known)
        return BoundItemKnn(self, known, items, code_of_row, ground.table.tie)


@dataclass(frozen=True)
class BoundItemKnn:
    """See ``ItemKnn``. ``code_of_row`` int64 [rows]: the group of items that stand for a row of the
    neighbours, -1 where there are none."""

    source: ItemKnn
    known: Neighbours
    items: Named
    code_of_row: Int64Array
    tie: UInt64Array

    def ask(self, asked: Asked) -> list[Int64Array]:
        source, row_of = self.source, self.known.row_of
        pairs = [
            (owner, row)
            for owner, ids in enumerate(asked.latest(source.feature, source.last))
            for id_ in ids
            if (row := row_of.get(id_)) is not None
        ]
        owner, rows = np.array(pairs, np.int64).reshape(-1, 2).T
        request, summed, score = _summed(self.known, owner, rows)
        slots, place = self.items.groups.heads(self.code_of_row[summed], source.quota)
        ends = np.searchsorted(request[place], np.arange(len(asked) + 1)).tolist()
        scores = score[place]
        return [self._best(slots[start:end], scores[start:end]) for start, end in pairwise(ends)]

    def _best(self, slots: Int64Array, scores: Float64Array) -> Int64Array:
        """The quota's best of some slots; equal scores are ordered by ``tie``."""
        quota = self.source.quota
        if len(slots) > quota:
            limit = np.partition(scores, len(scores) - quota)[len(scores) - quota]
            inside = scores >= limit
            slots, scores = slots[inside], scores[inside]
        return slots[np.lexsort((self.tie[slots], -scores))][:quota]


def _summed(
    known: Neighbours, owner: Int64Array, rows: Int64Array
) -> tuple[Int64Array, Int64Array, Float64Array]:
    """Sums of similarities to ``rows`` [m] of the requests ``owner`` [m], the rows left out.

    Returns request, row and sum of every row that is a neighbour, each [found].
    """
    size = len(known.rows)
    neighbours = known.rows[rows]
    inside = neighbours >= 0
    pair = (owner[:, None] * size + neighbours)[inside]
    pairs, which = np.unique(pair, return_inverse=True)
    similar = known.similarities[rows][inside].astype(np.float64)
    score = np.bincount(which, weights=similar, minlength=len(pairs)).astype(np.float64)
    request, row = np.divmod(pairs, max(size, 1))
    own = owner * size + rows
    at = np.minimum(np.searchsorted(pairs, own), max(len(pairs) - 1, 0))
    other = np.ones(len(pairs), np.bool_)
    if len(pairs):
        other[at[pairs[at] == own]] = False
    return request[other], row[other], score[other]


def _codes_of_rows(ground: Ground, attribute: str, items: Named, known: Neighbours) -> Int64Array:
    """Group of every row; made anew only when there may be new groups."""
    table = ground.table
    column = None if attribute == "id" else table.strings(attribute)
    groups = len(table) if column is None else len(column[1].values)

    def make() -> Int64Array:
        found = (items.code(id_) for id_ in known.ids)
        return np.fromiter((-1 if code is None else code for code in found), np.int64)

    return ground.reuse.get(("codes_of_rows", attribute), (known, groups), make)
