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
    ``limit`` each source's best are kept up to its quota's share of the limit, one at least,
    whoever yielded them too; what is left of the room goes to the others, source by source in their
    order. Returns (slots int64 [N], sources uint8 [N]). ``scratch`` int32 [rows] may hold anything
    before and after; without it one is made.
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
    sizes = [len(slots) for slots in found]
    origin = np.repeat(np.arange(len(found), dtype=np.uint8), sizes)
    if np.count_nonzero(fresh) > limit:
        total = sum(quotas)
        shares = np.array([max(1, limit * quota // total) for quota in quotas])
        shares[shares.argmax()] -= max(0, int(shares.sum()) - limit)
        rank = place - np.repeat(np.cumsum(sizes) - sizes, sizes)
        kept = np.zeros(len(joined), np.bool_)
        kept[first_place[joined[rank < shares[origin]]]] = True
        places = np.concatenate([np.flatnonzero(kept), np.flatnonzero(fresh & ~kept)])[:limit]
        places.sort()
        return joined[places], origin[places]
    return joined[fresh], origin[fresh]
