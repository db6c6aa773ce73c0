"""Items with the highest value of a moving feature; the same for everybody."""

from __future__ import annotations

import numpy as np

from services.ranker.types import BoolArray, Float32Array, Int64Array, UInt64Array


def trending_slots(
    values: Float32Array | Int64Array, tie: UInt64Array, eligible: BoolArray, quota: int
) -> Int64Array:
    """Slots of the ``quota`` highest of ``values`` [n] among ``eligible`` [n], best first.

    Equal values are ordered by ``tie`` [n]; a value that is not finite counts as the lowest.
    """
    slots = np.flatnonzero(eligible)
    keys = -np.nan_to_num(values[slots].astype(np.float64), nan=-np.inf, neginf=-np.inf)
    if len(slots) > quota:
        limit = np.partition(keys, quota - 1)[quota - 1]
        inside = keys <= limit
        slots, keys = slots[inside], keys[inside]
    return slots[np.lexsort((tie[slots], keys))][:quota]
