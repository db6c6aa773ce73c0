"""Transforms, windows and table reading."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.training.batches import (
    Batch,
    Windows,
    held_out_events,
    training_windows,
    window_batches,
)
from offline.training.data import Histories, right_aligned
from offline.training.measures import area_under_curve, binary_metrics
from offline.training.transforms import BOUND, FeatureTransform


def histories(sizes: list[int]) -> Histories:
    """Users with ``sizes`` events each: items 1, 2, 3 … over all, the last two held out."""
    total = sum(sizes)
    split = np.full(total, "train", object)
    offsets = np.r_[0, np.cumsum(sizes)].astype(np.int64)
    for end, size in zip(offsets[1:], sizes, strict=True):
        split[end - min(size, 1) : end] = "test"
        split[max(end - 2, end - size) : end - 1] = "validation"
    items = np.arange(1, total + 1, dtype=np.int64)
    ones = np.ones(total, int)
    return Histories(items, items - 1, ones, ones.copy(), 10 * items, split, offsets)


def drawn_batches(data: Histories, windows: Windows, ahead: int) -> Iterator[Batch]:
    return window_batches(data, windows, tokens=64, ahead=ahead, random=np.random.default_rng(0))


def test_targets_are_drawn_from_the_next_training_events() -> None:
    data = histories([40, 3])
    windows = training_windows(data, 50)
    drawn = set()
    for batch in drawn_batches(data, windows, 4):
        row, place = np.nonzero(batch.targets >= 0)
        targets, inputs = batch.targets[row, place], batch.items[row, place]
        # An input item n is row n - 1, so the next event is row n; 0 starts the user anew.
        after = np.where(inputs > 0, targets - inputs, 0)
        assert np.array_equal(batch.asked_ms[row, place], data.times_ms[targets])
        assert ((after >= 0) & (after < 4)).all()
        assert set(data.split[targets]) == {"train"}
        drawn |= set(after.tolist())
    assert drawn == {0, 1, 2, 3}


@settings(deadline=None)
@given(st.lists(st.integers(1, 30), min_size=1, max_size=20), st.integers(1, 9))
def test_every_training_event_is_predicted_once_from_the_one_before(
    sizes: list[int], length: int
) -> None:
    data = histories(sizes)
    windows = training_windows(data, length)
    predicted = []
    for batch in drawn_batches(data, windows, 1):
        assert batch.items.shape[1] <= length
        kept = batch.targets >= 0
        targets, inputs = batch.targets[kept], batch.items[kept]
        predicted.extend(targets.tolist())
        owner = np.searchsorted(data.offsets, targets, side="right") - 1
        first = targets == data.offsets[owner]
        # Items count up from 1, so the input before target row t is item t, unless it is a first.
        assert np.array_equal(inputs, np.where(first, 0, targets))
        assert (batch.items[~kept] == 0).all()
    assert sorted(predicted) == np.flatnonzero(data.split == "train").tolist()


def test_held_out_events_see_what_training_ends_with() -> None:
    held_out = held_out_events(
        histories([5, 3]),
        length=4,
        limit=10,
        final_actions=(1,),
        random=np.random.default_rng(0),
    )
    assert held_out.targets.tolist() == [3, 6]
    assert held_out.items.tolist() == [[0, 1, 2, 3], [0, 0, 0, 6]]
    assert held_out.taken.tolist() == [[0, 0, 0, 1], [0, 1, 2, 5]]
    assert held_out.asked_ms == 40


def test_where_validation_has_final_actions_only_they_are_asked_for() -> None:
    data = histories([6])
    data.split[3:6] = "validation"
    data.actions[:] = [2, 2, 2, 2, 1, 2]
    held_out = held_out_events(
        data, length=4, limit=10, final_actions=(1,), random=np.random.default_rng(0)
    )
    assert held_out.targets.tolist() == [4]


def test_a_validation_event_tells_nothing_about_the_next() -> None:
    data = histories([6])
    data.split[3:5] = "validation"
    held_out = held_out_events(
        data, length=4, limit=10, final_actions=(), random=np.random.default_rng(0)
    )
    assert held_out.targets.tolist() == [3, 4]
    assert held_out.items.tolist() == [[0, 1, 2, 3]] * 2


def test_only_final_actions_take_an_item_and_taken_items_are_not_asked_for() -> None:
    data = histories([5, 3])
    data.actions[:] = 2
    data.actions[1] = 1
    data.targets[3] = data.targets[1]
    held_out = held_out_events(
        data, length=4, limit=10, final_actions=(1,), random=np.random.default_rng(0)
    )
    assert held_out.targets.tolist() == [6]
    assert held_out.taken.shape == (2, 0)


@settings(deadline=None)
@given(st.lists(st.lists(st.sampled_from("abcx"), max_size=7), min_size=1, max_size=8))
def test_lists_are_right_aligned_and_cut_to_the_latest(rows: list[list[str]]) -> None:
    column = pa.chunked_array([pa.array(rows, pa.list_(pa.string()))])
    found = right_aligned(column, pa.array(["a", "b", "c"]), 4)
    for row, codes in zip(rows, found, strict=True):
        expected = [" abcx".index(v) % 4 for v in row][-4:]
        assert codes.tolist() == [0] * (4 - len(expected)) + expected


def test_transform_standardises_bounds_and_ignores_what_never_varied() -> None:
    rows = np.array([[0.0, 1.0, 5.0], [9.0, 3.0, 5.0], [99.0, 5.0, 5.0]], np.float32)
    transform = FeatureTransform([True, False, False])
    transform.fit(rows)
    found = transform(torch.from_numpy(rows))
    logged = np.log1p(rows[:, 0])
    np.testing.assert_allclose(found[:, 0], (logged - logged.mean()) / logged.std(), rtol=1e-5)
    assert found[:, 2].abs().max() == 0
    far = transform(torch.tensor([[1e30, -1e30, 7.0]]))
    assert far.tolist() == [[BOUND, -BOUND, 0.0]]
    assert transform(transform.neutral().unsqueeze(0)).abs().max() < 1e-5


def test_area_under_curve_counts_pairs_with_ties_half() -> None:
    scores, labels = np.array([3.0, 1.0, 1.0, 0.0]), np.array([1, 1, 0, 0], np.float32)
    pairs = [1.0, 1.0, 0.5, 1.0]
    assert area_under_curve(scores, labels) == pytest.approx(np.mean(pairs))


def test_calibration_is_predicted_over_observed() -> None:
    found = binary_metrics(np.zeros(4, np.float32), np.array([1, 0, 0, 0], np.float32))
    assert found["calibration"] == pytest.approx(2.0)
    assert found["logloss"] == pytest.approx(np.log(2.0))
    assert found["auc"] == 0.5
    assert "auc" not in binary_metrics(np.zeros(2, np.float32), np.zeros(2, np.float32))
