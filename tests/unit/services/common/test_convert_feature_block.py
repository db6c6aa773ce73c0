"""Feature blocks as arrays."""

from __future__ import annotations

import struct
from collections.abc import Callable

import pytest

from podium.feature.v1.feature_pb2 import FeatureBlock
from services.common.convert_feature_block import block_columns
from services.common.errors import FailedPrecondition


def block() -> FeatureBlock:
    """Two rows: a float, an int, a string, two lists, vectors of 2 and 1 elements."""
    return FeatureBlock(
        rows=2,
        float_features=["f"],
        float_values=struct.pack("<2f", 1, 2),
        int_features=["i"],
        int_values=struct.pack("<2q", 7, -1),
        string_features=["s"],
        string_values=["a", "b"],
        list_features=["k", "l"],
        list_offsets=struct.pack("<5i", 0, 2, 2, 2, 3),
        list_values=["x", "y", "z"],
        vector_features=["v", "w"],
        vector_dims=[2, 1],
        vector_values=struct.pack("<6f", 1, 2, 3, 4, 5, 6),
        statuses=bytes([1, 1, 1, 1, 1, 1, 4, 1, 2, 1, 1, 1, 1, 3]),
    )


def test_a_block_is_read_as_it_was_written() -> None:
    columns = block_columns(block())

    assert columns.values(0) == {
        "f": 1.0, "i": 7, "s": "a", "k": ["x", "y"], "l": [], "v": [1.0, 2.0], "w": [3.0],
    }  # fmt: skip
    assert columns.values(1) == {
        "f": 2.0, "i": -1, "s": "b", "k": [], "l": ["z"], "v": [4.0, 5.0], "w": [6.0],
    }  # fmt: skip
    assert columns.vectors.tolist() == [[1, 2, 3], [4, 5, 6]]
    assert columns.statuses.tolist() == [[1, 1, 1, 1, 1, 1, 4], [1, 2, 1, 1, 1, 1, 3]]


def test_statuses_may_be_absent() -> None:
    whole = block()
    whole.statuses = b""
    assert block_columns(whole).statuses.shape == (0, 0)


def _set(name: str, value: object) -> Callable[[FeatureBlock], None]:
    def change(found: FeatureBlock) -> None:
        if isinstance(value, list):
            found.ClearField(name)  # type: ignore[arg-type]
            getattr(found, name).extend(value)
        else:
            setattr(found, name, value)

    return change


@pytest.mark.parametrize(
    "change",
    [
        _set("rows", 3),
        _set("rows", 1),
        _set("rows", -1),
        _set("float_values", b"\x00" * 7),
        _set("int_values", b"\x00" * 24),
        _set("string_values", ["a"]),
        _set("list_offsets", struct.pack("<4i", 0, 2, 2, 3)),
        _set("list_offsets", struct.pack("<5i", 0, 2, 1, 2, 3)),
        _set("list_offsets", struct.pack("<5i", 1, 2, 2, 2, 3)),
        _set("list_offsets", struct.pack("<5i", 0, 2, 2, 2, 4)),
        _set("list_values", ["x"]),
        _set("list_features", []),
        _set("vector_dims", [3]),
        _set("vector_dims", [2, 2]),
        _set("vector_dims", [4, -1]),
        _set("vector_values", b"\x00" * 20),
        _set("statuses", b"\x01" * 12),
    ],
)
def test_parts_that_do_not_fit_are_refused(change: Callable[[FeatureBlock], None]) -> None:
    wrong = block()
    change(wrong)
    with pytest.raises(FailedPrecondition, match="does not fit"):
        block_columns(wrong)
