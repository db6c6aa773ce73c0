"""The k best items under caps, in an order that every process agrees on."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.ranker.types import Float32Array, Int32Array, Int64Array, UInt64Array

POLICY = "top_k"


def order(values: Float32Array, tie: UInt64Array) -> Int64Array:
    """Indices of values [N] from the highest; equal values by ``tie`` [N] from the lowest."""
    ranked = np.argsort(-values, kind="stable")
    sorted_values = values[ranked]
    if len(values) > 1 and (sorted_values[1:] == sorted_values[:-1]).any():
        return np.lexsort((tie, -values))
    return ranked


def top_k(
    values: Float32Array,
    tie: UInt64Array,
    k: int,
    caps: Sequence[tuple[Int32Array, int]] = (),
) -> Int64Array:
    """Indices of the at most ``k`` best of values [N], best first.

    ``caps``: (codes int32 [N], limit) pairs; at most ``limit`` items of one code are taken, in
    order of value. Code 0, a missing value, is not capped.
    """
    ranked = order(values, tie)
    if not caps:
        return ranked[:k]
    counts: list[dict[int, int]] = [{} for _ in caps]
    taken: list[int] = []
    # The slate is nearly always full long before the end: only a window becomes Python numbers.
    window = 4 * k
    for start in range(0, len(ranked), window):
        some = ranked[start : start + window]
        columns = [(codes[some].tolist(), limit) for codes, limit in caps]
        for place, index in enumerate(some.tolist()):
            if _admit(columns, counts, place):
                taken.append(index)
                if len(taken) == k:
                    return np.array(taken, np.int64)
    return np.array(taken, np.int64)


def _admit(
    columns: Sequence[tuple[list[int], int]], counts: Sequence[dict[int, int]], place: int
) -> bool:
    for (codes, limit), taken in zip(columns, counts, strict=True):
        code = codes[place]
        if code and taken.get(code, 0) >= limit:
            return False
    for (codes, _), taken in zip(columns, counts, strict=True):
        code = codes[place]
        taken[code] = taken.get(code, 0) + 1
    return True
