"""Positions that are filled first: pins, then a new item's, then a neglected group's."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np

from services.ranker.arrays import Float64Array, Int64Array
from services.ranker.guarantee import turns
from services.ranker.selection.bound import BoundPin, BoundSelection
from services.ranker.selection.candidates import Candidates, Wanted
from services.ranker.selection.caps import CapTally
from services.ranker.types import Placement


@dataclass
class Fixed:
    """Candidates by position, and why each is there. Together they keep the caps."""

    tally: CapTally
    candidates: dict[int, int] = field(default_factory=dict)
    reasons: dict[int, Placement] = field(default_factory=dict)

    def take_first(self, position: int, wanted: Iterable[int], reason: Placement) -> None:
        """Gives the position to the first of ``wanted`` that is free and within the caps."""
        taken = self.candidates.values()
        for candidate in wanted:
            if candidate not in taken and self.tally.admits(candidate):
                self.tally.take(candidate)
                self.candidates[position] = candidate
                self.reasons[position] = reason
                return


def fixed_positions(
    plan: BoundSelection, found: Candidates, base: Float64Array, wanted: Wanted
) -> Fixed:
    """What is fixed among the slate's positions. ``base`` float64 [N] is what candidates are worth.

    An item that is fixed further down is not placed higher up by its value.
    """
    fixed = Fixed(CapTally(found.caps, found.taken))
    for pin in plan.pins:
        row = wanted.row(pin.position)
        if row is not None:
            fixed.take_first(row, _pinned(pin, found), Placement.PIN)
    new_items, floor = plan.spec.new_items, plan.spec.impression_floor
    row = None if new_items is None else wanted.row(new_items.position)
    if row is not None:
        fixed.take_first(row, _new_items(plan, found, wanted), Placement.NEW_ITEM)
    row = None if floor is None or floor.position is None else wanted.row(floor.position)
    if row is not None:
        fixed.take_first(row, _neglected(plan, found, base), Placement.FLOOR)
    return fixed


def _pinned(pin: BoundPin, found: Candidates) -> list[int]:
    """The item of a pin, or what its source yielded, in that order, whoever yielded it too."""
    if pin.source < 0:
        listed: list[int] = np.flatnonzero(found.slots == pin.slot).tolist()
        return listed
    if not found.yielded:
        return []
    yielded = found.yielded[pin.source]
    rank_of = {slot: rank for rank, slot in enumerate(yielded.tolist())}
    inside = np.flatnonzero(np.isin(found.slots, yielded))
    ranks = [rank_of[slot] for slot in found.slots[inside].tolist()]
    ordered: list[int] = inside[np.argsort(ranks, kind="stable")].tolist()
    return ordered


def _new_items(plan: BoundSelection, found: Candidates, wanted: Wanted) -> list[int]:
    """New items that are behind with what they are guaranteed, in the order of their turns."""
    guarantee = plan.guarantee
    if guarantee is None:
        return []
    new: Int64Array = np.flatnonzero(guarantee.open[found.slots])
    if not len(new):
        return []
    needed = guarantee.needed(found.slots[new], wanted.now_ms)
    seeds = np.array([wanted.turn_seed], np.uint64)
    (order,) = turns(needed, found.tie[new], seeds)
    ranked: list[int] = new[np.argsort(order, kind="stable")[: np.count_nonzero(needed)]].tolist()
    return ranked


def _neglected(plan: BoundSelection, found: Candidates, base: Float64Array) -> list[int]:
    """Items of groups below their floor: the group furthest below first, its best item first."""
    if plan.shortfall is None:
        return []
    short = plan.shortfall[found.slots]
    below: Int64Array = np.flatnonzero(short > 0)
    if not len(below):
        return []
    keys = (found.tie[below], -base[below], -short[below])
    ranked: list[int] = below[np.lexsort(keys)].tolist()
    return ranked
