"""User rows as they were served last, for when the feature service does not answer.

They stay in memory: nothing is written. Used by one thread.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final, NamedTuple

import numpy as np

from services.ranker.arrays import Int64Array
from services.ranker.catalogue.table import DTYPES
from services.ranker.feature_rows import FeatureRows, View

NOT_FOUND: Final = 3
"""Status byte of a value of an entity that nothing is known of."""


class _Kept(NamedTuple):
    # The row stays where it came: copying each would cost more than it saves.
    rows: FeatureRows
    row: int
    at_s: float


class LastKnownRows:
    """Keeps at least the ``capacity`` rows that came last, at most twice as many, for
    ``max_age_s``."""

    def __init__(
        self, *, capacity: int, max_age_s: float, monotonic_s: Callable[[], float]
    ) -> None:
        self._capacity = capacity
        self._max_age_s = max_age_s
        self._monotonic_s = monotonic_s
        self._recent: dict[tuple[str, str], _Kept] = {}
        self._older: dict[tuple[str, str], _Kept] = {}

    def remember(self, view: View, rows: FeatureRows) -> None:
        """Keeps rows of a view that were just served; rows without its columns are not kept."""
        if not self._capacity or _columns_of(rows) != tuple(map(view.of, DTYPES)):
            return
        at_s = self._monotonic_s()
        for row, identity in enumerate(rows.ids):
            self._recent[view.hash, identity] = _Kept(rows, row, at_s)
        if len(self._recent) >= self._capacity:
            self._recent, self._older = {}, self._recent

    def recall(self, view: View, ids: Sequence[str]) -> tuple[FeatureRows, Int64Array]:
        """Rows of ``ids`` as they were last, and how long ago they were served (ms), int64
        [len(ids)]: -1 where nothing is known, and the row has the view's defaults. The rows say
        neither when nor from which log position they are."""
        found = [self._found(view, identity) for identity in ids]
        now_s = self._monotonic_s()
        ages = [-1 if kept is None else round(1_000 * (now_s - kept.at_s)) for kept in found]
        return _stacked(view, ids, found), np.array(ages, np.int64)

    def _found(self, view: View, identity: str) -> _Kept | None:
        key = (view.hash, identity)
        kept = self._recent.get(key) or self._older.get(key)
        if kept is None or self._monotonic_s() - kept.at_s > self._max_age_s:
            return None
        return kept


def _columns_of(rows: FeatureRows) -> tuple[tuple[str, ...], ...]:
    """Names of the columns of rows, by dtype."""
    return rows.float_names, rows.int_names, rows.string_names, rows.list_names


def _stacked(view: View, ids: Sequence[str], found: Sequence[_Kept | None]) -> FeatureRows:
    float_names, int_names = view.of("float32"), view.of("int64")
    string_names, list_names = view.of("string"), view.of("list")
    names = (*float_names, *int_names, *string_names, *list_names)
    defaults = {column.name: column.default for column in view.columns}
    floats = np.array([[defaults[name] for name in float_names]] * len(ids), np.float32)
    ints = np.array([[defaults[name] for name in int_names]] * len(ids), np.int64)
    statuses = np.full((len(ids), len(names)), NOT_FOUND, np.uint8)
    strings: list[str] = []
    list_values: list[str] = []
    offsets = [0]
    latest = next((kept.rows for kept in found if kept is not None), None)
    vector_names, vector_dims = (
        ((), ()) if latest is None else (latest.vector_names, latest.vector_dims)
    )
    vectors = np.zeros((len(ids), sum(vector_dims)), np.float32)
    for row, kept in enumerate(found):
        if kept is None:
            strings += [str(defaults[name]) for name in string_names]
            offsets += [len(list_values)] * len(list_names)
            continue
        rows, at = kept.rows, kept.row
        floats[row], ints[row] = rows.floats[at], rows.ints[at]
        vectors[row] = rows.vectors[at] if vector_dims else ()
        statuses[row] = rows.statuses[at, : len(names)] if rows.statuses.size else 1
        width = len(string_names)
        strings += rows.strings[at * width : (at + 1) * width]
        for name in list_names:
            list_values += rows.strings_of(at, name)
            offsets.append(len(list_values))
    return FeatureRows(
        ids=ids,
        float_names=float_names,
        floats=floats.reshape(len(ids), len(float_names)),
        int_names=int_names,
        ints=ints.reshape(len(ids), len(int_names)),
        string_names=string_names,
        strings=strings,
        list_names=list_names,
        list_offsets=np.array(offsets, np.int32),
        list_values=list_values,
        statuses=statuses,
        vector_names=vector_names,
        vector_dims=vector_dims,
        vectors=vectors,
        kept={
            key: said for held in found if held is not None for key, said in held.rows.kept.items()
        },
    )
