"""Sources that yield the same to everybody: chosen when they are bound."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.ranker.arrays import BoolArray, Int64Array, UInt64Array
from services.ranker.sources.base import Asked, Ground


@dataclass(frozen=True)
class Trending:
    """Items with the highest value of a moving feature."""

    name: str
    quota: int
    feature: str

    def bind(self, ground: Ground) -> Fixed:
        table, values = ground.table, ground.order(self.feature)
        return Fixed(highest(values, table.tie, ground.eligible, self.quota))


@dataclass(frozen=True)
class NewItems:
    """The latest items by a time in epoch ms, or those with the least of a moving feature.

    An item without the time is not yielded; one without the feature has its default.
    """

    name: str
    quota: int
    newest_by: str | None
    fewest: str | None

    def bind(self, ground: Ground) -> Fixed:
        table, eligible = ground.table, ground.eligible
        if self.newest_by is not None:
            values = ground.order(self.newest_by).astype(np.float64)
            eligible = eligible & table.present_of(self.newest_by)
        else:
            values = -ground.order(self.fewest).astype(np.float64)
        return Fixed(highest(values, table.tie, eligible, self.quota))


@dataclass(frozen=True)
class Pinned:
    """Items that an editor chose, in the order given."""

    name: str
    quota: int
    ids: Sequence[str]

    def bind(self, ground: Ground) -> Fixed:
        found = known_slots(ground, list(dict.fromkeys(self.ids)))
        return Fixed(found[ground.eligible[found]][: self.quota])


@dataclass(frozen=True)
class Fixed:
    """The same slots for every request."""

    slots: Int64Array

    def ask(self, asked: Asked) -> list[Int64Array]:
        return [self.slots] * len(asked)


def highest(
    values: npt.NDArray[Any],
    tie: UInt64Array,
    eligible: BoolArray,
    quota: int,
) -> Int64Array:
    """Slots of the ``quota`` highest of ``values`` [n] among ``eligible`` [n], best first.

    Equal values are ordered by ``tie`` [n]; a value that is not finite counts as the lowest.
    """
    slots = np.flatnonzero(eligible)
    shown = values[slots].astype(np.float64)
    keys = np.where(np.isfinite(shown), -shown, np.inf)
    if len(slots) > quota:
        limit = np.partition(keys, quota - 1)[quota - 1]
        inside = keys <= limit
        slots, keys = slots[inside], keys[inside]
    return slots[np.lexsort((tie[slots], keys))][:quota]


def known_slots(ground: Ground, ids: Sequence[str]) -> Int64Array:
    """Slots of the ids that the table holds, in their order."""
    slot_of, size = ground.table.slot_of, len(ground.table)
    found = (slot_of.get(id_, size) for id_ in ids)
    return np.array([slot for slot in found if slot < size], np.int64)
