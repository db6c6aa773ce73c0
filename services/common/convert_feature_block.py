"""Feature blocks as arrays. What does not fit together is refused, not read askew."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from podium.feature.v1.feature_pb2 import FeatureBlock
from services.common.errors import FailedPrecondition


@dataclass(frozen=True)
class BlockColumns:
    """The columns of ``rows`` rows, by dtype; names in column order.

    ``floats`` float32 [rows, F], ``ints`` int64 [rows, I], ``strings`` row-major [rows * S],
    ``list_offsets`` int32 [rows * L + 1] into ``list_values``, ``vectors`` float32
    [rows, sum of ``vector_dims``], one vector after another; ``statuses`` uint8
    [rows, F + I + S + L + V], or [0, 0] when every value is PRESENT.
    """

    rows: int
    float_names: tuple[str, ...]
    floats: NDArray[np.float32]
    int_names: tuple[str, ...]
    ints: NDArray[np.int64]
    string_names: tuple[str, ...]
    strings: Sequence[str]
    list_names: tuple[str, ...]
    list_offsets: NDArray[np.int32]
    list_values: Sequence[str]
    vector_names: tuple[str, ...]
    vector_dims: tuple[int, ...]
    vectors: NDArray[np.float32]
    statuses: NDArray[np.uint8]

    def values(self, row: int) -> dict[str, Any]:
        """One row's values by name: a float, int, str, list of str, or list of float each."""
        found: dict[str, Any] = dict(zip(self.float_names, self.floats[row].tolist(), strict=True))
        found |= zip(self.int_names, self.ints[row].tolist(), strict=True)
        for place, name in enumerate(self.string_names):
            found[name] = self.strings[row * len(self.string_names) + place]
        for place, name in enumerate(self.list_names):
            at = row * len(self.list_names) + place
            start, end = self.list_offsets[at : at + 2].tolist()
            found[name] = list(self.list_values[start:end])
        start = 0
        for name, dim in zip(self.vector_names, self.vector_dims, strict=True):
            found[name] = self.vectors[row, start : start + dim].tolist()
            start += dim
        return found


def block_columns(block: FeatureBlock) -> BlockColumns:
    """A decoded block; arrays share its bytes. Raises ``FailedPrecondition`` when its parts do not
    fit together."""
    rows = block.rows
    names = [
        tuple(columns)
        for columns in (
            block.float_features,
            block.int_features,
            block.string_features,
            block.list_features,
            block.vector_features,
        )
    ]
    dims = tuple(block.vector_dims)
    width = sum(map(len, names))
    try:
        columns = BlockColumns(
            rows=rows,
            float_names=names[0],
            floats=np.frombuffer(block.float_values, "<f4").reshape(rows, len(names[0])),
            int_names=names[1],
            ints=np.frombuffer(block.int_values, "<i8").reshape(rows, len(names[1])),
            string_names=names[2],
            strings=block.string_values,
            list_names=names[3],
            list_offsets=np.frombuffer(block.list_offsets, "<i4"),
            list_values=block.list_values,
            vector_names=names[4],
            vector_dims=dims,
            vectors=np.frombuffer(block.vector_values, "<f4").reshape(rows, sum(dims)),
            statuses=np.frombuffer(block.statuses, np.uint8).reshape(
                rows if block.statuses else 0, width if block.statuses else 0
            ),
        )
    except ValueError as error:
        raise FailedPrecondition(f"a feature block does not fit {rows} rows: {error}") from error
    if (
        len(block.string_values) != rows * len(names[2])
        or len(dims) != len(names[4])
        or any(dim < 1 for dim in dims)
        or not _lists_fit(columns)
    ):
        raise FailedPrecondition(f"a feature block does not fit {rows} rows")
    return columns


def _lists_fit(columns: BlockColumns) -> bool:
    offsets = columns.list_offsets
    if not columns.list_names:
        return not len(offsets) and not columns.list_values
    return (
        len(offsets) == columns.rows * len(columns.list_names) + 1
        and int(offsets[0]) == 0
        and bool(np.all(offsets[:-1] <= offsets[1:]))
        and int(offsets[-1]) == len(columns.list_values)
    )
