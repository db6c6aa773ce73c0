"""What a filter is, and those that look at the item, the clock and the user's lists.

A filter is bound to a table once, then asked for many requests. One whose ``of_item`` is true looks
at the item and the clock only, so sources can leave out what it would remove.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from services.ranker.arrays import BoolArray, Int64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.filters.asking import Asking


class BoundFilter(Protocol):
    """A filter over one version of a table."""

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        """Which of the slots [n] may be shown to who asks, bool [n]."""


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
class Mask:
    """Answers the same to everybody: ``allowed`` bool [rows of the table]."""

    allowed: BoolArray

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        del asking
        return self.allowed[slots]


def mask_of_all(table: EntityTable, allowed: bool) -> Mask:
    """Lets every item of a table through, or none."""
    return Mask(np.full(len(table), allowed))


@dataclass(frozen=True)
class Require:
    """Keeps items whose boolean attribute is true; a missing value is removed."""

    attribute: str
    of_item = True

    @property
    def reason(self) -> str:
        return f"require:{self.attribute}"

    def bind(self, table: EntityTable) -> BoundFilter:
        return Mask(_flag(table, self.attribute))


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
            return mask_of_all(table, True)
        return Mask((values == 0) | ~table.present_of(self.attribute))


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
            return mask_of_all(table, True)
        return Mask((values > 0) | ~table.present_of(self.attribute))


@dataclass(frozen=True)
class _BoundWindow:
    opens_ms: Int64Array
    closes_ms: Int64Array

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        opened: BoolArray = self.opens_ms[slots] <= asking.now_ms
        return opened & (asking.now_ms < self.closes_ms[slots])


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
class _BoundLiveOrStarting:
    live: BoolArray
    starts_ms: Int64Array
    within_ms: int

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        starts_ms, now_ms = self.starts_ms[slots], asking.now_ms
        soon: BoolArray = (now_ms <= starts_ms) & (starts_ms <= now_ms + self.within_ms)
        return self.live[slots] | soon


@dataclass(frozen=True)
class LiveOrStarting:
    """Keeps rooms that are live, or start (epoch ms) from now on until ``within_ms`` later.

    A room past its start that is not live is late or over, and is removed, as is one of which
    neither is known. One that is live, but lacks the flag ``heard``, does not count as live.
    """

    live: str
    starts: str
    within_ms: int
    heard: str | None = None
    of_item = True

    @property
    def reason(self) -> str:
        return f"live_or_starting:{self.live}"

    def bind(self, table: EntityTable) -> BoundFilter:
        is_live = _flag(table, self.live)
        if self.heard is not None:
            is_live &= _flag(table, self.heard)
        never = int(np.iinfo(np.int64).min)
        return _BoundLiveOrStarting(is_live, _bound(table, self.starts, never), self.within_ms)


@dataclass(frozen=True)
class _BoundHeardWithin:
    silent_ms: Int64Array

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        heard: BoolArray = asking.now_ms <= self.silent_ms[slots]
        return heard


@dataclass(frozen=True)
class HeardWithin:
    """Keeps items last heard of (epoch ms) at most ``within_ms`` ago; a missing time is kept."""

    attribute: str
    within_ms: int
    of_item = True

    @property
    def reason(self) -> str:
        return f"heard_within:{self.attribute}"

    def bind(self, table: EntityTable) -> BoundFilter:
        ever = int(np.iinfo(np.int64).max) - self.within_ms
        heard_ms = np.minimum(_bound(table, self.attribute, ever), ever)
        return _BoundHeardWithin(heard_ms + self.within_ms)


def _flag(table: EntityTable, attribute: str) -> BoolArray:
    """Where a boolean attribute is known to be true, bool [rows of the table]."""
    values = table.numeric(attribute)
    if values is None:
        return np.zeros(len(table), np.bool_)
    true: BoolArray = values != 0
    return true & table.present_of(attribute)


@dataclass(frozen=True)
class _BoundList:
    feature: str
    codes: Int64Array | None
    known: Callable[[Sequence[str]], list[int]]
    times: int = 1

    def keep(self, slots: Int64Array, asking: Asking) -> BoolArray:
        values = asking.list_of(self.feature)
        if self.times > 1:
            values = [value for value, count in Counter(values).items() if count >= self.times]
        listed = self.known(values)
        if not listed:
            return np.ones(len(slots), np.bool_)
        found = slots if self.codes is None else self.codes[slots]
        return np.isin(found, listed, invert=True)


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
        return _bound_list(table, self.feature, self.attribute, 1)


@dataclass(frozen=True)
class Seen:
    """Removes items whose attribute ("id": their own id) is ``times`` times or more in the user's
    list feature. An item without a value, and a user without the list, are kept."""

    feature: str
    attribute: str = "id"
    times: int = 1
    of_item = False

    @property
    def reason(self) -> str:
        return f"seen:{self.feature}"

    def bind(self, table: EntityTable) -> BoundFilter:
        return _bound_list(table, self.feature, self.attribute, self.times)


def _bound_list(table: EntityTable, feature: str, attribute: str, times: int) -> BoundFilter:
    if attribute == "id":
        slot_of = table.slot_of
        return _BoundList(
            feature, None, lambda ids: [slot_of[id_] for id_ in ids if id_ in slot_of], times
        )
    column = table.strings(attribute)
    if column is None:
        return mask_of_all(table, True)
    codes, pool = column
    return _BoundList(feature, codes.astype(np.int64), pool.known, times)
