"""Items that are behind with the impressions that the surface guarantees to what is new."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.ranker.arrays import Int64Array, UInt64Array
from services.ranker.guarantee import Guarantee, turns
from services.ranker.sources.base import Asked, Ground, nothing
from services.ranker.sources.similar import Nothing

MOST_DRAWN = 2_048
"""Items that take part in draws: of more, those that need impressions most."""


@dataclass(frozen=True)
class Guaranteed:
    """For each request a draw of its own, in the order of the turns that selection goes by: the
    slot is the first's that the filters leave."""

    name: str
    quota: int

    def bind(self, ground: Ground) -> BoundGuaranteed | Nothing:
        if ground.guarantee is None:
            return Nothing()
        slots = np.flatnonzero(ground.guarantee.open & ground.eligible)
        return BoundGuaranteed(ground.guarantee, slots, ground.table.tie[slots], self.quota)


@dataclass(frozen=True)
class BoundGuaranteed:
    """See ``Guaranteed``. ``slots`` int64 [n], ``tie`` uint64 [n] of what may be owed something."""

    guarantee: Guarantee
    slots: Int64Array
    tie: UInt64Array
    quota: int

    def ask(self, asked: Asked) -> list[Int64Array]:
        needed = self.guarantee.needed(self.slots, asked.now_ms)
        behind = np.flatnonzero(needed)
        if not len(behind):
            return nothing(len(asked))
        if len(behind) > MOST_DRAWN:
            behind = behind[np.argpartition(-needed[behind], MOST_DRAWN - 1)[:MOST_DRAWN]]
        slots = self.slots[behind]
        seeds = np.array(asked.seeds, np.uint64)
        order = turns(needed[behind], self.tie[behind], seeds)
        first = np.argsort(order, axis=1)[:, : self.quota]
        return list(slots[first])
