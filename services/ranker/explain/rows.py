"""Rows of a feature view, one by one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.ranker.feature_rows import FeatureRows


def one_row(rows: FeatureRows, row: int, id_: str) -> FeatureRows:
    """One of the rows alone, under another id."""
    width, lists = len(rows.string_names), len(rows.list_names)
    offsets = rows.list_offsets[row * lists : (row + 1) * lists + 1]
    first, last = int(offsets[0]), int(offsets[-1])
    return replace(
        rows,
        ids=[id_],
        floats=rows.floats[row : row + 1],
        ints=rows.ints[row : row + 1],
        strings=list(rows.strings[row * width : (row + 1) * width]),
        list_offsets=offsets - first,
        list_values=list(rows.list_values[first:last]),
        vectors=rows.vectors[row : row + 1],
        statuses=rows.statuses[row : row + 1] if rows.statuses.size else rows.statuses,
    )


def repeated(rows: FeatureRows, ids: Sequence[str]) -> FeatureRows:
    """The one row once for each of the ids."""
    times = len(ids)
    values = len(rows.list_values)
    offsets = [rows.list_offsets[1:] + np.int32(at * values) for at in range(times)]
    statuses = rows.statuses
    return replace(
        rows,
        ids=ids,
        floats=np.repeat(rows.floats, times, axis=0),
        ints=np.repeat(rows.ints, times, axis=0),
        strings=list(rows.strings) * times,
        list_offsets=np.concatenate([np.zeros(1, np.int32), *offsets]),
        list_values=list(rows.list_values) * times,
        vectors=np.repeat(rows.vectors, times, axis=0),
        statuses=np.repeat(statuses, times, axis=0) if statuses.size else statuses,
    )
