"""Rows as they are served: as bytes, so that many rows are joined and not converted.

A row is packed once and served many times: numbers as they lie in a block, texts as the elements of
a repeated field of its message. What changes with every moment, the seconds since something
happened, is written anew for all rows together. Pure.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Final, NamedTuple

import numpy as np

from services.feature.definitions import FeatureDType, FeatureValue, FeatureView
from services.feature.rows.rows import DTYPE_ORDER, PRESENT, Row

_LARGEST: Final = float(np.finfo(np.float32).max)
_FLOAT: Final = struct.Struct("<f")
_TIME: Final = struct.Struct("<q")
_LENGTH_DELIMITED: Final = 2
_OFFSET_BYTES: Final = 4
_NEVER_MS: Final = -(2**63)
_FEW_ROWS: Final = 8

STRINGS_FIELD: Final = 7
LIST_VALUES_FIELD: Final = 10
"""Numbers of the fields of a block's message that texts are packed for."""


class PackedRow(NamedTuple):
    """One row. Numbers are little-endian: ``floats`` and ``vectors`` float32, ``list_lengths``
    int32, ``ints``, ``times_ms`` (epoch ms a feature) and ``since_ms`` (the same of those features
    that say how long ago something was) int64. Times are empty if not known.

    ``strings`` and ``list_values`` (those of all lists, one list after another) are encoded as
    elements of the fields ``STRINGS_FIELD`` and ``LIST_VALUES_FIELD``; ``statuses``: a byte a
    feature.
    """

    floats: bytes
    ints: bytes
    strings: bytes
    list_values: bytes
    list_lengths: bytes
    vectors: bytes
    statuses: bytes
    times_ms: bytes
    since_ms: bytes


_NOTHING: Final = PackedRow(*(b"",) * len(PackedRow._fields))


@dataclass(frozen=True, slots=True)
class RowBlock:
    """``rows`` rows, row after row; the parts as those of ``PackedRow``.

    ``list_offsets``: little-endian int32, where each list starts in ``list_values``, and a final
    one.
    """

    rows: int
    floats: bytes
    ints: bytes
    strings: bytes
    list_values: bytes
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
        self._lengths = struct.Struct(f"<{self._counts['list']}i")
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
            strings=encoded_texts(STRINGS_FIELD, parts["string"]),
            list_values=encoded_texts(LIST_VALUES_FIELD, list(chain.from_iterable(lists))),
            list_lengths=self._lengths.pack(*map(len, lists)),
            vectors=_floats(list(chain.from_iterable(map(_elements, parts["vector"])))),
            statuses=row.statuses,
            times_ms=self._times.pack(*row.times_ms) if row.times_ms else b"",
            since_ms=self._since_ms(row) if row.times_ms else b"",
        )

    def block(self, rows: Sequence[PackedRow], t_ms: int | None = None) -> RowBlock:
        """Rows in one piece. ``t_ms``: the time at which they are served; where it is given, rows
        that were packed with their times say how long ago things happened as of then."""
        parts = PackedRow(*map(b"".join, zip(*rows, strict=True))) if rows else _NOTHING
        floats = parts.floats
        if t_ms is not None and self._ages and parts.since_ms:
            aged = self._aged_few if len(rows) <= _FEW_ROWS else self._aged_many
            floats = aged(floats, parts.since_ms, t_ms)
        offsets = b""
        if self._counts["list"]:
            lengths = np.frombuffer(parts.list_lengths, "<i4")
            offsets = bytes(_OFFSET_BYTES) + lengths.cumsum(dtype="<i4").tobytes()
        return RowBlock(
            rows=len(rows),
            floats=floats,
            ints=parts.ints,
            strings=parts.strings,
            list_values=parts.list_values,
            list_offsets=offsets,
            vectors=parts.vectors,
            statuses=parts.statuses,
            times_ms=parts.times_ms,
        )

    def _since_ms(self, row: Row) -> bytes:
        times_ms = [
            row.times_ms[age] if row.statuses[age] == PRESENT else _NEVER_MS for age in self._ages
        ]
        return struct.pack(f"<{len(times_ms)}q", *times_ms)

    def _aged_many(self, floats: bytes, since_ms: bytes, t_ms: int) -> bytes:
        ages = self._ages
        since = np.frombuffer(since_ms, "<i8").reshape(-1, len(ages))
        values = np.frombuffer(floats, "<f4").reshape(-1, self._counts["float32"]).copy()
        values[:, ages] = np.where(since != _NEVER_MS, (t_ms - since) / 1000, values[:, ages])
        return values.tobytes()

    def _aged_few(self, floats: bytes, since_ms: bytes, t_ms: int) -> bytes:
        """The same without what calls into numpy cost."""
        values = bytearray(floats)
        row_bytes = self._counts["float32"] * _FLOAT.size
        for number, (since,) in enumerate(_TIME.iter_unpack(since_ms)):
            row, age = divmod(number, len(self._ages))
            if since != _NEVER_MS:
                at = row * row_bytes + self._ages[age] * _FLOAT.size
                _FLOAT.pack_into(values, at, (t_ms - since) / 1000)
        return bytes(values)


def encoded_texts(field: int, texts: Sequence[object]) -> bytes:
    """Texts as elements of a message's repeated field of strings (protobuf's encoding: tag, length,
    UTF-8)."""
    tag = _varint(field << 3 | _LENGTH_DELIMITED)
    found = [str(text).encode() for text in texts]
    return b"".join([tag + _varint(len(data)) + data for data in found])


def encoded_part(field: int, data: bytes) -> bytes:
    """A message's field of bytes, or of a message that is encoded already."""
    return _varint(field << 3 | _LENGTH_DELIMITED) + _varint(len(data)) + data


def _varint(number: int) -> bytes:
    if number < 0x80:
        return bytes((number,))
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _elements(value: FeatureValue) -> Sequence[str | float]:
    return value if isinstance(value, tuple) else ()


def _floats(values: Sequence[FeatureValue]) -> bytes:
    if math.inf not in values and -math.inf not in values:
        try:
            return struct.pack(f"<{len(values)}f", *values)
        except OverflowError:
            pass
    return np.clip(np.array(values, np.float64), -_LARGEST, _LARGEST).astype("<f4").tobytes()
