"""Exact ranks against a sort in plain Python."""

import math

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from offline.evaluation.ragged import Ragged
from offline.evaluation.ranking import UNRANKED, order_keys, ranks_of, top_k

SCORES = st.one_of(
    st.sampled_from([0.0, -0.0, 1.0, -1.0, math.nan, math.inf, -math.inf]),
    st.floats(width=32, allow_nan=False),
)


def slow_order(scores: list[float], barred: set[int], available: list[bool]) -> list[int]:
    """Item rows that may be ranked, best first, ties by row."""
    rows = [
        row
        for row, score in enumerate(scores)
        if math.isfinite(score) and row not in barred and available[row]
    ]
    return sorted(rows, key=lambda row: (-scores[row], row))


@given(st.data())
def test_ranks_and_top_k_are_those_of_a_sort(data: st.DataObject) -> None:
    items = data.draw(st.integers(1, 9))
    users = data.draw(st.integers(1, 4))
    row_set = st.sets(st.integers(0, items - 1))
    scores = data.draw(
        st.lists(st.lists(SCORES, min_size=items, max_size=items), min_size=users, max_size=users)
    )
    barred = data.draw(st.lists(row_set, min_size=users, max_size=users))
    wanted = data.draw(st.lists(row_set, min_size=users, max_size=users))
    available = data.draw(st.lists(st.booleans(), min_size=items, max_size=items))
    k = data.draw(st.integers(1, 12))

    held = Ragged.of([sorted(rows) for rows in wanted])
    keys = order_keys(
        np.array(scores, dtype=np.float32),
        Ragged.of([sorted(rows) for rows in barred]),
        np.array(available),
    )
    ranks = Ragged(ranks_of(keys, held), held.offsets)
    best = top_k(keys, k)

    for user in range(users):
        order = slow_order(scores[user], barred[user], available)
        expected = [order.index(row) if row in order else UNRANKED for row in held.row(user)]
        assert ranks.row(user).tolist() == expected
        padded = order[:k] + [-1] * (min(k, items) - len(order))
        assert best[user].tolist() == padded


def test_what_is_barred_or_unavailable_is_never_ranked() -> None:
    scores = np.full((2, 4), 7.0, dtype=np.float32)
    keys = order_keys(scores, Ragged.of([[0], [1, 2]]), np.array([True, True, True, False]))
    assert top_k(keys, 4).tolist() == [[1, 2, -1, -1], [0, -1, -1, -1]]
    assert ranks_of(keys, Ragged.of([[0, 3], [2]])).tolist() == [UNRANKED] * 3


def test_equal_scores_are_ordered_by_item_row() -> None:
    keys = order_keys(
        np.array([[0.0, -0.0, 2.0, 2.0, 0.0]], dtype=np.float32), Ragged.of([[]]), np.ones(5, bool)
    )
    assert top_k(keys, 5).tolist() == [[2, 3, 0, 1, 4]]


@given(st.lists(st.lists(st.integers(0, 99), max_size=5), min_size=1, max_size=8), st.data())
def test_ragged_rows_come_back(rows: list[list[int]], data: st.DataObject) -> None:
    held = Ragged.of(rows)
    assert [held.row(index).tolist() for index in range(len(held))] == rows
    assert held.last(empty=-7).tolist() == [row[-1] if row else -7 for row in rows]
    chosen = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6))
    taken = held.take(np.array(chosen, dtype=np.int64))
    assert [taken.row(index).tolist() for index in range(len(taken))] == [rows[c] for c in chosen]
    again = Ragged.grouped(held.owners, held.values, len(held))
    assert again.values.tolist() == held.values.tolist()
    assert again.offsets.tolist() == held.offsets.tolist()
