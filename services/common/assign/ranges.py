"""Ranges of [0, 1): which bucket belongs to which variant, layer share or namespace."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise

Range = tuple[float, float]
"""[start, end)."""

_TOLERANCE = 1e-9


def bucket_ranges(weights: Sequence[float], coverage: float) -> list[Range]:
    """[start, end) of each variant. ``weights`` sum to 1; at full coverage they leave no hole.

    Variant i has [c, c + coverage * weight_i), c the sum of the weights before it: raising the
    coverage adds units and moves none (GrowthBook's rule).
    """
    ranges = growthbook_ranges(weights, coverage)
    if coverage == 1.0:
        # A sum of weights may fall short of 1 by rounding, and nobody may fall out of the end.
        last = max(i for i, weight in enumerate(weights) if weight > 0)
        ranges[last] = (ranges[last][0], 1.0)
    return ranges


def growthbook_ranges(weights: Sequence[float], coverage: float) -> list[Range]:
    """The same as GrowthBook's ``getBucketRanges`` has it, to the last bit."""
    starts = [0.0, *accumulate(weights)][:-1]
    return [(start, start + coverage * w) for start, w in zip(starts, weights, strict=True)]


def within(bucket: float, ranges: Sequence[Range]) -> bool:
    """Whether a bucket is in one of the ranges."""
    for start, end in ranges:  # noqa: SIM110 - any() makes a generator, which takes twice as long
        if start <= bucket < end:
            return True
    return False


def chosen(bucket: float, ranges: Sequence[Range]) -> int:
    """Index of the first range that has the bucket; -1 for none."""
    for index, (start, end) in enumerate(ranges):
        if start <= bucket < end:
            return index
    return -1


def overlap(ranges: Sequence[Range]) -> Range | None:
    """What two of the ranges share, the first such piece; None where they are disjoint."""
    for one, other in pairwise(sorted(r for r in ranges if r[1] > r[0])):
        if other[0] < one[1] - _TOLERANCE:
            return (other[0], min(one[1], other[1]))
    return None
