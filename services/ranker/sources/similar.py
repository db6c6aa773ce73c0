"""Items nearest to the vectors of the last items of the user's history."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from services.ranker.arrays import Float32Array, Int64Array, UInt64Array
from services.ranker.sources.base import Asked, Ground, Histories, nothing
from services.ranker.sources.nearby import Nearby, nearest

_CACHED_ITEMS = 8192

_Found = tuple[Int64Array, Float32Array]


@dataclass(frozen=True)
class SimilarToLast:
    """Items nearest to any of the last items of a list feature, these left out."""

    name: str
    quota: int
    feature: str
    last: int

    def bind(self, ground: Ground) -> BoundSimilar | Nothing:
        histories, nearby = ground.histories, ground.nearby
        if histories is None:
            return Nothing()
        # What is nearest to an item is the same for every user: remembered while vectors stay.
        key = ("similar", self.quota, self.last)
        found: dict[int, _Found] = ground.reuse.get(key, (nearby, histories.vectors), dict)
        own = histories.table.entity == ground.table.entity
        return BoundSimilar(self, nearby, histories, own, ground.table.tie, found)


@dataclass(frozen=True)
class Nothing:
    """A source whose bundle or catalogue lacks what it needs."""

    def ask(self, asked: Asked) -> list[Int64Array]:
        return nothing(len(asked))


@dataclass(frozen=True)
class BoundSimilar:
    """See ``SimilarToLast``. ``found``: slots and inner products by the slot of a history's item;
    ``own``: whether the surface ranks the very items that histories name."""

    source: SimilarToLast
    nearby: Nearby
    histories: Histories
    own: bool
    tie: UInt64Array
    found: dict[int, _Found] = field(repr=False)

    def ask(self, asked: Asked) -> list[Int64Array]:
        slot_of, known = self.histories.table.slot_of, len(self.histories.vectors)
        lasts = [
            [slot for id_ in ids if (slot := slot_of.get(id_, known)) < known]
            for ids in asked.latest(self.source.feature, self.source.last)
        ]
        self._search(asked, {slot for last in lasts for slot in last})
        return [self._joined(last) for last in lasts]

    def _search(self, asked: Asked, wanted: set[int]) -> None:
        if len(self.found) + len(wanted) > _CACHED_ITEMS:
            self.found.clear()
        # A difference would look at all that is known.
        missing = sorted(slot for slot in wanted if slot not in self.found)
        if not missing:
            return
        # The items themselves are the nearest of all and will be left out.
        quota = self.source.quota + (self.source.last if self.own else 0)
        answers = nearest(asked.model, self.nearby, self.histories.vectors[missing], quota)
        self.found.update(zip(missing, answers, strict=True))

    def _joined(self, last: list[int]) -> Int64Array:
        """The nearest to any of the items: the highest inner product with one of them counts."""
        quota = self.source.quota
        if not last:
            return np.zeros(0, np.int64)
        parts = [self.found[slot] for slot in last]
        slots = np.concatenate([part[0] for part in parts])
        if len(parts) > 1:
            scores = np.concatenate([part[1] for part in parts])
            slots = slots[np.lexsort((self.tie[slots], -scores))]
            first = np.unique(slots, return_index=True)[1]
            slots = slots[np.sort(first)]
        if self.own:
            for slot in last:
                slots = slots[slots != slot]
        return slots[:quota]
