"""Which items users meet together, against counting them user by user."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.dataset.tables import TEST, TRAIN
from offline.training.data import Histories
from offline.training.neighbours import HISTORY, SHRINKAGE, item_neighbours, within

ITEMS = 6
USERS = st.lists(
    st.lists(st.tuples(st.integers(-1, ITEMS - 1), st.booleans()), max_size=6), max_size=6
)


def histories(users: list[list[tuple[int, bool]]]) -> Histories:
    """Of (item, whether it is of the training split), oldest first."""
    flat = [event for user in users for event in user]
    none = np.zeros(len(flat), np.int64)
    return Histories(
        items=none,
        targets=np.array([item for item, _ in flat], np.int64),
        actions=none,
        surfaces=none,
        times_ms=none,
        split=np.array([TRAIN if trained else TEST for _, trained in flat], object),
        offsets=np.cumsum([0, *map(len, users)]),
    )


def counted(users: list[list[tuple[int, bool]]]) -> dict[tuple[int, int], float]:
    """Similarity of every two items that some user met."""
    met = [{item for item, trained in user if trained and item >= 0} for user in users]
    found = {}
    for one in range(ITEMS):
        for other in range(ITEMS):
            both = sum({one, other} <= user for user in met)
            if one != other and both:
                users_of = [sum(item in user for user in met) for item in (one, other)]
                found[one, other] = both / (math.sqrt(users_of[0] * users_of[1]) + SHRINKAGE)
    return found


@settings(max_examples=50, deadline=None)
@given(USERS, st.integers(1, ITEMS))
def test_neighbours_are_those_met_by_the_same_users(
    users: list[list[tuple[int, bool]]], count: int
) -> None:
    known, similar = item_neighbours(histories(users), ITEMS, count), counted(users)
    for item in range(ITEMS):
        others = [(-similar[item, n], n) for n in range(ITEMS) if (item, n) in similar]
        expected = sorted(others)[:count]
        kept = len(expected)
        assert known.rows[item].tolist() == [n for _, n in expected] + [-1] * (count - kept)
        np.testing.assert_allclose(known.similarities[item, :kept], [-s for s, _ in expected])
        assert not known.similarities[item, kept:].any()


def test_of_a_long_history_the_latest_count() -> None:
    items = HISTORY + 1
    long = [(0, True), *((item, True) for item in range(items)), (0, True)]
    known = item_neighbours(histories([long]), items, items)
    # The item met longest ago is left out; the one that was met again is not.
    assert set(known.rows[0]) - {-1} == set(range(2, items))
    assert (known.rows[1] == -1).all()


def test_what_is_not_in_the_index_is_no_neighbour() -> None:
    users = [[(0, True), (1, True), (2, True)], [(0, True), (2, True), (3, True)]]
    known = item_neighbours(histories(users), 5, 3)
    index = np.array([0, 2, 3])
    kept = within(known, index)
    for place, row in enumerate(index):
        pairs = zip(known.rows[row], known.similarities[row], strict=True)
        expected = [(int(np.flatnonzero(index == n)[0]), s) for n, s in pairs if n in index]
        found = list(zip(kept.rows[place].tolist(), kept.similarities[place], strict=True))
        assert found == expected + [(-1, 0.0)] * (3 - len(expected))
