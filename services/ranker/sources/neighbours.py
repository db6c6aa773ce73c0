"""Items that others met together with those of the user's history."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from services.ranker.sources.base import Asked, Ground, Neighbours
from services.ranker.sources.groups import Named, best, named
from services.ranker.sources.similar import Nothing
from services.ranker.types import Int64Array, UInt64Array


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
        source, requests = self.source, len(asked)
        pairs = [
            (owner, row)
            for owner, ids in enumerate(asked.latest(source.feature, source.last))
            for id_ in ids
            if (row := self.known.row_of.get(id_)) is not None
        ]
        owner, rows = np.array(pairs, np.int64).reshape(-1, 2).T
        met, summed, score = _summed(self.known, owner, rows)
        codes = self.code_of_row[summed]
        shown = codes >= 0
        slots, place, _ = self.items.groups.take(codes[shown], source.quota)
        order = (-score[shown][place], self.tie[slots])
        return best(requests, met[shown][place], slots, order, source.quota)


def _summed(
    known: Neighbours, owner: Int64Array, rows: Int64Array
) -> tuple[Int64Array, Int64Array, npt.NDArray[np.float64]]:
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
    other = ~np.isin(pairs, owner * size + rows)
    request, row = np.divmod(pairs[other], max(size, 1))
    return request, row, score[other]


def _codes_of_rows(ground: Ground, attribute: str, items: Named, known: Neighbours) -> Int64Array:
    """Group of every row; made anew only when there may be new groups."""
    table = ground.table
    column = None if attribute == "id" else table.strings(attribute)
    groups = len(table) if column is None else len(column[1].values)

    def make() -> Int64Array:
        found = (items.code(id_) for id_ in known.ids)
        return np.fromiter((-1 if code is None else code for code in found), np.int64)

    return ground.reuse.get(("codes_of_rows", attribute), (known, groups), make)
