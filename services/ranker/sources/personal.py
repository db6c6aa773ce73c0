"""Items nearest to the user's vector."""

from __future__ import annotations

from dataclasses import dataclass

from services.ranker.arrays import Int64Array
from services.ranker.sources.base import Asked, Ground
from services.ranker.sources.nearby import Nearby, nearest


@dataclass(frozen=True)
class Personal:
    """Nearest items to the user's vector."""

    name: str
    quota: int

    def bind(self, ground: Ground) -> BoundPersonal:
        return BoundPersonal(ground.nearby, self.quota)


@dataclass(frozen=True)
class BoundPersonal:
    """See ``Personal``."""

    nearby: Nearby
    quota: int

    def ask(self, asked: Asked) -> list[Int64Array]:
        found = nearest(asked.model, self.nearby, asked.vectors, self.quota)
        return [slots for slots, _ in found]
