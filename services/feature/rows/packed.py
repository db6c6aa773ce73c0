"""Rows as they are served: numbers as bytes, so that many rows are joined and not converted.

A row is packed once and served many times. What changes with every moment, the seconds since
something happened, is written anew for all rows together. Pure.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain
from typing import Final, NamedTuple

import numpy as np

from services.feature.definitions import FeatureDType, FeatureValue, FeatureView
from services.feature.rows.rows import DTYPE_ORDER, PRESENT, Row

_LARGEST: Final = float(np.finfo(np.float32).max)
_FLOAT: Final = struct.Struct("<f")
_TIME: Final = struct.Struct("<q")
_FEW_ROWS: Final = 8


class PackedRow(NamedTuple):
    """One row. Numbers are little-endian: ``floats`` and ``vectors`` float32, ``ints`` and
    ``times_ms`` (epoch ms a feature, empty if not known) int64.

    ``list_values``: those of all lists, one list after another; ``statuses``: a byte a feature.
    """

    floats: bytes
    ints: bytes
    strings: tuple[str, ...]
    list_values: tuple[str, ...]
    list_lengths: tuple[int, ...]
    vectors: bytes
    statuses: bytes
    times_ms: bytes


@dataclass(frozen=True, slots=True)
class RowBlock:
    """``rows`` rows, row after row; the parts as those of ``PackedRow``.

    ``list_offsets``: little-endian int32, where each list starts in ``list_values``, and a final
    one.
    """

    rows: int
    floats: bytes
    ints: bytes
    strings: list[str]
    list_values: list[str]
    list_offsets: bytes
    vectors: bytes
    statuses: bytes
    times_ms: bytes


class RowPacker:
    """Packs rows of a view."""

    def __init__(self, view: FeatureView) -> None:
        self._counts = {dtype: len(view.names(dtype)) for dtype in DTYPE_ORDER}
        columns = [f for dtype in DTYPE_ORDER for f in view.features if f.dtype == dtype]
        self._width = len(columns)
        self._ints = struct.Struct(f"<{self._counts['int64']}q")
        self._times = struct.Struct(f"<{self._width}q")
        self._ages = [n for n, f in enumerate(columns) if f.kind == "recency"]
        """Columns of seconds since something happened, which are float features."""

    def pack(self, row: Row) -> PackedRow:
        """One row. A float beyond any float32 becomes the largest."""
        parts: dict[FeatureDType, Sequence[FeatureValue]] = {}
        start = 0
        for dtype in DTYPE_ORDER:
            parts[dtype] = row.values[start : start + self._counts[dtype]]
            start += self._counts[dtype]
        lists = [_elements(value) for value in parts["list"]]
        return PackedRow(
            floats=_floats(parts["float32"]),
            ints=self._ints.pack(*parts["int64"]),
            strings=tuple([str(value) for value in parts["string"]]),
            list_values=tuple([str(value) for value in chain.from_iterable(lists)]),
            list_lengths=tuple(map(len, lists)),
            vectors=_floats(list(chain.from_iterable(map(_elements, parts["vector"])))),
            statuses=row.statuses,
            times_ms=self._times.pack(*row.times_ms) if row.times_ms else b"",
        )

    def block(self, rows: Sequence[PackedRow], t_ms: int | None = None) -> RowBlock:
        """Rows in one piece. ``t_ms``: the time at which they are served; where it is given, rows
        that were packed with their times say how long ago things happened as of then."""
        floats = b"".join([row.floats for row in rows])
        statuses = b"".join([row.statuses for row in rows])
        times_ms = b"".join([row.times_ms for row in rows])
        if t_ms is not None and self._ages:
            aged = self._aged_few if len(rows) <= _FEW_ROWS else self._aged_many
            floats = aged(floats, statuses, times_ms, t_ms)
        offsets = b""
        if self._counts["list"]:
            ends = list(
                accumulate(chain.from_iterable([row.list_lengths for row in rows]), initial=0)
            )
            offsets = struct.pack(f"<{len(ends)}i", *ends)
        return RowBlock(
            rows=len(rows),
            floats=floats,
            ints=b"".join([row.ints for row in rows]),
            strings=list(chain.from_iterable([row.strings for row in rows])),
            list_values=list(chain.from_iterable([row.list_values for row in rows])),
            list_offsets=offsets,
            vectors=b"".join([row.vectors for row in rows]),
            statuses=statuses,
            times_ms=times_ms,
        )

    def _aged_many(self, floats: bytes, statuses: bytes, times_ms: bytes, t_ms: int) -> bytes:
        ages = self._ages
        since_ms = np.frombuffer(times_ms, "<i8").reshape(-1, self._width)[:, ages]
        there = np.frombuffer(statuses, np.uint8).reshape(-1, self._width)[:, ages] == PRESENT
        values = np.frombuffer(floats, "<f4").reshape(-1, self._counts["float32"]).copy()
        values[:, ages] = np.where(there, (t_ms - since_ms) / 1000, values[:, ages])
        return values.tobytes()

    def _aged_few(self, floats: bytes, statuses: bytes, times_ms: bytes, t_ms: int) -> bytes:
        """The same without what calls into numpy cost."""
        values = bytearray(floats)
        for row in range(len(statuses) // self._width):
            for age in self._ages:
                place = row * self._width + age
                if statuses[place] == PRESENT:
                    (since_ms,) = _TIME.unpack_from(times_ms, place * _TIME.size)
                    at = (row * self._counts["float32"] + age) * _FLOAT.size
                    _FLOAT.pack_into(values, at, (t_ms - since_ms) / 1000)
        return bytes(values)


def _elements(value: FeatureValue) -> Sequence[str | float]:
    return value if isinstance(value, tuple) else ()


def _floats(values: Sequence[FeatureValue]) -> bytes:
    if math.inf not in values and -math.inf not in values:
        try:
            return struct.pack(f"<{len(values)}f", *values)
        except OverflowError:
            pass
    return np.clip(np.array(values, np.float64), -_LARGEST, _LARGEST).astype("<f4").tobytes()
