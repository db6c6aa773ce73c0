"""Many rows in one piece are what each row is alone."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from podium.feature.v1.feature_pb2 import FeatureBlock, GetFeaturesResponse
from services.feature.definitions import FeatureView, compile_views
from services.feature.rows.lookup import Lookup
from services.feature.rows.packed import (
    LIST_VALUES_FIELD,
    STRINGS_FIELD,
    RowPacker,
    encoded_part,
    encoded_texts,
)
from services.feature.rows.rows import DTYPE_ORDER, NULL, PRESENT, Row, RowReader, row_readers
from tests.support.feature_streams import domain_with
from tests.support.served_rows import as_served, served_rows

FEATURES = {
    "title": {"kind": "attribute"},
    "seen": {"kind": "recency", "events": ["click", "watch"]},
    "clicks": {"kind": "count", "events": ["click"], "window": "1h"},
    "bought": {"kind": "recency", "events": ["purchase"], "default": -1.0},
    "pace": {"kind": "rate", "events": ["click"], "window": "1h"},
    "hosts": {"kind": "last_n", "events": ["click"], "of": "host", "limit": 3},
}
DOMAIN = domain_with({name: {**f, "entities": ["course"]} for name, f in FEATURES.items()})
VIEW: FeatureView = compile_views(DOMAIN)["course"]
READER: RowReader = row_readers(DOMAIN)["course"]
T_MS = 1_800_000_000_000

VALUES = {
    "float32": st.floats(width=32, allow_nan=False, allow_infinity=False),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "string": st.text(max_size=5),
    "list": st.lists(st.text(max_size=3), max_size=3).map(tuple),
}


@st.composite
def rows(draw: st.DrawFn) -> Row:
    dtypes = [dtype for dtype in DTYPE_ORDER for _ in VIEW.names(dtype)]
    return Row(
        tuple(draw(VALUES[dtype]) for dtype in dtypes),
        bytes(draw(st.sampled_from((PRESENT, NULL))) for _ in dtypes),
        tuple(draw(st.integers(0, T_MS)) for _ in dtypes),
    )


# Few rows and many go different ways.
@given(some=st.one_of(st.lists(rows(), max_size=8), st.lists(rows(), min_size=9, max_size=12)))
def test_a_block_holds_each_row_with_ages_as_of_its_time(some: list[Row]) -> None:
    packer = RowPacker(VIEW)
    block = packer.block([packer.pack(row) for row in some], T_MS)
    expected = [
        as_served(VIEW, READER.aged(row, T_MS)._replace(times_ms=row.times_ms)) for row in some
    ]
    assert served_rows(VIEW, Lookup(block, T_MS, 0)) == expected


def test_floats_beyond_single_precision_become_the_largest() -> None:
    names = [column.name for column in READER.columns]
    values = list(READER.row(None, T_MS).values)
    packer, largest = RowPacker(VIEW), float(np.finfo(np.float32).max)
    for given_value, served in ((1e300, largest), (-1e300, -largest), (math.inf, largest)):
        values[names.index("pace")] = given_value
        row = Row(tuple(values), bytes([PRESENT]) * len(names), (T_MS,) * len(names))
        (found,) = served_rows(VIEW, Lookup(packer.block([packer.pack(row)]), T_MS, 0))
        assert found["pace"].value == served


def test_texts_are_elements_of_the_blocks_own_fields() -> None:
    assert STRINGS_FIELD == FeatureBlock.STRING_VALUES_FIELD_NUMBER
    assert LIST_VALUES_FIELD == FeatureBlock.LIST_VALUES_FIELD_NUMBER
    texts = ["", "é" * 63, "n" * 128, "long" * 5_000]
    encoded = encoded_texts(STRINGS_FIELD, texts) + encoded_texts(LIST_VALUES_FIELD, texts[::-1])
    assert FeatureBlock.FromString(encoded) == FeatureBlock(
        string_values=texts, list_values=texts[::-1]
    )
    response = encoded_part(GetFeaturesResponse.BLOCK_FIELD_NUMBER, encoded)
    assert GetFeaturesResponse.FromString(response).block == FeatureBlock.FromString(encoded)
