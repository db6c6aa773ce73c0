"""What goes with a history, against sums entry by entry; and the file that a bundle keeps it in."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.affinities import AFFINITY, Affinities
from services.common.crosses import AffinityCross, unknown
from services.common.errors import BundleError

ITEMS, KEPT, LENGTH = 5, 3, 4
CROSS = AffinityCross(kind="affinity", decay=0.5, least=0.01)
ROWS = st.lists(st.integers(0, ITEMS), min_size=KEPT, max_size=KEPT, unique=True)
HISTORIES = st.lists(
    st.lists(st.integers(0, ITEMS), min_size=LENGTH, max_size=LENGTH), min_size=1, max_size=4
)


@settings(max_examples=50, deadline=None)
@given(st.lists(ROWS, min_size=ITEMS + 1, max_size=ITEMS + 1), HISTORIES, st.integers(0, 2**32 - 1))
def test_an_item_goes_with_a_history_by_what_each_entry_says(
    rows: list[list[int]], histories: list[list[int]], seed: int
) -> None:
    weights = np.random.default_rng(seed).normal(size=(ITEMS + 1, KEPT))
    table = Affinities(np.array(rows), weights)
    users = len(histories)
    owner, wanted = np.repeat(np.arange(users), ITEMS + 1), np.tile(np.arange(ITEMS + 1), users)
    found = table.of_histories(CROSS, np.array(histories), owner, wanted)
    expected = []
    for user, item in zip(owner, wanted, strict=True):
        total = 0.0
        for age, met in enumerate(reversed(histories[user])):
            for other, weight in zip(rows[met], weights[met], strict=True):
                total += 0.5**age * weight * (met > 0 and other == item > 0)
        expected.append(math.log(max(total, 0.01)))
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_nobody_and_nothing_are_as_unknown_as_a_user_without_a_row() -> None:
    [missing] = unknown([CROSS])
    table = Affinities(np.array([[0], [1]]), np.array([[5.0], [5.0]]))
    one = np.zeros(1, np.int64)
    assert table.of_histories(CROSS, np.zeros((1, LENGTH), np.int64), one, one + 1) == missing
    assert table.of_histories(CROSS, np.ones((1, LENGTH), np.int64), one, one) == missing


def test_what_is_kept_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "table.npy"
    table = Affinities(np.array([[0, 1], [1, 2], [0, 2]]), np.array([[0, 1], [-2, 0.5], [3, 4.0]]))
    np.save(path, table.table())
    again = Affinities.read(path, 3)
    np.testing.assert_array_equal(again.rows, table.rows)
    np.testing.assert_array_equal(again.weights, table.weights)


@pytest.mark.parametrize(
    ("entry", "rows", "message"),
    [
        ((1, 1.0), 3, "must be of 3 rows"),
        ((2, 1.0), 2, "a row that the vocabulary does not have"),
        ((-1, 1.0), 2, "a row that the vocabulary does not have"),
        ((1, math.nan), 2, "no finite number"),
    ],
)
def test_a_damaged_table_is_named(
    tmp_path: Path, entry: tuple[int, float], rows: int, message: str
) -> None:
    path = tmp_path / "table.npy"
    np.save(path, np.array([[entry], [entry]], AFFINITY))
    with pytest.raises(BundleError, match=rf"table\.npy: .*{message}"):
        Affinities.read(path, rows)
    path.write_bytes(b"no array")
    with pytest.raises(BundleError, match=r"table\.npy: not an array"):
        Affinities.read(path, rows)
