"""Diversity by determinants, against determinants computed as such."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.exploration import log_propensities
from services.ranker.arrays import Float32Array, Float64Array
from services.ranker.selection.bound import BoundPin, BoundSelection
from services.ranker.selection.dpp import MOST_LOST, REMEMBERED, Determinant
from services.ranker.selection.select import select
from services.ranker.types import Placement
from tests.unit.services.ranker.slate_worlds import FIVE, World, picked, selection, slate_ids

DIM = 6
# Half of a 255th: what is lost is rounded to whole ones.
ROUNDING = MOST_LOST / 255 / 2 + 1e-3
NONE: Float32Array = np.zeros((0, DIM), np.float32)


def vectors_of(count: int, seed: int) -> Float32Array:
    return np.random.default_rng(seed).normal(size=(count, DIM)).astype(np.float32)


def volume(vectors: Float32Array, members: Sequence[int]) -> float:
    """det S of some members, S = (1 + cosine) / 2."""
    unit = vectors[list(members)].astype(np.float64)
    unit /= np.linalg.norm(unit, axis=1, keepdims=True)
    return float(np.linalg.det((1 + unit @ unit.T) / 2))


def lost(vectors: Float32Array, above: Sequence[int], member: int) -> float:
    """-log of the share of its volume that is left of a member, at most ``MOST_LOST``."""
    left = volume(vectors, [*above, member]) / volume(vectors, above)
    return min(MOST_LOST, -math.log(max(left, 1e-12)))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), count=st.integers(1, 8), data=st.data())
def test_what_is_lost_is_the_ratio_of_determinants(
    seed: int, count: int, data: st.DataObject
) -> None:
    vectors = vectors_of(count, seed)
    above = data.draw(st.permutations(range(count)))[: data.draw(st.integers(1, min(count, 5)))]
    determinant = Determinant(vectors, NONE)
    found: list[Float64Array] = [determinant.losses(member, MOST_LOST) for member in above]
    for placed in range(1, len(above) + 1):
        for member in range(count):
            if member not in above[:placed]:
                expected = lost(vectors, above[:placed], member)
                assert found[placed - 1][member] == pytest.approx(expected, abs=ROUNDING)
    # What is lost never comes back, and placing a member again changes nothing.
    assert all((after >= before).all() for before, after in pairwise(found))
    for member, before in zip(above, found, strict=True):
        np.testing.assert_array_equal(determinant.losses(member, MOST_LOST), before)
        np.testing.assert_allclose(determinant.to(member) * (MOST_LOST / 255), before, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    count=st.integers(1, 8),
    k=st.integers(1, 5),
    theta=st.sampled_from([0.3, 0.7, 0.95]),
)
def test_a_slate_is_greedy_by_its_determinants(seed: int, count: int, k: int, theta: float) -> None:
    vectors = vectors_of(count, seed)
    values = np.random.default_rng(seed + 1).normal(size=count)
    world = World([[v] for v in values.tolist()], [1.0], [0] * count, vectors.tolist())
    found = picked(world, selection(lambda_=theta, kind="dpp"), k)
    base = world.values.astype(np.float64)
    cost = (1 - theta) / theta * (float(np.std(base)) or 1.0)
    assert len(found) == min(k, count)
    for position, chosen in enumerate(found):
        above = found[:position]
        worth = {
            n: base[n] - cost * (lost(vectors, above, n) if above else 0.0)
            for n in range(count)
            if n not in above
        }
        assert worth[chosen] >= max(worth.values()) - 2 * cost * ROUNDING - 1e-6


def test_what_two_items_say_together_counts_where_mmr_sees_the_nearest_alone() -> None:
    # The last lies between the first two: neither is very near, together they say it.
    world = World(
        terms=[[1.0], [0.99], [0.9], [0.88]],
        weights=[1.0],
        hosts=[0] * 4,
        vectors=[[1.0, 0, 0], [0, 1.0, 0], [0.7071, 0.7071, 0], [0.42, 0.42, 0.81]],
    )
    assert picked(world, selection(lambda_=0.5, kind="dpp"), 3)[:2] == [0, 1]
    assert picked(world, selection(lambda_=0.5, kind="dpp"), 3)[2] == 3


def test_copies_and_items_without_a_vector_are_placed_without_harm() -> None:
    vectors = np.array([[1.0, 0.0]] * 3 + [[0.0, 0.0]] * 2, np.float32)
    determinant = Determinant(vectors, np.zeros((0, 2), np.float32))
    after_one = determinant.losses(0, MOST_LOST)
    assert after_one[1] == after_one[2] == pytest.approx(MOST_LOST)
    # Half alike to anything: what is left is 1 - 1/4.
    assert after_one[3] == pytest.approx(-math.log(0.75), abs=ROUNDING)
    for member in (1, 2, 3, 4):
        assert np.isfinite(determinant.losses(member, MOST_LOST)).all()


def test_a_slate_may_be_longer_than_the_vectors_have_dimensions() -> None:
    vectors = vectors_of(50, 5)
    vectors[40:] = 0.0
    determinant = Determinant(vectors, NONE)
    for member in range(50):
        after = determinant.losses(member, MOST_LOST)
    # What has a vector is said by then, by seven; what has none is half alike to all, and alone.
    assert after[:40] == pytest.approx(np.full(40, MOST_LOST))
    assert Determinant(vectors, NONE).losses(0, MOST_LOST)[45] < 0.3


def test_earlier_pages_count_as_if_they_stood_above() -> None:
    vectors = vectors_of(6, 3)
    determinant = Determinant(vectors[:4], vectors[4:])
    assert determinant.first is not None
    for member in range(4):
        expected = lost(vectors, [4, 5], member)
        assert determinant.first[member] * MOST_LOST / 255 == pytest.approx(expected, abs=ROUNDING)
    # Of a long session the last items count.
    session = vectors_of(REMEMBERED + 30, 4)
    remembered = Determinant(vectors[:4], session[-REMEMBERED:])
    assert remembered.first is not None
    np.testing.assert_array_equal(Determinant(vectors[:4], session).first, remembered.first)


def test_pins_count_and_draws_can_be_computed_again_from_the_log() -> None:
    plan = BoundSelection(
        selection(lambda_=0.6, temperature=0.8, kind="dpp"), pins=(BoundPin(1, 4, -1),)
    )
    found = FIVE.candidates()
    drawn_slates = set()
    for seed in range(40):
        chosen = select(plan, found, k=3, seed=seed, now_ms=0, explore=True)
        slate, drawn = slate_ids(found, chosen), chosen.drawn
        drawn_slates.add(tuple(slate))
        assert slate[1] == 4
        assert chosen.placements[1] is Placement.PIN
        assert drawn is not None
        base = (drawn.terms @ drawn.weights).astype(np.float64)
        again = log_propensities(
            base,
            drawn.feasible,
            drawn.chosen,
            drawn.similarities,
            temperature=drawn.temperature,
            similarity_weight=drawn.similarity_weight,
        )
        assert again == pytest.approx(drawn.log_propensities, abs=1e-9)
    assert len(drawn_slates) > 2


def test_a_vanishing_temperature_draws_the_deterministic_slate() -> None:
    found = FIVE.candidates()
    sure = select(BoundSelection(selection(lambda_=0.6, kind="dpp")), found, k=3, seed=1, now_ms=0)
    cold = BoundSelection(selection(lambda_=0.6, temperature=1e-6, kind="dpp"))
    drawn = select(cold, found, k=3, seed=1, now_ms=0, explore=True)
    assert drawn.picked.tolist() == sure.picked.tolist()
    assert sure.policy == "dpp"
