"""Joins what the sources of a surface yielded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.ranker.types import ByteArray, Int64Array


def merge(
    found: Sequence[Int64Array],
    quotas: Sequence[int],
    rows: int,
    limit: int,
    scratch: ByteArray | None = None,
) -> tuple[Int64Array, ByteArray]:
    """Slots without repetition, and the number of the source that yielded each first.

    ``found[s]`` int64 are the distinct slots (below ``rows``) of source s, best first. Of more than
    ``limit`` the best of each source are kept, as ``kept_sizes`` shares the room out. Returns
    (slots int64 [N], sources uint8 [N]). ``scratch`` uint8 [rows] holds zeros and is handed back
    so; without it one is made.
    """
    if len(found) == 1:
        slots = found[0][:limit]
        return slots, np.zeros(len(slots), np.uint8)
    seen = np.zeros(rows, np.uint8) if scratch is None else scratch
    parts: list[Int64Array] = []
    for slots in found:
        fresh = slots[seen[slots] == 0]
        seen[fresh] = 1
        parts.append(fresh)
    joined = np.concatenate(parts)
    seen[joined] = 0
    sizes = [len(part) for part in parts]
    if len(joined) > limit:
        sizes = kept_sizes(sizes, quotas, limit)
        joined = np.concatenate([part[:size] for part, size in zip(parts, sizes, strict=True)])
    return joined, np.repeat(np.arange(len(parts), dtype=np.uint8), sizes)


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
