"""Occlusion in one run, against one run a feature and item."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.explain.attribution import ITEM, USER, VECTOR, Read, attributed
from tests.unit.services.ranker.fakes import DIM, FakeModel

WEIGHTS = np.array([1.0, -0.5], np.float32)
NUMBERS = st.floats(-2, 2, width=16)


class Linear(FakeModel):
    """A model that reads every feature."""

    def score(
        self,
        *,
        user_vector: Float32Array,
        user_features: Float32Array,
        owner: Int64Array,
        item_vector: Float32Array,
        item_features: Float32Array,
        **rest: object,
    ) -> Float32Array:
        del rest
        logits = (user_vector[owner] * item_vector).sum(axis=1, keepdims=True)
        logits = logits + user_features[owner] @ np.array([[1.0, 0.3], [-0.4, 0.2]])
        logits = logits + item_features @ np.array([[0.7, -0.1], [0.2, 0.5]])
        probabilities: Float32Array = (1 / (1 + np.exp(-logits))).astype(np.float32)
        return probabilities


def values(predictions: Float32Array, items: Int64Array) -> Float32Array:
    """Each item has a margin of its own."""
    rated: Float32Array = (predictions @ WEIGHTS) * (1 + items)
    return rated


def scored_alone(read: Read, item: int) -> Float32Array:
    """Probabilities [O] of one item."""
    return Linear().score(
        user_vector=read.vector[None],
        user_features=read.features[None],
        owner=np.zeros(1, np.int64),
        item_vector=read.item_vectors[item][None],
        item_features=read.item_features[item][None],
    )[0]


def without(read: Read, side: str, feature: str, item: int) -> Read:
    """What is read without one feature."""
    if feature == VECTOR:
        if side == USER:
            return replace(read, vector=np.zeros_like(read.vector))
        return replace(read, item_vectors=np.zeros_like(read.item_vectors))
    if side == USER:
        features = read.features.copy()
        at = list(read.user_names).index(feature)
        features[at] = read.user_defaults[at]
        return replace(read, features=features)
    of_items = read.item_features.copy()
    at = list(read.item_names).index(feature)
    of_items[item, at] = read.item_defaults[at]
    return replace(read, item_features=of_items)


@st.composite
def reads(draw: st.DrawFn) -> Read:
    """One user and up to three items."""

    def numbers(*shape: int) -> Float32Array:
        count = int(np.prod(shape))
        listed = draw(st.lists(NUMBERS, min_size=count, max_size=count))
        return np.array(listed, np.float32).reshape(shape)

    items = draw(st.integers(1, 3))
    return Read(
        user_names=("age", "spend"),
        user_defaults=numbers(2),
        vector=numbers(DIM),
        features=numbers(2),
        item_names=("price", "clicks"),
        item_defaults=numbers(2),
        item_vectors=numbers(items, DIM),
        item_features=numbers(items, 2),
        surface=1,
    )


@settings(max_examples=50, deadline=None)
@given(read=reads())
def test_what_a_feature_moved_is_what_is_lost_without_it(read: Read) -> None:
    found = attributed(Linear(), read, values, most=100)
    assert len(found) == len(read.item_vectors)
    for item, moves in enumerate(found):
        told = {(moved.side, moved.feature): moved for moved in moves}
        assert [abs(m.value) for m in moves] == sorted((abs(m.value) for m in moves), reverse=True)
        whole = scored_alone(read, item)
        for side, names in ((USER, read.user_names), (ITEM, read.item_names)):
            for name in (*names, VECTOR):
                less = scored_alone(without(read, side, name, item), item)
                moved = told.get((side, name))
                if moved is None:
                    # It is at its default: nothing is lost.
                    assert less == pytest.approx(whole, abs=1e-7)
                    continue
                assert moved.probabilities == pytest.approx(whole - less, abs=1e-5)
                expected = (whole - less) @ WEIGHTS * (1 + item)
                assert moved.value == pytest.approx(float(expected), abs=1e-4)
                assert math.isnan(moved.feature_value) == (name == VECTOR)


def test_only_the_most_are_told() -> None:
    ones = np.ones(2, np.float32)
    vector = np.ones(DIM, np.float32)
    read = Read(
        ("age", "spend"),
        0 * ones,
        vector,
        ones,
        ("price", "clicks"),
        0 * ones,
        vector[None],
        ones[None],
        1,
    )
    (moves,) = attributed(Linear(), read, values, most=2)
    # Four equal coordinates: without either vector nothing is left of their product.
    assert {moved.feature for moved in moves} == {VECTOR}
