"""What goes with what, against a ridge regression of each item on all the others."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from offline.dataset.tables import TRAIN, VALIDATION
from offline.training import affinities
from offline.training.affinities import RIDGE, fit_affinities
from offline.training.data import Histories
from services.common.errors import FailedPrecondition

ITEMS, USERS = 7, 300


def histories() -> Histories:
    """Random users; the last event of each is held back, and code 0 is an unknown item."""
    random = np.random.default_rng(0)
    lengths = random.integers(2, 9, USERS)
    offsets = np.r_[0, np.cumsum(lengths)]
    items = np.minimum(random.integers(0, ITEMS + 1, lengths.sum()), random.integers(2, 20))
    split = np.full(len(items), TRAIN, object)
    split[offsets[1:] - 1] = VALIDATION
    none = np.zeros(len(items), np.int64)
    return Histories(items, items - 1, none, none, none, split, offsets)


def test_weights_are_those_of_ridge_regressions() -> None:
    known = histories()
    met = np.zeros((USERS, ITEMS + 1))
    for user in range(USERS):
        met[user, known.items[known.offsets[user] : known.offsets[user + 1] - 1]] = 1
    table = fit_affinities(known, ITEMS)
    found = np.zeros((ITEMS + 1, ITEMS + 1))
    np.put_along_axis(found, table.rows, table.weights, axis=1)
    for item in range(1, ITEMS + 1):
        others = [n for n in range(1, ITEMS + 1) if n != item]
        x, y = met[:, others], met[:, item]
        expected = np.linalg.solve(x.T @ x + RIDGE * np.eye(len(others)), x.T @ y)
        np.testing.assert_allclose(found[others, item], expected, atol=1e-9)
        assert found[item, item] == 0
    assert not found[0].any()
    assert not found[:, 0].any()


def test_of_each_item_the_largest_weights_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = fit_affinities(histories(), ITEMS)
    monkeypatch.setattr(affinities, "KEPT", 3)
    some = fit_affinities(histories(), ITEMS)
    assert some.rows.shape == (ITEMS + 1, 3)
    for all_of, kept in zip(whole.weights[1:], some.weights[1:], strict=True):
        largest = np.sort(np.abs(all_of))[-3:]
        np.testing.assert_allclose(np.sort(np.abs(kept)), largest)


def test_what_is_held_back_is_not_read() -> None:
    known = histories()
    changed = known.items.copy()
    changed[known.split == VALIDATION] = 1
    other = fit_affinities(replace(known, items=changed), ITEMS)
    np.testing.assert_array_equal(other.weights, fit_affinities(known, ITEMS).weights)


def test_a_large_vocabulary_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match=r"at most 10,000 items, .* has 10,001"):
        fit_affinities(histories(), 10_001)
