"""Draws of a small world against the enumeration of all that can come out."""

from __future__ import annotations

import math
from collections import Counter
from functools import cache

import numpy as np
import pytest

from services.common.exploration import base_values, log_propensities
from services.ranker.selection.bound import BoundSelection
from services.ranker.selection.select import select
from services.ranker.types import Drawn, Placement
from tests.unit.services.ranker.slate_worlds import (
    FIVE,
    all_slates,
    conditional,
    feasible_after,
    selection,
    slate_ids,
)

LAMBDA, TEMPERATURE, K = 0.7, 1.2, 3
DRAWS = 4_000
OTHER_WEIGHTS = (0.7, 0.5)
CLICK = (1.0, 0.9, 0.1, 0.2, 0.0)
"""What each item would earn on top."""


def reward(slate: tuple[int, ...]) -> float:
    """What a slate earns: lower positions earn less, and an item less below its like."""
    return sum(
        CLICK[item] / (position + 1) * (0.5 if position and slate[position - 1] > item else 1.0)
        for position, item in enumerate(slate)
    )


@cache
def drawn_slates() -> list[tuple[tuple[int, ...], Drawn]]:
    """Slates of one seed each."""
    plan = BoundSelection(selection(lambda_=LAMBDA, temperature=TEMPERATURE))
    slates = []
    for seed in range(DRAWS):
        found = FIVE.candidates()
        selected = select(plan, found, k=K, seed=seed, now_ms=0, explore=True)
        assert selected.drawn is not None
        assert selected.policy == "softmax"
        slates.append((tuple(slate_ids(found, selected)), selected.drawn))
    return slates


def enumerated(weights: tuple[float, ...] = tuple(FIVE.weights)) -> dict[tuple[int, ...], float]:
    """Probability of every slate under weights."""
    return dict(all_slates(FIVE, K, weights, lambda_=LAMBDA, temperature=TEMPERATURE))


def test_propensities_of_all_slates_sum_to_one() -> None:
    probabilities = enumerated()
    assert sum(probabilities.values()) == pytest.approx(1.0, abs=1e-12)
    # Of the 60 ordered triples those that keep the cap: one of each host, and the fifth.
    assert len(probabilities) == 24


def test_logged_propensities_are_those_of_the_enumeration() -> None:
    probabilities = enumerated()
    seen = {}
    for slate, drawn in drawn_slates():
        seen[slate] = drawn
        for position, item in enumerate(slate):
            prefix = slate[:position]
            options = conditional(
                FIVE, prefix, FIVE.weights, lambda_=LAMBDA, temperature=TEMPERATURE
            )
            assert drawn.log_propensities[position] == pytest.approx(
                math.log(options[item]), abs=1e-5
            )
            ids = [drawn.candidate_ids[at] for at in np.flatnonzero(drawn.feasible[position])]
            assert sorted(ids) == [f"i{n}" for n in feasible_after(FIVE, prefix)]
    assert seen.keys() == probabilities.keys()
    for slate, drawn in seen.items():
        product = math.exp(drawn.log_propensities.sum())
        assert product == pytest.approx(probabilities[slate], rel=1e-4)


def test_slates_come_as_often_as_their_propensities_say() -> None:
    counts = Counter(slate for slate, _ in drawn_slates())
    expected = {slate: p * DRAWS for slate, p in enumerated().items()}
    common = [slate for slate, number in expected.items() if number >= 5]
    rare = sum(number for number in expected.values() if number < 5)
    statistic = sum((counts[s] - expected[s]) ** 2 / expected[s] for s in common)
    if rare:
        statistic += (DRAWS - sum(counts[s] for s in common) - rare) ** 2 / rare
    freedom = len(common) - 1 + bool(rare)
    # Chi-square has mean f and variance 2 f: five deviations are never met by chance.
    assert statistic < freedom + 5 * math.sqrt(2 * freedom)


def recomputed(drawn: Drawn, weights: tuple[float, ...]) -> float:
    """Log-probability of a logged slate under other weights, from what is logged alone."""
    base = base_values(drawn.terms, np.array(weights, np.float32), drawn.adjustments)
    return float(
        log_propensities(
            base,
            drawn.feasible,
            drawn.chosen,
            drawn.similarities,
            temperature=drawn.temperature,
            similarity_weight=drawn.similarity_weight,
        ).sum()
    )


def test_the_log_gives_the_propensities_under_any_weights() -> None:
    other = enumerated(OTHER_WEIGHTS)
    for slate, drawn in drawn_slates()[:200]:
        assert recomputed(drawn, tuple(FIVE.weights)) == pytest.approx(
            drawn.log_propensities.sum(), abs=1e-9
        )
        assert math.exp(recomputed(drawn, OTHER_WEIGHTS)) == pytest.approx(other[slate], rel=1e-4)


def test_inverse_propensities_estimate_the_truth_of_other_weights() -> None:
    truth = sum(p * reward(slate) for slate, p in enumerated(OTHER_WEIGHTS).items())
    logged = sum(p * reward(slate) for slate, p in enumerated().items())
    weighted = [
        math.exp(recomputed(drawn, OTHER_WEIGHTS) - drawn.log_propensities.sum()) * reward(slate)
        for slate, drawn in drawn_slates()
    ]
    error = float(np.std(weighted)) / math.sqrt(DRAWS)
    assert abs(float(np.mean(weighted)) - truth) < 4 * error
    # The two policies differ by more than the estimate can err.
    assert abs(truth - logged) > 8 * error


def test_a_vanishing_temperature_draws_the_deterministic_slate() -> None:
    found = FIVE.candidates()
    sure = select(BoundSelection(selection(lambda_=LAMBDA)), found, k=K, seed=1, now_ms=0)
    cold = BoundSelection(selection(lambda_=LAMBDA, temperature=1e-6))
    drawn = select(cold, found, k=K, seed=1, now_ms=0, explore=True)
    assert drawn.picked.tolist() == sure.picked.tolist()
    assert sure.policy == "mmr"
    assert sure.drawn is None
    assert sure.placements == ()
    assert list(drawn.placements) == [Placement.DRAWN] * K


def test_only_a_share_explores_and_a_seed_decides() -> None:
    spec = selection(temperature=1.0)
    assert spec.exploration is not None
    some = spec.model_copy(
        update={"exploration": spec.exploration.model_copy(update={"share": 0.02})}
    )
    found = FIVE.candidates()
    explored = [
        seed
        for seed in range(5_000)
        if select(BoundSelection(some), found, k=1, seed=seed, now_ms=0, explore=True).drawn
    ]
    assert 60 < len(explored) < 140
    again = select(BoundSelection(some), found, k=1, seed=explored[0], now_ms=0, explore=True)
    assert again.drawn is not None
    held_back = select(BoundSelection(some), found, k=1, seed=explored[0], now_ms=0, explore=False)
    assert held_back.drawn is None
