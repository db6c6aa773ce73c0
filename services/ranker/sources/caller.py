"""Items that the request itself names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.ranker.arrays import Int64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.sources.base import Asked, Ground


@dataclass(frozen=True)
class Caller:
    """The request's candidate ids, in its order. Ids that no item has are counted."""

    name: str
    quota: int

    def bind(self, ground: Ground) -> BoundCaller:
        return BoundCaller(ground.table, self.quota)


@dataclass(frozen=True)
class BoundCaller:
    """See ``Caller``. What the surface's filters remove is yielded: they say why it is gone."""

    table: EntityTable
    quota: int

    def ask(self, asked: Asked) -> list[Int64Array]:
        slot_of, alive = self.table.slot_of, self.table.alive
        found: list[Int64Array] = []
        for ids in asked.candidate_ids:
            wanted = dict.fromkeys(ids)
            slots = [
                slot
                for id_ in wanted
                if (slot := slot_of.get(id_, len(alive))) < len(alive) and alive[slot]
            ]
            if len(slots) < len(wanted):
                asked.count_unknown(len(wanted) - len(slots))
            found.append(np.array(slots[: self.quota], np.int64))
        return found
