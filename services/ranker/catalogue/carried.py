"""What items carry of another item that they name: a room, the course that it sells now.

Tables of the replica hold what the feature service says of each item. Here the columns that an
entity type carries are joined to its own, anew whenever either side changes: from then on filters,
selection, margins and the models read them as they read any other column.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from services.ranker.arrays import BoolArray, Int64Array
from services.ranker.catalogue.table import DTYPES, EntityTable
from services.ranker.feature_rows import ViewColumn


@dataclass(frozen=True, slots=True)
class Carry:
    """Items carry ``features`` of the ``entity`` whose id is in their string column ``by``."""

    by: str
    entity: str
    features: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Joined:
    """A table as it was joined: what it was made of, and ``rows`` int64 [values of ``by``], the row
    of the other table that each value names, -1 for none."""

    own: EntityTable
    other: EntityTable
    rows: Int64Array
    table: EntityTable


class CarriedTables:
    """Tables by entity type, with what their items carry; ``before``: those of an earlier version
    of the same catalogue, whose joins are used again."""

    def __init__(
        self,
        carries: Mapping[str, Carry],
        tables: Mapping[str, EntityTable],
        before: CarriedTables | None = None,
    ) -> None:
        self._joined: dict[str, _Joined] = {
            entity: _joined(
                tables[entity],
                tables[carry.entity],
                carry,
                None if before is None else before._joined.get(entity),
            )
            for entity, carry in carries.items()
            if entity in tables and carry.entity in tables
        }
        joined = {entity: found.table for entity, found in self._joined.items()}
        self.by_entity: Mapping[str, EntityTable] = {**tables, **joined}


def _joined(own: EntityTable, other: EntityTable, carry: Carry, before: _Joined | None) -> _Joined:
    if before is not None and before.own is own and before.other is other:
        return before
    rows = _rows_named(own, other, carry.by, None if before is None else before.rows)
    column = own.strings(carry.by)
    codes = np.zeros(len(own), np.int32) if column is None else column[0]
    return _Joined(own, other, rows, carrying(own, other, rows[codes], carry.features))


def _rows_named(
    own: EntityTable, other: EntityTable, by: str, before: Int64Array | None
) -> Int64Array:
    """Row of ``other`` that each value of the column ``by`` names, by its code; -1 for none.

    Codes stay what they are, and so do rows: only values that are new, or named nothing before,
    are looked up.
    """
    column = own.strings(by)
    values = [""] if column is None else column[1].values
    count = len(values)
    rows = np.full(count, -1, np.int64)
    if before is not None:
        rows[: len(before)] = before
    for code in np.flatnonzero(rows < 0).tolist():
        # A newer version of the table, which shares its dictionary, may know more ids.
        row = other.slot_of.get(values[code], -1)
        rows[code] = row if row < len(other) else -1
    return rows


def carrying(
    own: EntityTable, other: EntityTable, rows: Int64Array, features: tuple[str, ...]
) -> EntityTable:
    """``own`` with the columns ``features`` of ``other``; ``rows`` [n] says of which row, -1 of
    none. What a row that is withdrawn says is not carried: the values are missing then.

    A row counts as changed when either side did. Features that ``other`` lacks, and those that
    ``own`` has itself, are left out.
    """
    mine = {column.name for column in own.view.columns}
    added = [c for c in other.view.columns if c.name in features and c.name not in mine]
    linked = rows >= 0
    # One row more than the other table has stands for nothing: defaults, not present.
    alive, moved = np.append(other.alive, False), np.append(other.changed_at, 0)
    broken = np.append(other.repaired, False)
    there = np.where(linked & alive[rows], rows, len(other))
    taken = {dtype: _Taken.of(other, added, dtype, there) for dtype in DTYPES}
    return replace(
        own,
        view=replace(own.view, columns=(*own.view.columns, *added)),
        floats=np.hstack([own.floats, taken["float32"].values.astype(np.float32)]),
        ints=np.hstack([own.ints, taken["int64"].values.astype(np.int64)]),
        codes=np.hstack([own.codes, taken["string"].values.astype(np.int32)]),
        list_codes=np.hstack([own.list_codes, taken["list"].values.astype(np.int32)]),
        present=_present(own, taken),
        repaired=own.repaired | broken[there],
        changed_at=np.maximum(own.changed_at, np.where(linked, moved[rows], 0)),
        pools=(*own.pools, *(other.pools[at] for at in taken["string"].places)),
        list_pools=(*own.list_pools, *(other.list_pools[at] for at in taken["list"].places)),
    )


@dataclass(frozen=True, slots=True)
class _Taken:
    """Columns of one dtype: their ``places`` in the other table, ``values`` and ``present`` [n, C]
    by row of the joined one."""

    places: list[int]
    values: npt.NDArray[np.generic]
    present: BoolArray

    @classmethod
    def of(
        cls, other: EntityTable, added: Sequence[ViewColumn], dtype: str, there: Int64Array
    ) -> _Taken:
        """``there`` [n]: rows of ``other``, its length for nothing."""
        columns = [column for column in added if column.dtype == dtype]
        names = other.view.of(dtype)
        places = [names.index(column.name) for column in columns]
        by_dtype: dict[str, npt.NDArray[Any]] = {
            "float32": other.floats,
            "int64": other.ints,
            "string": other.codes,
            "list": other.list_codes,
        }
        held = by_dtype[dtype]
        # Code 0 is the empty string, or list: it stands for a missing one.
        defaults = [c.default if dtype in ("float32", "int64") else 0 for c in columns]
        nothing = np.array(defaults, held.dtype).reshape(1, len(columns))
        before = sum(len(other.view.of(kind)) for kind in DTYPES[: DTYPES.index(dtype)])
        present = other.present[:, [before + place for place in places]]
        known = np.vstack([present, np.zeros((1, len(columns)), np.bool_)])
        return cls(places, np.vstack([held[:, places], nothing])[there], known[there])


def _present(own: EntityTable, taken: Mapping[str, _Taken]) -> BoolArray:
    """Own columns and those taken, dtype after dtype."""
    parts: list[BoolArray] = []
    end = 0
    for dtype in DTYPES:
        start, end = end, end + len(own.view.of(dtype))
        parts += [own.present[:, start:end], taken[dtype].present]
    return np.hstack(parts)
