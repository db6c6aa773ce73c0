"""Items of the category of what the user met last, or of the next level of what was bought."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass
from itertools import islice

import numpy as np

from services.ranker.arrays import Int64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.sources.base import Asked, Ground, Histories
from services.ranker.sources.groups import Groups, in_turns
from services.ranker.sources.similar import Nothing

_ANY_LEVEL = 0


@dataclass(frozen=True)
class SameCategory:
    """Items of the last item's category, at its level and the next; without a level, of any.

    Category and level are columns of the items of histories, which ``attribute`` names ("id": the
    surface ranks them). The best of both levels take turns. The last item is left out.
    """

    name: str
    quota: int
    feature: str
    attribute: str
    category: str
    level: str | None
    order_by: str | None

    def bind(self, ground: Ground) -> BoundCategory | Nothing:
        steps = (0,) if self.level is None else (0, 1)
        return _bound(ground, self, self.level, steps=steps, last=1)


@dataclass(frozen=True)
class ReEngagement:
    """Items of the same category at the next level, for each of the last items of a list feature.

    The whole list is left out: it is what was bought.
    """

    name: str
    quota: int
    feature: str
    attribute: str
    category: str
    level: str
    last: int
    order_by: str | None

    def bind(self, ground: Ground) -> BoundCategory | Nothing:
        return _bound(ground, self, self.level, steps=(1,), last=self.last)


@dataclass(frozen=True)
class _Shelves:
    """Items by category and level. ``group_of``: the group of (category's code, level);
    ``subject`` int64 [n]: the slot of the history's item that an item stands for, -1 for none."""

    groups: Groups
    group_of: Mapping[tuple[int, int], int]
    subject: Int64Array


@dataclass(frozen=True)
class BoundCategory:
    """See ``SameCategory`` and ``ReEngagement``. ``category`` and ``levels`` int64 [m] are those of
    the items of histories; ``steps`` are added to the level of one."""

    source: SameCategory | ReEngagement
    histories: Histories
    shelves: _Shelves
    category: Int64Array
    levels: Int64Array
    steps: Sequence[int]
    last: int

    def ask(self, asked: Asked) -> list[Int64Array]:
        return [self._of(ids) for ids in asked.lists(self.source.feature)]

    def _of(self, ids: Sequence[str]) -> Int64Array:
        quota, known = self.source.quota, len(self.category)
        slot_of = self.histories.table.slot_of
        slots = (slot for id_ in reversed(ids) if (slot := slot_of.get(id_, known)) < known)
        if isinstance(self.source, ReEngagement):
            listed = dict.fromkeys(slots)
            last, left_out = list(islice(listed, self.last)), set(listed)
        else:
            last = list(islice(slots, self.last))
            left_out = set(last)
        groups = dict.fromkeys(group for slot in last for group in self._groups(slot))
        found = [self._head(group, left_out) for group in groups]
        return np.array(in_turns(found)[:quota], np.int64)

    def _head(self, group: int, left_out: Set[int]) -> list[int]:
        """At least the quota's best of a group whose subjects are not left out, if it has them."""
        quota, subject = self.source.quota, self.shelves.subject
        # What is left out may stand before what is wanted; several items may stand for one.
        for most in (quota + len(left_out), len(subject)):
            slots = self.shelves.groups.head(group, most)
            subjects = subject[slots].tolist()
            found = [
                s
                for s, stands_for in zip(slots, subjects, strict=True)
                if stands_for not in left_out
            ]
            if len(found) >= quota or len(slots) < most:
                break
        return found

    def _groups(self, slot: int) -> list[int]:
        """Groups beside an item of a history, in the order of the steps."""
        category, level = int(self.category[slot]), int(self.levels[slot])
        group_of = self.shelves.group_of
        wanted = [(category, level + step) for step in self.steps]
        return [group_of[key] for key in wanted if key in group_of]


def _bound(
    ground: Ground,
    source: SameCategory | ReEngagement,
    level: str | None,
    *,
    steps: Sequence[int],
    last: int,
) -> BoundCategory | Nothing:
    histories = ground.histories
    if histories is None:
        return Nothing()
    category, levels = _shelf(histories.table, source.category, level)
    subject = _subjects(ground, histories, source.attribute)
    values = ground.order(source.order_by)

    def make() -> _Shelves:
        shown = np.flatnonzero(ground.eligible & (subject >= 0))
        shown = shown[category[subject[shown]] > 0]
        heights, height = np.unique(levels[subject[shown]], return_inverse=True)
        shelf = category[subject[shown]] * max(len(heights), 1) + height
        shelves, which = np.unique(shelf, return_inverse=True)
        group = np.full(len(subject), -1, np.int64)
        group[shown] = which
        groups = Groups.of(group, len(shelves), ground.eligible, values, ground.table.tie)
        codes, places = np.divmod(shelves, max(len(heights), 1))
        keys = zip(codes.tolist(), heights[places].tolist(), strict=True)
        return _Shelves(groups, {key: number for number, key in enumerate(keys)}, subject)

    key = ("shelves", source.attribute, source.category, level, source.order_by)
    inputs = (ground.eligible, subject, category, levels, values)
    shelves = ground.reuse.get(key, inputs, make)
    return BoundCategory(source, histories, shelves, category, levels, steps, last)


def _shelf(table: EntityTable, category: str, level: str | None) -> tuple[Int64Array, Int64Array]:
    """Code of the category (0: none) and level of every item of a table, int64 [m]."""
    column = table.strings(category)
    codes = np.zeros(len(table), np.int64) if column is None else column[0].astype(np.int64)
    levels = None if level is None else table.numeric(level)
    if levels is None:
        return codes, np.full(len(table), _ANY_LEVEL, np.int64)
    return codes, levels.astype(np.int64)


def _subjects(ground: Ground, histories: Histories, attribute: str) -> Int64Array:
    """Slot of the history's item that each of n items stands for; -1 where there is none."""
    size, known = len(ground.table), len(histories.table)
    if attribute == "id":
        return np.arange(size)
    column = ground.table.strings(attribute)
    if column is None:
        return np.full(size, -1, np.int64)
    codes, pool = column

    def make() -> Int64Array:
        subject = np.full(size, -1, np.int64)
        shown = np.flatnonzero(ground.eligible & (codes > 0))
        texts, which = np.unique(codes[shown], return_inverse=True)
        slot_of = histories.table.slot_of
        slots = [slot_of.get(pool.values[code], -1) for code in texts.tolist()]
        found = np.array(slots, np.int64)
        subject[shown] = np.where(found < known, found, -1)[which]
        return subject

    return ground.reuse.get(("subjects", attribute), (ground.eligible, codes, known), make)
