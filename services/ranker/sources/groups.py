"""Items by what they have in common, and picking the best of several groups for many requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from services.ranker.sources.base import Ground
from services.ranker.types import BoolArray, Float32Array, Int64Array, UInt64Array


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
        keys = -np.nan_to_num(values[slots].astype(np.float64), nan=-np.inf, neginf=-np.inf)
        slots = slots[np.lexsort((tie[slots], keys, group[slots]))]
        starts = np.zeros(groups + 1, np.int64)
        np.cumsum(np.bincount(group[slots], minlength=groups), out=starts[1:])
        return cls(starts, slots)

    def take(self, groups: Int64Array, limit: int) -> tuple[Int64Array, Int64Array, Int64Array]:
        """The first ``limit`` of each of ``groups`` [m], which may be beyond the last one.

        Returns for each item found its slot, its group's place in ``groups``, and its own in the
        group, int64 [found].
        """
        if not len(groups) or len(self.starts) < 2:
            empty = np.zeros(0, np.int64)
            return empty, empty, empty
        known = (groups >= 0) & (groups < len(self.starts) - 1)
        safe = np.where(known, groups, 0)
        begins = self.starts[safe]
        sizes = np.where(known, np.minimum(self.starts[safe + 1] - begins, limit), 0)
        place = np.repeat(np.arange(len(groups)), sizes)
        rank = np.arange(len(place)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        return self.slots[begins[place] + rank], place, rank


@dataclass(frozen=True)
class Named:
    """Items by the text that an attribute holds, "id" being their own id.

    ``code`` is the group of a text; an unknown one, and one that came after binding, has none.
    """

    groups: Groups
    code: Callable[[str], int | None]

    def codes(self, texts: Sequence[Sequence[str]]) -> tuple[Int64Array, Int64Array]:
        """Groups of the known among B lists of texts, one list after the other, and the number of
        the list each is from, int64 [known]."""
        found = [
            (code, owner)
            for owner, listed in enumerate(texts)
            for text in listed
            if (code := self.code(text)) is not None
        ]
        pairs = np.array(found, np.int64).reshape(-1, 2)
        return pairs[:, 0], pairs[:, 1]


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


def best(
    requests: int,
    owner: Int64Array,
    slots: Int64Array,
    order: Sequence[npt.NDArray[Any]],
    quota: int,
) -> list[Int64Array]:
    """The first ``quota`` of the slots of each owner (0 to ``requests`` - 1), in ascending
    ``order``, the first key counting most. The slots of one owner differ."""
    sorting = np.lexsort((*reversed(order), owner))
    ends = np.searchsorted(owner[sorting], np.arange(requests + 1))
    ordered = slots[sorting]
    return [
        ordered[start : min(end, start + quota)]
        for start, end in zip(ends[:-1].tolist(), ends[1:].tolist(), strict=True)
    ]


def _each_alone(eligible: BoolArray) -> Groups:
    starts = np.zeros(len(eligible) + 1, np.int64)
    np.cumsum(eligible, out=starts[1:])
    return Groups(starts, np.flatnonzero(eligible))
