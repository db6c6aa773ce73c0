"""Items by what they have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from services.ranker.arrays import BoolArray, Float32Array, Int64Array, UInt64Array
from services.ranker.sources.base import Ground


@dataclass(frozen=True)
class Groups:
    """Slots by group, best first: group g has ``slots[starts[g]:starts[g + 1]]``, int64."""

    starts: Int64Array
    slots: Int64Array

    @classmethod
    def of(
        cls,
        group: Int64Array,
        groups: int,
        eligible: BoolArray,
        values: Float32Array | Int64Array,
        tie: UInt64Array,
    ) -> Groups:
        """Groups the ``eligible`` of n items by ``group`` [n] (0 to ``groups`` - 1; -1: in none).

        Within a group the highest of ``values`` [n] is first, equal ones by ``tie`` [n].
        """
        slots = np.flatnonzero(eligible & (group >= 0))
        keys = (tie[slots], _descending(values[slots]), _narrow(group[slots]))
        slots = slots[np.lexsort(keys)]
        starts = np.zeros(groups + 1, np.int64)
        np.cumsum(np.bincount(group[slots], minlength=groups), out=starts[1:])
        return cls(starts, slots)

    def head(self, group: int, limit: int) -> list[int]:
        """The first ``limit`` slots of a group; none of one that is beyond the last."""
        if group + 1 >= len(self.starts):
            return []
        start, end = int(self.starts[group]), int(self.starts[group + 1])
        found: list[int] = self.slots[start : min(end, start + limit)].tolist()
        return found

    def heads(self, groups: Int64Array, limit: int) -> tuple[Int64Array, Int64Array]:
        """The first ``limit`` slots of each of groups [m], and the place of each slot's group among
        them, int64 [found]; none of a group that is below 0 or beyond the last."""
        known = np.flatnonzero((groups >= 0) & (groups < len(self.starts) - 1))
        begins = self.starts[groups[known]]
        sizes = np.minimum(self.starts[groups[known] + 1] - begins, limit)
        ends = np.cumsum(sizes)
        at = np.repeat(begins - ends + sizes, sizes) + np.arange(ends[-1] if len(ends) else 0)
        return self.slots[at], np.repeat(known, sizes)


@dataclass(frozen=True)
class Named:
    """Items by the text that an attribute holds, "id" being their own id.

    ``code`` is the group of a text; None of an unknown one.
    """

    groups: Groups
    code: Callable[[str], int | None]

    def heads(self, texts: Sequence[str], limit: int) -> list[list[int]]:
        """The first ``limit`` slots of each text that has any, of at most ``limit`` texts."""
        found: list[list[int]] = []
        for text in texts:
            code = self.code(text)
            slots = [] if code is None else self.groups.head(code, limit)
            if slots:
                found.append(slots)
                if len(found) == limit:
                    break
        return found

    def firsts(self, lists: Sequence[Sequence[str]], limit: int) -> list[Int64Array]:
        """For each list of texts the slots of its first text, then those of the second, and so on,
        int64: the first ``limit`` of them all."""
        codes = [-1 if code is None else code for texts in lists for code in map(self.code, texts)]
        slots, place = self.groups.heads(np.array(codes, np.int64), limit)
        ends = np.searchsorted(place, np.cumsum([0, *map(len, lists)])).tolist()
        return [slots[start:end][:limit] for start, end in pairwise(ends)]


def named(ground: Ground, attribute: str, order_by: str | None = None) -> Named:
    """The eligible items by an attribute; within one text by ``order_by``, highest first."""
    table, eligible = ground.table, ground.eligible
    if attribute == "id":
        own = ground.reuse.get(("by_id",), (eligible,), lambda: _each_alone(eligible))
        return Named(own, table.slot_of.get)
    column = table.strings(attribute)
    if column is None:
        return Named(_each_alone(eligible[:0]), lambda _: None)
    codes, pool = column
    values = ground.order(order_by)

    def make() -> Groups:
        # Code 0 stands for a missing value.
        group = np.where(codes > 0, codes, -1).astype(np.int64)
        return Groups.of(group, int(codes.max(initial=0)) + 1, eligible, values, table.tie)

    inputs = (eligible, codes, values)
    return Named(ground.reuse.get(("named", attribute, order_by), inputs, make), pool.code_of)


def in_turns(lists: Sequence[Sequence[int]]) -> list[int]:
    """The first of each list, then the second ones, and so on."""
    if len(lists) == 1:
        return list(lists[0])
    longest = max(map(len, lists), default=0)
    return [found[n] for n in range(longest) for found in lists if n < len(found)]


def _descending(values: Float32Array | Int64Array) -> npt.NDArray[Any]:
    """Keys that sort values [n], highest first; what is not a number counts as the lowest."""
    if np.issubdtype(values.dtype, np.integer):
        # The complement reverses the order of integers and, unlike the negative, always exists.
        return _narrow(~values.astype(np.int64))
    return -np.nan_to_num(values.astype(np.float64), nan=-np.inf, neginf=-np.inf)


def _narrow(keys: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The same order of integers [n] in 16 bits where they fit: those are sorted by radix."""
    if not len(keys):
        return keys
    low, high = int(keys.min()), int(keys.max())
    return (keys - low).astype(np.uint16) if high - low < 1 << 16 else keys


def _each_alone(eligible: BoolArray) -> Groups:
    starts = np.zeros(len(eligible) + 1, np.int64)
    np.cumsum(eligible, out=starts[1:])
    return Groups(starts, np.flatnonzero(eligible))
