"""What arrays of unit values must be."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from services.common.errors import InvalidArgument

MAX_MAGNITUDE = 1e60
"""Of a value: third powers of sums of millions of them are still numbers."""

Values = NDArray[np.float64]
Flags = NDArray[np.bool_]
Indices = NDArray[np.int64]


def checked(name: str, values: ArrayLike, *, least: int = 2) -> Values:
    """``values`` as float64 [units]; InvalidArgument for fewer than ``least``, nan, inf
    and values beyond ``MAX_MAGNITUDE``."""
    array = np.asarray(values, dtype=np.float64)
    if array.ndim != 1:
        raise InvalidArgument.field(name, f"must have one dimension, has {array.ndim}")
    if len(array) < least:
        raise InvalidArgument.field(name, f"needs at least {least} values, has {len(array)}")
    require_numbers(name, array)
    return array


def checked_columns(name: str, columns: ArrayLike, units: int) -> Values:
    """``columns`` as float64 [units, columns]; one dimension counts as one column."""
    array = np.asarray(columns, dtype=np.float64)
    if array.ndim == 1:
        array = array[:, None]
    if array.ndim != 2 or len(array) != units:
        raise InvalidArgument.field(name, f"must have a row for each of {units} units")
    require_numbers(name, array)
    return array


def require_numbers(name: str, array: Values) -> None:
    """InvalidArgument for nan, inf and values beyond ``MAX_MAGNITUDE``."""
    if not np.isfinite(array).all():
        raise InvalidArgument.field(name, "must be finite numbers")
    if array.size and max(array.max(), -array.min()) > MAX_MAGNITUDE:
        raise InvalidArgument.field(name, f"must be within {MAX_MAGNITUDE:g} of zero")


def same_length(name: str, values: Values, other: Values) -> None:
    """InvalidArgument where two arrays of one arm differ in length."""
    if len(values) != len(other):
        raise InvalidArgument.field(name, f"has {len(values)} values for {len(other)} units")


def sample_skewness(values: Values) -> float:
    """The third standardised moment of values [units], 0 where they don't vary."""
    deviations = values - values.mean()
    variance = float((deviations**2).mean())
    return float((deviations**3).mean() / variance**1.5) if variance > 0.0 else 0.0
