"""Items nearest to a vector: the bundle's index, and a matrix of what it lacks."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.ports import Model

MAX_OVERFETCH = 4.0


@dataclass(frozen=True)
class Nearby:
    """What can be retrieved on a surface.

    ``index_slots`` int64 [index rows] is the slot of every row of the index, -1 where the item must
    not be shown or its vector is no longer the indexed one; empty where the index is not used.
    ``overfetch`` is how many times the rows wanted are asked of it, as some must not be shown.
    ``slots`` int64 [C] and ``vectors`` float32 [C, D] hold the remaining items, searched exactly:
    of live rooms, which are few and come and go, all. Replaced whole when any of it changes.
    """

    entity: str
    index_slots: Int64Array
    overfetch: float
    slots: Int64Array
    vectors: Float32Array


def nearest(
    model: Model, nearby: Nearby, queries: Float32Array, quota: int
) -> list[tuple[Int64Array, Float32Array]]:
    """For each query [B, D] the slots of at most ``quota`` items and their inner products.

    The items of one query are distinct, the nearest first.
    """
    found: list[tuple[Int64Array, Float32Array]] = []
    indexed = _from_index(model, nearby, queries, quota)
    exact = queries @ nearby.vectors.T if len(nearby.slots) else None
    for row in range(len(queries)):
        slots, scores = indexed[row] if indexed else (nearby.slots[:0], queries[row, :0])
        if exact is not None:
            slots = np.concatenate([slots, nearby.slots]) if len(slots) else nearby.slots
            scores = np.concatenate([scores, exact[row]]) if len(scores) else exact[row]
            if len(slots) > quota:
                part = np.argpartition(scores, len(slots) - quota)[len(slots) - quota :]
                slots, scores = slots[part], scores[part]
            order = np.argsort(-scores, kind="stable")
            slots, scores = slots[order], scores[order]
        found.append((slots[:quota], scores[:quota]))
    return found


def _from_index(
    model: Model, nearby: Nearby, queries: Float32Array, quota: int
) -> list[tuple[Int64Array, Float32Array]]:
    rows = len(nearby.index_slots)
    if not rows:
        return []
    wanted = min(rows, math.ceil(quota * nearby.overfetch))
    scores, positions = model.search(nearby.entity, queries, wanted)
    slots = np.where(positions >= 0, nearby.index_slots[positions], -1)
    shown = slots >= 0
    if shown.all():
        return list(zip(slots, scores, strict=True))
    return [(slots[row][mask], scores[row][mask]) for row, mask in enumerate(shown)]
