"""Runs a surface's filters over candidates."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.ranker.arrays import BoolArray, Int64Array
from services.ranker.filters.asking import Asking
from services.ranker.filters.rules import BoundFilter, Filter


@dataclass(frozen=True, slots=True)
class Filtered:
    """Candidates that may be shown, bool [n], and the slots each reason removed.

    An item that several filters would remove counts for the first.
    """

    kept: BoolArray
    removed: Mapping[str, Int64Array]


def apply_filters(
    filters: Sequence[tuple[str, BoundFilter]],
    slots: Int64Array,
    asking: Asking,
) -> Filtered:
    """Asks every (reason, filter) about slots int64 [n], in order."""
    kept = np.ones(len(slots), np.bool_)
    removed: dict[str, Int64Array] = {}
    for reason, rule in filters:
        allowed = rule.keep(slots, asking)
        if not allowed.all():
            newly = kept & ~allowed
            if newly.any():
                earlier = removed.get(reason)
                gone = slots[newly]
                removed[reason] = gone if earlier is None else np.concatenate([earlier, gone])
                kept &= allowed
    return Filtered(kept, removed)


def left_to_ask(
    rules: Sequence[Filter],
    bound: Sequence[tuple[str, BoundFilter]],
    slots: Int64Array,
    now_ms: int,
) -> list[tuple[str, BoundFilter]]:
    """Of filters that are ``bound``, those that requests which found ``slots`` int64 [n] together
    must ask: what looks at the item alone, and keeps all of them, removes nothing of any."""
    nobody = Asking.nobody(now_ms)
    return [
        (reason, rule)
        for declared, (reason, rule) in zip(rules, bound, strict=True)
        if not (declared.of_item and rule.keep(slots, nobody).all())
    ]
