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
    columns: list[tuple[list[int], int, dict[int, int]]] = [
        (codes[ranked].tolist(), limit, {}) for codes, limit in caps
    ]
    taken: list[int] = []
    for place in range(len(ranked)):
        if len(taken) == k:
            break
        if _admit(columns, place):
            taken.append(place)
    return ranked[np.array(taken, np.int64)]


def _admit(columns: Sequence[tuple[list[int], int, dict[int, int]]], place: int) -> bool:
    for codes, limit, counts in columns:
        code = codes[place]
        if code and counts.get(code, 0) >= limit:
            return False
    for codes, _, counts in columns:
        code = codes[place]
        counts[code] = counts.get(code, 0) + 1
    return True
