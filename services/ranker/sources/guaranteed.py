"""Items that are behind with the impressions that the surface guarantees to what is new."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from services.ranker.arrays import Float64Array, Int64Array, UInt64Array
from services.ranker.guarantee import Guarantee, turns
from services.ranker.sources.base import Asked, Ground, nothing
from services.ranker.sources.similar import Nothing

MOST_DRAWN = 512
"""Items that take part in draws: of more, those that need impressions most."""

_SAME_MS = 1_000
"""Who is behind is looked up anew once so much time has passed."""


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
class _Behind:
    """Items that are behind at a moment: slots, hashes and what they need, each [m]."""

    now_ms: int
    slots: Int64Array
    tie: UInt64Array
    needed: Float64Array


@dataclass
class BoundGuaranteed:
    """See ``Guaranteed``. ``slots`` int64 [n], ``tie`` uint64 [n] of what may be owed something."""

    guarantee: Guarantee
    slots: Int64Array
    tie: UInt64Array
    quota: int
    _behind: _Behind | None = field(default=None, init=False)

    def ask(self, asked: Asked) -> list[Int64Array]:
        behind = self._behind
        if behind is None or abs(asked.now_ms - behind.now_ms) >= _SAME_MS:
            behind = self._behind = self._behind_at(asked.now_ms)
        if not len(behind.slots):
            return nothing(len(asked))
        order = turns(behind.needed, behind.tie, np.array(asked.seeds, np.uint64))
        if len(behind.slots) > self.quota:
            first = np.argpartition(order, self.quota - 1, axis=1)[:, : self.quota]
            order = np.take_along_axis(order, first, axis=1)
            first = np.take_along_axis(first, np.argsort(order, axis=1), axis=1)
        else:
            first = np.argsort(order, axis=1)
        return list(behind.slots[first])

    def _behind_at(self, now_ms: int) -> _Behind:
        needed = self.guarantee.needed(self.slots, now_ms)
        behind = np.flatnonzero(needed)
        if len(behind) > MOST_DRAWN:
            behind = behind[np.argpartition(-needed[behind], MOST_DRAWN - 1)[:MOST_DRAWN]]
        return _Behind(now_ms, self.slots[behind], self.tie[behind], needed[behind])
