"""The filters a surface can name. A filter is bound to a table once, then asked for many requests.

``keep`` takes slots int64 [n], the user's lists by feature name, and now in epoch milliseconds,
and returns bool [n]. A filter whose ``of_item`` is true looks at the item and the clock only, so
sources can leave out what it would remove.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.ranker.catalogue.table import EntityTable
from services.ranker.types import BoolArray, Int64Array

UserLists = Callable[[str], Sequence[str]]
"""Values of one of the user's list features; empty when the feature is not known."""


class BoundFilter(Protocol):
    """A filter over one version of a table."""

    def keep(self, slots: Int64Array, lists: UserLists, now_ms: int) -> BoolArray:
        """Which of the slots may be shown, bool [n]."""


class Filter(Protocol):
    """A configured filter."""

    @property
    def reason(self) -> str:
        """Why it removes, for counters and explanations."""

    @property
    def of_item(self) -> bool:
        """Whether it ignores the user."""

    def bind(self, table: EntityTable) -> BoundFilter:
        """The filter over one version of a table."""


@dataclass(frozen=True)
class _Mask:
    allowed: BoolArray

    def keep(self, slots: Int64Array, lists: UserLists, now_ms: int) -> BoolArray:
        del lists, now_ms
        return self.allowed[slots]


@dataclass(frozen=True)
class Require:
    """Keeps items whose boolean attribute is true; a missing value is removed."""

    attribute: str
    of_item = True

    @property
    def reason(self) -> str:
        return f"require:{self.attribute}"

    def bind(self, table: EntityTable) -> BoundFilter:
        values = table.numeric(self.attribute)
        if values is None:
            return _Mask(np.zeros(len(table), np.bool_))
        return _Mask((values != 0) & table.present_of(self.attribute))


@dataclass(frozen=True)
class Exclude:
    """Removes items whose boolean attribute is true; a missing value is kept."""

    attribute: str
    of_item = True

    @property
    def reason(self) -> str:
        return f"exclude:{self.attribute}"

    def bind(self, table: EntityTable) -> BoundFilter:
        values = table.numeric(self.attribute)
        if values is None:
            return _Mask(np.ones(len(table), np.bool_))
        return _Mask((values == 0) | ~table.present_of(self.attribute))


@dataclass(frozen=True)
class Positive:
    """Keeps items whose number is above zero; a missing value is kept."""

    attribute: str
    of_item = True

    @property
    def reason(self) -> str:
        return f"positive:{self.attribute}"

    def bind(self, table: EntityTable) -> BoundFilter:
        values = table.numeric(self.attribute)
        if values is None:
            return _Mask(np.ones(len(table), np.bool_))
        return _Mask((values > 0) | ~table.present_of(self.attribute))


@dataclass(frozen=True)
class _BoundWindow:
    opens_ms: Int64Array
    closes_ms: Int64Array

    def keep(self, slots: Int64Array, lists: UserLists, now_ms: int) -> BoolArray:
        del lists
        opened: BoolArray = self.opens_ms[slots] <= now_ms
        return opened & (now_ms < self.closes_ms[slots])


@dataclass(frozen=True)
class OpenWindow:
    """Keeps items while opens <= now < closes (epoch ms); a missing bound is open."""

    opens: str
    closes: str
    of_item = True

    @property
    def reason(self) -> str:
        return f"open_window:{self.opens}"

    def bind(self, table: EntityTable) -> BoundFilter:
        limits = np.iinfo(np.int64)
        return _BoundWindow(
            _bound(table, self.opens, int(limits.min)), _bound(table, self.closes, int(limits.max))
        )


def _bound(table: EntityTable, attribute: str, missing: int) -> Int64Array:
    values = table.numeric(attribute)
    if values is None:
        return np.full(len(table), missing, np.int64)
    return np.where(table.present_of(attribute), values.astype(np.int64), missing)


@dataclass(frozen=True)
class _BoundList:
    feature: str
    codes: Int64Array | None
    known: Callable[[Sequence[str]], list[int]]

    def keep(self, slots: Int64Array, lists: UserLists, now_ms: int) -> BoolArray:
        del now_ms
        listed = self.known(lists(self.feature))
        if not listed:
            return np.ones(len(slots), np.bool_)
        values = slots if self.codes is None else self.codes[slots]
        return np.isin(values, listed, invert=True)


@dataclass(frozen=True)
class NotInList:
    """Removes items whose attribute ("id": their own id) is in the user's list feature.

    An item without a value, and a user without the list, are kept.
    """

    feature: str
    attribute: str = "id"
    of_item = False

    @property
    def reason(self) -> str:
        return f"not_in_list:{self.feature}"

    def bind(self, table: EntityTable) -> BoundFilter:
        if self.attribute == "id":
            slot_of = table.slot_of
            return _BoundList(
                self.feature, None, lambda ids: [slot_of[id_] for id_ in ids if id_ in slot_of]
            )
        column = table.strings(self.attribute)
        if column is None:
            return _Mask(np.ones(len(table), np.bool_))
        codes, pool = column
        return _BoundList(self.feature, codes.astype(np.int64), pool.known)
