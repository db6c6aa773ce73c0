"""The k best items under caps, in an order that every process agrees on."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np

from services.ranker.arrays import Float32Array, Float64Array, Int64Array, UInt64Array
from services.ranker.selection.caps import Caps, CapTally, Taken, counts_of

POLICY = "top_k"


def order(values: Float32Array | Float64Array, tie: UInt64Array) -> Int64Array:
    """Indices of values [N] from the highest; equal values by ``tie`` [N] from the lowest."""
    descending = -values
    ranked = np.argsort(descending)
    in_order = descending[ranked]
    if (in_order[1:] > in_order[:-1]).all():
        return ranked
    # Some are equal, or not a number.
    return np.lexsort((tie, descending))


def top_k(
    values: Float32Array | Float64Array,
    tie: UInt64Array,
    k: int,
    caps: Caps = (),
    fixed: Mapping[int, int] | None = None,
    taken: Taken = (),
) -> Int64Array:
    """Indices of the at most ``k`` best of values [N], best first.

    Of one code of a cap at most ``limit`` items are taken, in order of value. ``fixed``: candidates
    by the position, below k, that is theirs; together they keep the caps, and count for them, as
    does what was ``taken`` beforehand. Where that leaves fewer than there are, the caps count what
    this slate holds alone: no page is short because of the ones before it.
    """
    best = _top_k(values, tie, k, caps, fixed, taken)
    if taken and len(best) < min(k, len(values)):
        return _top_k(values, tie, k, caps, dict(enumerate(best.tolist())), ())
    return best


def _top_k(
    values: Float32Array | Float64Array,
    tie: UInt64Array,
    k: int,
    caps: Caps,
    fixed: Mapping[int, int] | None,
    taken: Taken,
) -> Int64Array:
    ranked = order(values, tie)
    if fixed:
        tally = CapTally(caps, taken)
        for index in fixed.values():
            tally.take(index)
        reserved = frozenset(fixed.values())
        chosen = _admitted(ranked, k - len(fixed), caps, tally.counts(), reserved)
        return np.array(placed(chosen, fixed, k), np.int64)
    if not caps:
        return ranked[:k]
    return np.array(_admitted(ranked, k, caps, counts_of(caps, taken), ()), np.int64)


def placed(chosen: Iterable[int], fixed: Mapping[int, int], k: int) -> list[int]:
    """At most ``k`` items: the fixed at their positions, the chosen, in order, at the others.

    Where the chosen run out, what is fixed further down closes up.
    """
    slate: list[int] = []
    rest = iter(chosen)
    for position in range(k):
        index = fixed.get(position)
        if index is None:
            index = next(rest, None)
        if index is None:
            later = sorted(at for at in fixed if at > position)
            return slate + [fixed[at] for at in later]
        slate.append(index)
    return slate


def _admitted(
    ranked: Int64Array,
    k: int,
    caps: Caps,
    counts: Sequence[dict[int, int]],
    reserved: Collection[int],
) -> list[int]:
    taken: list[int] = []
    if k <= 0:
        return taken
    # The slate is nearly always full long before the end: only a window becomes Python numbers.
    window = 4 * k
    for start in range(0, len(ranked), window):
        some = ranked[start : start + window]
        columns = [(codes[some].tolist(), limit) for codes, limit in caps]
        for place, index in enumerate(some.tolist()):
            if index not in reserved and _admit(columns, counts, place):
                taken.append(index)
                if len(taken) == k:
                    return taken
    return taken


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
