"""What cross features are made of in examples, for any pairing of their users and items."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from services.common.affinities import Affinities
from services.common.crosses import (
    AffinityCross,
    Cross,
    Entries,
    ListedCross,
    RatioCross,
    listed,
    ratio,
)

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float32]

MOST_CELLS = 1 << 22
"""Numbers that the join of one cross may hold at a time."""


@dataclass(frozen=True)
class _Listed:
    """``codes`` int64 and ``values`` float32 [N, L] of the users' lists, 0 pads; ``items`` int64
    [I] of the items' texts; codes are below ``width``, 0 for none."""

    cross: ListedCross
    codes: IntArray
    values: FloatArray
    items: IntArray
    width: int


@dataclass(frozen=True)
class _Ratio:
    """``user`` float32 [N] and ``item`` float32 [I]."""

    user: FloatArray
    item: FloatArray


@dataclass(frozen=True)
class HistorySides:
    """``histories`` int64 [N, L] of the users, right-aligned, and ``items`` int64 [I], both rows of
    the sequence's vocabulary; ``affinities`` of it."""

    histories: IntArray
    items: IntArray
    affinities: Affinities


@dataclass(frozen=True)
class _Affine:
    """``HistorySides`` under a cross."""

    cross: AffinityCross
    known: HistorySides


@dataclass(frozen=True)
class CrossRows:
    """The users' and the items' sides of the cross features of N examples."""

    sides: tuple[_Listed | _Ratio | _Affine, ...]

    def columns(self, users: IntArray, owner: IntArray, items: IntArray) -> FloatArray:
        """Cross features float32 [n, X] of the items of examples ``items`` [n], each with a user:
        ``owner`` [n] is a row of ``users`` [B], examples again."""
        columns = np.zeros((len(items), len(self.sides)), np.float32)
        for column, side in enumerate(self.sides):
            if isinstance(side, _Ratio):
                columns[:, column] = ratio(side.user[users][owner], side.item[items])
            elif isinstance(side, _Affine):
                known = side.known
                columns[:, column] = known.affinities.of_histories(
                    side.cross, known.histories[users], owner, known.items[items]
                )
            else:
                columns[:, column] = _joined(side, users, owner, items)
        return columns

    def of_items(self, rows: IntArray) -> CrossRows:
        """With items whose rows [I] of the sequence's vocabulary these are, in place of the
        examples' own. Raises ``TypeError`` where a cross reads more of an item."""
        sides = []
        for side in self.sides:
            if not isinstance(side, _Affine):
                raise TypeError("the cross features read more of an item than which it is")
            sides.append(replace(side, known=replace(side.known, items=rows)))
        return CrossRows(tuple(sides))


def read_crosses(
    crosses: Mapping[str, Cross],
    users: pa.Table,
    items: pa.Table | None = None,
    histories: HistorySides | None = None,
) -> CrossRows:
    """The sides of ``crosses``, in their order, from the columns of an examples table; or of one of
    ``users`` and one of ``items``, whose rows are then what ``CrossRows.columns`` names.

    ``histories``: the sides of a cross by affinity. Raises ``ValueError`` where they are needed and
    missing.
    """
    items = users if items is None else items
    return CrossRows(tuple(_side(cross, users, items, histories) for cross in crosses.values()))


def _side(
    cross: Cross, table: pa.Table, items: pa.Table, histories: HistorySides | None
) -> _Listed | _Ratio | _Affine:
    if isinstance(cross, AffinityCross):
        if histories is None:
            raise ValueError("a cross by affinity needs histories")
        return _Affine(cross, histories)
    if isinstance(cross, RatioCross):
        return _Ratio(_numbers(table[f"u.{cross.user}"]), _numbers(items[f"i.{cross.item}"]))
    texts = _whole(items[f"k.{cross.item}"].cast(pa.string()))
    known = pc.unique(texts)
    known = known.filter(pc.and_(pc.is_valid(known), pc.not_equal(known, "")))
    lists = _whole(table[f"l.{cross.ids}"])
    sizes = pc.fill_null(pc.list_value_length(lists), 0).to_numpy(zero_copy_only=False)
    length = int(sizes.max(initial=0))
    codes = _padded(_codes(lists.flatten(), known), sizes, length)
    if cross.values is None:
        values = (codes > 0).astype(np.float32)
    else:
        # As many numbers as a list may hold entries, 0 beyond them.
        numbers = _whole(table[f"v.{cross.values}"])
        flat = numbers.flatten().to_numpy(zero_copy_only=False)
        values = flat.reshape(len(table), len(flat) // max(1, len(table)))[:, :length]
        values = values.astype(np.float32)
    if cross.first is not None:
        codes, values = codes[:, : cross.first], values[:, : cross.first]
    return _Listed(cross, codes, values, _codes(texts, known), len(known) + 1)


def _joined(side: _Listed, users: IntArray, owner: IntArray, items: IntArray) -> FloatArray:
    found = np.full(len(items), side.cross.missing, np.float32)
    at_once = max(1, MOST_CELLS // side.width)
    for first in range(0, len(users), at_once):
        some = users[first : first + at_once]
        chosen = np.flatnonzero((owner >= first) & (owner < first + len(some)))
        row, place = np.nonzero(side.codes[some])
        entries = Entries(row, side.codes[some][row, place], side.values[some][row, place])
        wanted = (owner[chosen] - first) * side.width + side.items[items[chosen]]
        found[chosen] = listed(entries, len(some), side.width, wanted, side.cross.missing)
    return found


def _padded(flat: IntArray, sizes: IntArray, length: int) -> IntArray:
    """Lists one after another as rows [n, length], in their order, 0 after them."""
    rows = np.zeros((len(sizes), length), np.int64)
    rows[np.arange(length)[None, :] < sizes[:, None]] = flat
    return rows


def _codes(texts: pa.Array, known: pa.Array) -> IntArray:
    found = pc.fill_null(pc.index_in(texts, value_set=known), -1)
    codes: IntArray = found.to_numpy(zero_copy_only=False).astype(np.int64) + 1
    return codes


def _numbers(column: pa.ChunkedArray) -> FloatArray:
    numbers: FloatArray = pc.fill_null(column.cast(pa.float32()), 0.0).to_numpy()
    return numbers.astype(np.float32)


def _whole(column: pa.ChunkedArray) -> pa.Array:
    combined = column.combine_chunks()
    return pa.concat_arrays(combined.chunks) if isinstance(combined, pa.ChunkedArray) else combined
