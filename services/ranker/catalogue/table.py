"""Columns of one entity type. A table never changes: a change yields a new table.

Readers keep the table they took for a whole micro-batch. Dictionaries of ids, strings and lists
only grow and are shared between the versions of a table; a version reads them up to its own length.
A dictionary of lists is made anew when most of it is out of use.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

import numpy as np

from services.common.errors import FailedPrecondition
from services.ranker.arrays import (
    BoolArray,
    ByteArray,
    Float32Array,
    Int32Array,
    Int64Array,
    UInt64Array,
)
from services.ranker.catalogue.pools import ListPool, StringPool
from services.ranker.feature_rows import PRESENT, FeatureRows, View

_SPARE_LISTS = 1024

Value = TypeVar("Value")


class _Pool(Protocol[Value]):
    @property
    def values(self) -> list[Value]: ...


DTYPES = ("float32", "int64", "string", "list")
"""Columns that a table keeps, in the order of their statuses; vectors come after them."""


@dataclass(frozen=True)
class EntityTable:
    """n entities of one type; an entity keeps its slot (row) for the life of the table.

    ``alive`` bool [n] is false for withdrawn entities. ``floats`` float32 [n, F], ``ints`` int64
    [n, I], ``codes`` int32 [n, S] (into ``pools``) and ``list_codes`` int32 [n, L] (into
    ``list_pools``) follow the view's columns; ``present`` bool [n, F + I + S + L] says which values
    are there, the rest carry the default. ``repaired`` bool [n] marks rows in which a value was not
    finite and was replaced by its default. ``tie`` uint64 [n] is a hash of the id that orders equal
    values the same way in every process. ``changed_at`` int64 [n] is the number of the change that
    touched a row last.
    """

    entity: str
    view: View
    ids: list[str]
    slot_of: dict[str, int]
    alive: BoolArray
    floats: Float32Array
    ints: Int64Array
    codes: Int32Array
    list_codes: Int32Array
    present: BoolArray
    repaired: BoolArray
    tie: UInt64Array
    changed_at: Int64Array
    pools: tuple[StringPool, ...]
    list_pools: tuple[ListPool, ...]

    @classmethod
    def empty(cls, entity: str, view: View) -> EntityTable:
        """A table without rows."""
        floats, ints, strings, lists = (len(view.of(dtype)) for dtype in DTYPES)
        return cls(
            entity=entity,
            view=view,
            ids=[],
            slot_of={},
            alive=np.zeros(0, np.bool_),
            floats=np.zeros((0, floats), np.float32),
            ints=np.zeros((0, ints), np.int64),
            codes=np.zeros((0, strings), np.int32),
            list_codes=np.zeros((0, lists), np.int32),
            present=np.zeros((0, floats + ints + strings + lists), np.bool_),
            repaired=np.zeros(0, np.bool_),
            tie=np.zeros(0, np.uint64),
            changed_at=np.zeros(0, np.int64),
            pools=tuple(StringPool() for _ in range(strings)),
            list_pools=tuple(ListPool() for _ in range(lists)),
        )

    def __len__(self) -> int:
        return len(self.alive)

    def has(self, id_: str) -> bool:
        """Whether an entity is there and not withdrawn."""
        slot = self.slot_of.get(id_, len(self))
        # Dictionaries are shared with newer versions, which may know more ids.
        return slot < len(self) and bool(self.alive[slot])

    def numeric(self, name: str) -> Float32Array | Int64Array | None:
        """A numeric column [n] in its own dtype; None when the view has none of that name."""
        if name in (names := self.view.of("float32")):
            return self.floats[:, names.index(name)]
        if name in (names := self.view.of("int64")):
            return self.ints[:, names.index(name)]
        return None

    def strings(self, name: str) -> tuple[Int32Array, StringPool] | None:
        """Codes [n] of a string column and their pool; None when the view has none."""
        names = self.view.of("string")
        if name not in names:
            return None
        at = names.index(name)
        return self.codes[:, at], self.pools[at]

    def lists(self, name: str) -> tuple[Int32Array, ListPool] | None:
        """Codes [n] of a column of string lists and their pool; None when the view has none."""
        names = self.view.of("list")
        if name not in names:
            return None
        at = names.index(name)
        return self.list_codes[:, at], self.list_pools[at]

    def present_of(self, name: str) -> BoolArray:
        """Which rows have a value in a column, bool [n]; none when the view has no such column."""
        names = tuple(name for dtype in DTYPES for name in self.view.of(dtype))
        if name not in names:
            return np.zeros(len(self), np.bool_)
        return self.present[:, names.index(name)]

    def changed(
        self, upserts: Sequence[FeatureRows], tombstones: Sequence[str], number: int
    ) -> EntityTable:
        """The table after the change ``number``, which is above that of every earlier change.

        Of several rows for one id the last counts. Raises ``FailedPrecondition`` when the rows do
        not have the view's columns.
        """
        for rows in upserts:
            self._require_columns(rows)
        slots = [self._slots(rows.ids) for rows in upserts]
        gone = [self.slot_of[id_] for id_ in tombstones if id_ in self.slot_of]
        grown = _grow(self, len(self.ids))
        for rows, at in zip(upserts, slots, strict=True):
            _write(grown, rows, at)
            grown.changed_at[at] = number
        grown.alive[gone] = False
        grown.changed_at[gone] = number
        return _without_unused_lists(grown)

    def only(self, slots: Int64Array) -> EntityTable:
        """A table of its own of the rows at different ``slots`` [m], in their order."""
        coded = [_pooled(self.codes[slots, at], pool) for at, pool in enumerate(self.pools)]
        lists = [
            _pooled(self.list_codes[slots, at], pool) for at, pool in enumerate(self.list_pools)
        ]
        ids = [self.ids[slot] for slot in slots.tolist()]
        return replace(
            self,
            ids=ids,
            slot_of={id_: slot for slot, id_ in enumerate(ids)},
            alive=self.alive[slots],
            floats=self.floats[slots],
            ints=self.ints[slots],
            codes=_columns([codes for codes, _ in coded], len(slots)),
            list_codes=_columns([codes for codes, _ in lists], len(slots)),
            present=self.present[slots],
            repaired=self.repaired[slots],
            tie=self.tie[slots],
            changed_at=self.changed_at[slots],
            pools=tuple(StringPool(values) for _, values in coded),
            list_pools=tuple(ListPool(values) for _, values in lists),
        )

    def _slots(self, ids: Sequence[str]) -> Int64Array:
        slots = np.empty(len(ids), np.int64)
        for row, id_ in enumerate(ids):
            slot = self.slot_of.get(id_)
            if slot is None:
                slot = len(self.ids)
                self.ids.append(id_)
                self.slot_of[id_] = slot
            slots[row] = slot
        return slots

    def _require_columns(self, rows: FeatureRows) -> None:
        expected = tuple(self.view.of(dtype) for dtype in DTYPES)
        found = (rows.float_names, rows.int_names, rows.string_names, rows.list_names)
        if expected != found:
            raise FailedPrecondition(
                f"rows of {self.entity} have columns {found}, view {self.view.name} has {expected}"
            )


def _pooled(codes: Int32Array, pool: _Pool[Value]) -> tuple[Int64Array, list[Value]]:
    """Codes [m] into a dictionary of what they use alone, code 0 aside, and that dictionary."""
    used = np.union1d([0], codes)
    return np.searchsorted(used, codes), [pool.values[code] for code in used.tolist()]


def _columns(columns: Sequence[Int64Array], rows: int) -> Int32Array:
    """Columns [rows] side by side, int32 [rows, columns]."""
    side_by_side = np.zeros((rows, len(columns)), np.int32)
    for at, column in enumerate(columns):
        side_by_side[:, at] = column
    return side_by_side


def _grow(table: EntityTable, size: int) -> EntityTable:
    """A copy of the table with room for ``size`` rows, the new ones neither alive nor present."""
    extra = size - len(table)

    def flat(values: BoolArray) -> BoolArray:
        return np.concatenate([values, np.zeros(extra, np.bool_)])

    return replace(
        table,
        alive=flat(table.alive),
        repaired=flat(table.repaired),
        tie=np.concatenate([table.tie, _ties(table.ids[len(table) : size])]),
        changed_at=np.pad(table.changed_at, (0, extra)),
        floats=np.pad(table.floats, ((0, extra), (0, 0))),
        ints=np.pad(table.ints, ((0, extra), (0, 0))),
        codes=np.pad(table.codes, ((0, extra), (0, 0))),
        list_codes=np.pad(table.list_codes, ((0, extra), (0, 0))),
        present=np.pad(table.present, ((0, extra), (0, 0))),
    )


def _ties(ids: Sequence[str]) -> UInt64Array:
    digests = (hashlib.blake2b(id_.encode(), digest_size=8).digest() for id_ in ids)
    return np.frombuffer(b"".join(digests), "<u8").astype(np.uint64)


def _write(table: EntityTable, rows: FeatureRows, slots: Int64Array) -> None:
    floats = np.array(rows.floats, np.float32)
    finite = np.isfinite(floats)
    if not finite.all():
        defaults = _float_defaults(table.view)
        floats = np.where(finite, floats, defaults)
    table.alive[slots] = True
    table.repaired[slots] = ~finite.all(axis=1)
    table.floats[slots] = floats
    table.ints[slots] = rows.ints
    width = len(rows.string_names)
    for at, pool in enumerate(table.pools):
        table.codes[slots, at] = pool.codes(rows.strings[at::width])
    lists = len(rows.list_names)
    for at, list_pool in enumerate(table.list_pools):
        starts, ends = rows.list_offsets[:-1][at::lists], rows.list_offsets[1:][at::lists]
        table.list_codes[slots, at] = [
            list_pool.code(tuple(rows.list_values[start:end]))
            for start, end in zip(starts.tolist(), ends.tolist(), strict=True)
        ]
    table.present[slots] = _present(rows, table.present.shape[1])


def _without_unused_lists(table: EntityTable) -> EntityTable:
    """The table with new pools in place of those that hold far more lists than it has rows: lists
    that move leave their earlier values behind. Earlier tables keep the pools they have."""
    pools = list(table.list_pools)
    for at, pool in enumerate(pools):
        if len(pool.values) > 2 * len(table) + _SPARE_LISTS:
            codes = table.list_codes[:, at]
            used = np.union1d([0], codes)
            pools[at] = ListPool(pool.values[code] for code in used.tolist())
            table.list_codes[:, at] = np.searchsorted(used, codes)
    return replace(table, list_pools=tuple(pools))


def _present(rows: FeatureRows, width: int) -> BoolArray:
    if rows.statuses.size == 0:
        return np.ones((len(rows.ids), width), np.bool_)
    statuses: ByteArray = rows.statuses
    present: BoolArray = statuses[:, :width] == PRESENT
    return present


def _float_defaults(view: View) -> Float32Array:
    values = [column.default for column in view.columns if column.dtype == "float32"]
    return np.array([v if isinstance(v, int | float) else 0.0 for v in values], np.float32)
