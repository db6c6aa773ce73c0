"""Baselines against naive implementations on small data."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.evaluation.baselines import (
    ItemKNN,
    MarkovChain,
    MatrixFactorisation,
    Popularity,
    families,
)
from offline.evaluation.compare import choose, judge
from offline.evaluation.fold import leave_last
from offline.evaluation.ragged import Ragged
from tests.unit.offline.evaluation.worlds import small_fold

ITEMS = 6
HISTORIES = st.lists(st.lists(st.integers(0, ITEMS - 1), max_size=6), min_size=1, max_size=6)


def test_popularity_counts_kinds_and_halves_with_age() -> None:
    fold = small_fold(
        3,
        [[0, 0, 1], [2, 2]],
        targets=[False, True, True, False, True],
        ages_days=[4, 0, 2, 0, 0],
    )
    asked = np.array([1, 0], dtype=np.int64)
    assert Popularity().fit(fold).score(asked).tolist() == [[2, 1, 2]] * 2
    assert Popularity(targets_only=True).fit(fold).score(asked).tolist() == [[1, 1, 1]] * 2
    aged = Popularity(half_life_days=2.0).fit(fold).score(asked)
    assert aged.tolist() == pytest.approx(np.array([[1.25, 0.5, 2.0]] * 2))


@given(HISTORIES, st.booleans(), st.data())
def test_markov_counts_what_followed_the_last_item(
    histories: list[list[int]], targets_only: bool, data: st.DataObject
) -> None:
    total = sum(map(len, histories))
    kinds = data.draw(st.lists(st.booleans(), min_size=total, max_size=total))
    fold = small_fold(ITEMS, histories, targets=kinds)
    scores = MarkovChain(targets_only).fit(fold).score(fold.asked)

    events = iter(kinds)
    marked = [[(item, next(events)) for item in history] for history in histories]
    popular = [
        sum(i == item and (kind or not targets_only) for row in marked for i, kind in row)
        for item in range(ITEMS)
    ]
    for user, history in enumerate(histories):
        for item in range(ITEMS):
            followed = sum(
                bool(history)
                and row[at][0] == history[-1]
                and row[at + 1][0] == item
                and (row[at + 1][1] or not targets_only)
                for row in marked
                for at in range(len(row) - 1)
            )
            fallback = 0.5 * popular[item] / max(1, *popular)
            assert scores[user, item] == pytest.approx(followed + fallback, rel=1e-5)


@settings(deadline=None)
@given(HISTORIES.filter(lambda rows: sum(map(len, rows)) > 0))
def test_item_knn_sums_the_cosine_similarities(histories: list[list[int]]) -> None:
    fold = small_fold(ITEMS, histories)
    scores = ItemKNN(neighbours=ITEMS).fit(fold).score(fold.asked)
    held = np.array([[item in row for item in range(ITEMS)] for row in histories], dtype=float)
    length = np.sqrt(held.sum(axis=0))
    cosine = np.zeros((ITEMS, ITEMS))
    for a in range(ITEMS):
        for b in range(ITEMS):
            if length[a] and length[b]:
                cosine[a, b] = held[:, a] @ held[:, b] / (length[a] * length[b])
    assert scores == pytest.approx(held @ cosine, abs=1e-5)


def naive_als(held: np.ndarray, factors: int, regularization: float, rounds: int) -> np.ndarray:
    """Alternating least squares at unit confidence, solved exactly (Hu et al. 2008, alpha 1)."""
    rng = np.random.default_rng(0)
    items = rng.normal(scale=0.1, size=(held.shape[1], factors))
    penalty = regularization * np.eye(factors)
    for _ in range(rounds):
        users = np.linalg.solve(items.T @ items + penalty, items.T @ held.T).T
        items = np.linalg.solve(users.T @ users + penalty, users.T @ held).T
    return users @ items.T


def test_matrix_factorisation_finds_the_two_tastes_that_a_naive_one_finds() -> None:
    rng = np.random.default_rng(3)
    histories = [
        rng.choice(np.arange(5) + 5 * (user % 2), 3, replace=False).tolist() for user in range(40)
    ]
    fold = small_fold(10, histories)
    scores = MatrixFactorisation(factors=2, regularization=0.1).fit(fold).score(fold.asked)
    held = np.array([[item in row for item in range(10)] for row in histories], dtype=float)
    expected = naive_als(held, 2, 0.1, 30)
    assert scores == pytest.approx(expected, abs=0.05)


def test_users_without_a_history_get_finite_scores_from_every_baseline() -> None:
    fold = small_fold(10, [[], *[[a, (a + 1) % 10, (a + 2) % 10] for a in range(10)]])
    for group in families(several_kinds=False, clock=True).values():
        for baseline in group:
            assert np.isfinite(baseline.fit(fold).score(fold.asked)).all(), baseline.name


def test_settings_are_chosen_on_validation() -> None:
    # Item 1 sold long ago, item 0 sells now: only recent popularity puts the truth first.
    fold = small_fold(2, [[1, 1, 1], [0, 0]], ages_days=[90, 90, 90, 0, 0])
    found = choose({"popularity": [Popularity(), Popularity(half_life_days=1.0)]}, fold)
    assert found == {"popularity": Popularity(half_life_days=1.0)}


def test_leave_last_takes_the_last_and_bars_what_was_taken() -> None:
    items, users = ("a", "b", "c"), ("u", "v", "w", "x")
    sequences = Ragged.of([[0, 1, 2], [2], [], [1, 0, 1]])
    fold = leave_last(items, users, sequences)
    # v and w have nothing before the truth; x took item 1 already, so nothing could rank it.
    assert fold.asked.tolist() == [0]
    assert fold.truth.row(0).tolist() == [2]
    assert fold.history.row(0).tolist() == [0, 1]
    assert fold.barred.row(0).tolist() == [0, 1]
    validation = leave_last(items, users, sequences, held_out=2)
    assert validation.asked.tolist() == [0, 3]
    assert validation.truth.values.tolist() == [1, 0]
    assert validation.history.row(3).tolist() == [1]
    chain = judge("chain", MarkovChain().fit(fold), fold)
    assert chain.metrics["hr@5"].tolist() == [1.0]
