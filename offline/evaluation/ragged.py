"""Rows of unequal length in two arrays."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rows = NDArray[np.int64]


@dataclass(frozen=True)
class Ragged:
    """Row i is ``values[offsets[i]:offsets[i + 1]]``; int64 [total] and [rows + 1]."""

    values: Rows
    offsets: Rows

    @classmethod
    def of(cls, rows: Iterable[Sequence[int]]) -> Ragged:
        """From one sequence a row."""
        held = [np.asarray(row, dtype=np.int64) for row in rows]
        lengths = np.array([len(row) for row in held], dtype=np.int64)
        values = np.concatenate(held) if held else np.zeros(0, dtype=np.int64)
        return cls(values.astype(np.int64), _offsets(lengths))

    @classmethod
    def grouped(cls, owners: Rows, values: Rows, rows: int) -> Ragged:
        """From one owner a value; values of one owner keep their order. ``owners`` in [0, rows)."""
        order = np.argsort(owners, kind="stable")
        return cls(values[order].astype(np.int64), _offsets(np.bincount(owners, minlength=rows)))

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def lengths(self) -> Rows:
        """Values in each row, [rows]."""
        return np.diff(self.offsets)

    @property
    def owners(self) -> Rows:
        """Row of each value, [total]."""
        return np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)

    def row(self, index: int) -> Rows:
        """One row."""
        return self.values[self.offsets[index] : self.offsets[index + 1]]

    def take(self, rows: Rows) -> Ragged:
        """The rows named, in that order."""
        positions = self.positions(rows)
        return Ragged(self.values[positions], _offsets(self.lengths[rows]))

    def positions(self, rows: Rows) -> Rows:
        """Places in ``values`` of the rows named, one row after the other."""
        lengths = self.lengths[rows]
        starts = np.repeat(self.offsets[:-1][rows] - (np.cumsum(lengths) - lengths), lengths)
        return starts + np.arange(lengths.sum(), dtype=np.int64)

    def last(self, empty: int = -1) -> Rows:
        """The last value of each row, ``empty`` where there is none, [rows]."""
        found = np.full(len(self), empty, dtype=np.int64)
        filled = self.lengths > 0
        found[filled] = self.values[self.offsets[1:][filled] - 1]
        return found


def _offsets(lengths: Rows) -> Rows:
    return np.concatenate([np.zeros(1, dtype=np.int64), np.cumsum(lengths, dtype=np.int64)])
