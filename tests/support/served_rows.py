"""What a lookup found, decoded as callers decode it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from services.common.convert_feature_block import block_columns
from services.feature.convert.features import feature_block
from services.feature.definitions import FeatureView
from services.feature.rows.lookup import Lookup
from services.feature.rows.rows import DTYPE_ORDER, PRESENT, Row


@dataclass(frozen=True)
class Served:
    """A value as it came over the wire: list for lists and vectors."""

    value: Any
    status: int
    time_ms: int


def served_rows(view: FeatureView, found: Lookup) -> list[dict[str, Served]]:
    """The features of each row by name."""
    block = feature_block(view, found.rows)
    columns = block_columns(block)
    names = [name for dtype in DTYPE_ORDER for name in view.names(dtype)]
    statuses = block.statuses or bytes([PRESENT]) * (len(names) * block.rows)
    times_ms = np.frombuffer(found.rows.times_ms, "<i8")
    rows = []
    for number in range(block.rows):
        values, start = columns.values(number), number * len(names)
        rows.append(
            {
                name: Served(values[name], statuses[start + n], int(times_ms[start + n]))
                for n, name in enumerate(names)
            }
        )
    return rows


def as_served(view: FeatureView, row: Row) -> Mapping[str, Served]:
    """A computed row with times as it ought to be served: floats in single precision."""
    names = [name for dtype in DTYPE_ORDER for name in view.names(dtype)]
    floats = set(view.names("float32"))
    cells = zip(names, row.values, row.statuses, row.times_ms, strict=True)
    return {
        name: Served(_served(value, is_float=name in floats), status, time_ms)
        for name, value, status, time_ms in cells
    }


def _served(value: Any, *, is_float: bool) -> Any:
    if is_float:
        return float(np.float32(value))
    if isinstance(value, tuple):
        return [v if isinstance(v, str) else float(np.float32(v)) for v in value]
    return value
