"""Which items have which texts: one question to a string column, a list column, or the ids."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from services.ranker.arrays import BoolArray, Int32Array, Int64Array
from services.ranker.catalogue.table import EntityTable

Rows = Int64Array | slice
"""Slots of a table, or a slice of them."""


@dataclass(frozen=True)
class Members:
    """What n items hold, by code: ``codes`` int32 [n], each below ``size``; code 0 holds nothing.

    Without codes an item's slot is its code, and every item holds something. ``having`` says which
    codes hold a text, maybe some beyond ``size``, which came later.
    """

    codes: Int32Array | None
    size: int
    having: Callable[[str], Sequence[int]]

    def codes_having(self, texts: Iterable[str]) -> list[int]:
        """Codes that hold one of the texts."""
        return [code for text in texts for code in self.having(text) if code < self.size]

    def mask(self, codes: list[int], rows: Rows, *, without: bool = False) -> BoolArray:
        """Which rows have one of the codes, or, if ``without``, hold nothing."""
        wanted = np.zeros(self.size, np.bool_)
        wanted[codes] = True
        if self.codes is None:
            found: BoolArray = wanted[rows]
            return found
        if without:
            wanted[0] = True
        return wanted[self.codes[rows]]


def members_of(table: EntityTable, name: str) -> Members | None:
    """The column of strings or lists of a table, or its ids ("id"); None when it has none."""
    if name == "id":
        slot_of = table.slot_of
        return Members(None, len(table), lambda id_: (slot_of[id_],) if id_ in slot_of else ())
    if (strings := table.strings(name)) is not None:
        codes, pool = strings
        return Members(codes, len(pool.values), pool.having)
    if (lists := table.lists(name)) is not None:
        codes, list_pool = lists
        return Members(codes, len(list_pool.values), list_pool.having)
    return None
