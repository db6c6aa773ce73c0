"""Joins what the sources of a surface yielded."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.ranker.types import ByteArray, Int64Array


def merge(
    found: Sequence[Int64Array], rows: int, limit: int, scratch: ByteArray | None = None
) -> tuple[Int64Array, ByteArray]:
    """Slots without repetition, and the number of the source that yielded each first.

    ``found[s]`` int64 are the distinct slots (below ``rows``) of source s; at most ``limit`` are
    returned. Returns (slots int64 [N], sources uint8 [N]). ``scratch`` uint8 [rows] holds zeros and
    is handed back so; without it one is made.
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
    origin = np.repeat(np.arange(len(parts), dtype=np.uint8), [len(part) for part in parts])
    return joined[:limit], origin[:limit]
