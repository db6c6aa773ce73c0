"""Joins what the sources of a surface yielded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.ranker.arrays import ByteArray, Int32Array, Int64Array


def merge(
    found: Sequence[Int64Array],
    quotas: Sequence[int],
    rows: int,
    limit: int,
    scratch: Int32Array | None = None,
) -> tuple[Int64Array, ByteArray]:
    """Slots without repetition, and the number of the source that yielded each first.

    ``found[s]`` int64 are the distinct slots (below ``rows``) of source s, best first. Of more than
    ``limit`` the best of each source are kept, as ``kept_sizes`` shares the room out. Returns
    (slots int64 [N], sources uint8 [N]). ``scratch`` int32 [rows] may hold anything before and
    after; without it one is made.
    """
    if len(found) == 1:
        slots = found[0][:limit]
        return slots, np.zeros(len(slots), np.uint8)
    joined = np.concatenate(found)
    place = np.arange(len(joined), dtype=np.int32)
    first_place = np.zeros(rows, np.int32) if scratch is None else scratch
    # Of what is assigned to a repeated index the last stays: backwards, the first place.
    first_place[joined[::-1]] = place[::-1]
    fresh = first_place[joined] == place
    origin = np.repeat(np.arange(len(found), dtype=np.uint8), [len(slots) for slots in found])
    joined, origin = joined[fresh], origin[fresh]
    if len(joined) > limit:
        sizes = np.bincount(origin, minlength=len(found))
        kept = np.array(kept_sizes(sizes.tolist(), quotas, limit))
        within = np.arange(len(joined)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        room = within < kept[origin]
        joined, origin = joined[room], origin[room]
    return joined, origin


def kept_sizes(sizes: Sequence[int], quotas: Sequence[int], limit: int) -> list[int]:
    """How many of each source's ``sizes`` items are kept so that they are ``limit`` together.

    Each keeps its quota's share of the limit; what a source does not fill goes to the others, in
    their order.
    """
    total = sum(quotas)
    kept = [min(s, limit * quota // total) for s, quota in zip(sizes, quotas, strict=True)]
    for place, size in enumerate(sizes):
        kept[place] += min(size - kept[place], limit - sum(kept))
    return kept
