"""Rows of a feature view as the ranker reads them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from services.ranker.arrays import ByteArray, Float32Array, Int32Array, Int64Array

PRESENT = 1
"""Status byte of a value that was computed or set; every other status carries the default."""


@dataclass(frozen=True, slots=True)
class ViewColumn:
    """One feature of a view: ``dtype`` is float32, int64, string or list."""

    name: str
    dtype: str
    default: object


@dataclass(frozen=True, slots=True)
class View:
    """A feature view as the bundle names it."""

    name: str
    hash: str
    columns: tuple[ViewColumn, ...]

    def of(self, dtype: str) -> tuple[str, ...]:
        """Names of the columns of one dtype, in the view's order."""
        return tuple(column.name for column in self.columns if column.dtype == dtype)


@dataclass(frozen=True, slots=True)
class FeatureRows:
    """Decoded rows of one view, one an id.

    ``floats`` float32 [rows, F], ``ints`` int64 [rows, I], ``strings`` row-major [rows * S],
    ``list_offsets`` int32 [rows * L + 1] into ``list_values``; ``statuses`` uint8
    [rows, F + I + S + L], or empty when every value is PRESENT. ``vectors`` float32 [rows, sum of
    ``vector_dims``] hold one vector after another; they have no statuses. ``kept``: variants that
    users and devices keep, by entry, by actor key; ``kept_is_told``: whether that is all of it.
    """

    ids: Sequence[str]
    float_names: tuple[str, ...]
    floats: Float32Array
    int_names: tuple[str, ...]
    ints: Int64Array
    string_names: tuple[str, ...]
    strings: Sequence[str]
    list_names: tuple[str, ...]
    list_offsets: Int32Array
    list_values: Sequence[str]
    statuses: ByteArray
    log_position: int = 0
    evaluated_ms: int = 0
    vector_names: tuple[str, ...] = ()
    vector_dims: tuple[int, ...] = ()
    vectors: Float32Array = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    kept: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    kept_is_told: bool = False

    def column(self, name: str) -> Float32Array | None:
        """A numeric column as float32 [rows]; None when the rows have no such column."""
        if name in self.float_names:
            return self.floats[:, self.float_names.index(name)]
        if name in self.int_names:
            return self.ints[:, self.int_names.index(name)].astype(np.float32)
        return None

    def strings_of(self, row: int, name: str) -> Sequence[str]:
        """One list value; empty when the rows have no such column."""
        if name not in self.list_names:
            return ()
        at = row * len(self.list_names) + self.list_names.index(name)
        return self.list_values[self.list_offsets[at] : self.list_offsets[at + 1]]

    def lists_of(self, rows: Sequence[int], name: str) -> list[Sequence[str]]:
        """``strings_of`` of several rows."""
        if name not in self.list_names:
            return [() for _ in rows]
        width, at = len(self.list_names), self.list_names.index(name)
        offsets, values = self.list_offsets, self.list_values
        starts, ends = offsets[at:-1:width].tolist(), offsets[at + 1 :: width].tolist()
        return [values[starts[row] : ends[row]] for row in rows]

    def vector_of(self, row: int, name: str) -> Float32Array:
        """One vector [dim]; without elements when the rows have no such column."""
        if name not in self.vector_names:
            return np.zeros(0, np.float32)
        at = self.vector_names.index(name)
        start = sum(self.vector_dims[:at])
        return self.vectors[row, start : start + self.vector_dims[at]]

    def number_of(self, row: int, name: str) -> float | None:
        """One numeric value; None when it is not PRESENT or the rows have no such column."""
        if name in self.float_names:
            at = self.float_names.index(name)
            return float(self.floats[row, at]) if self._is_present(row, at) else None
        if name in self.int_names:
            at = self.int_names.index(name)
            present = self._is_present(row, len(self.float_names) + at)
            return int(self.ints[row, at]) if present else None
        return None

    def text_of(self, row: int, name: str) -> str | None:
        """One string; None when it is not PRESENT or the rows have no such column."""
        if name not in self.string_names:
            return None
        at = self.string_names.index(name)
        present = self._is_present(row, len(self.float_names) + len(self.int_names) + at)
        return self.strings[row * len(self.string_names) + at] if present else None

    def part(self, first: int, count: int) -> FeatureRows:
        """The rows from ``first`` on."""
        if (first, count) == (0, len(self.ids)):
            return self
        end, strings, lists = first + count, len(self.string_names), len(self.list_names)
        offsets, values = self.list_offsets, self.list_values
        if lists:
            offsets = offsets[first * lists : end * lists + 1]
            values = values[offsets[0] : offsets[-1]]
            offsets = offsets - offsets[0]
        return replace(
            self,
            ids=self.ids[first:end],
            floats=self.floats[first:end],
            ints=self.ints[first:end],
            strings=self.strings[first * strings : end * strings],
            list_offsets=offsets,
            list_values=values,
            statuses=self.statuses[first:end],
            vectors=self.vectors[first:end],
        )

    def _is_present(self, row: int, column: int) -> bool:
        return self.statuses.size == 0 or bool(self.statuses[row, column] == PRESENT)


def joined(parts: Sequence[FeatureRows]) -> FeatureRows:
    """Rows of the same columns below one another; where they are from, and when, is the first's."""
    first = parts[0]
    if len(parts) == 1:
        return first
    ends = np.cumsum([0, *(len(part.list_values) for part in parts)])
    offsets = [part.list_offsets[1:] + end for part, end in zip(parts, ends, strict=False)]
    width = first.floats.shape[1] + first.ints.shape[1]
    width += len(first.string_names) + len(first.list_names)
    statuses = [
        part.statuses if part.statuses.size else np.full((len(part.ids), width), PRESENT, np.uint8)
        for part in parts
    ]
    return replace(
        first,
        ids=[id_ for part in parts for id_ in part.ids],
        floats=np.concatenate([part.floats for part in parts]),
        ints=np.concatenate([part.ints for part in parts]),
        strings=[text for part in parts for text in part.strings],
        list_offsets=np.concatenate([first.list_offsets[:1], *offsets]).astype(np.int32),
        list_values=[text for part in parts for text in part.list_values],
        statuses=np.concatenate(statuses),
        vectors=np.concatenate([part.vectors for part in parts]),
    )


def empty_rows(ids: Sequence[str]) -> FeatureRows:
    """Rows without any column: every feature of every id takes its default."""
    return FeatureRows(
        ids=ids,
        float_names=(),
        floats=np.zeros((len(ids), 0), np.float32),
        int_names=(),
        ints=np.zeros((len(ids), 0), np.int64),
        string_names=(),
        strings=(),
        list_names=(),
        list_offsets=np.zeros(1, np.int32),
        list_values=(),
        statuses=np.zeros(0, np.uint8),
    )
