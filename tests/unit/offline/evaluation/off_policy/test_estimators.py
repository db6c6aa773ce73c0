"""The formulas, against numbers worked out by hand and against every slate of a small world."""

import numpy as np
import pytest

from offline.evaluation.off_policy.estimators import (
    Terms,
    choose_threshold,
    doubly_robust,
    ips,
    snips,
    switch_doubly_robust,
    switched_mass,
)
from offline.evaluation.off_policy.slates import LoggedSlates, Predictions, Values
from offline.evaluation.off_policy.weights import RewardModel, effective_size, weigh
from tests.unit.offline.evaluation.off_policy.slate_worlds import SLATES, world

PER_POSITION, CASCADE, WHOLE = RewardModel


def value(terms: Terms) -> float:
    return float((terms.numerators.mean(axis=0) / terms.denominators.mean(axis=0)).sum())


def log(*rows: list[float]) -> Values:
    return np.log(np.array(rows))


# Two slates of two positions; new / logged: 0.5 and 2 in the first, 1.5 and 0.5 in the other.
TINY = LoggedSlates(
    rewards=np.array([[1.0, 0.0], [0.0, 1.0]]),
    log_propensities=log([0.5, 0.25], [0.5, 0.5]),
    new_log_propensities=log([0.25, 0.5], [0.75, 0.25]),
)
ONE_HALF = Predictions(np.full((2, 2), 0.5), np.full((2, 2), 0.5))
TAIL = Predictions(np.array([[1.0, 0.5]] * 2), np.array([[1.0, 0.5]] * 2))


def test_weights_by_hand() -> None:
    # Cascade: 0.5, 0.5 x 2 = 1; 1.5, 1.5 x 0.5 = 0.75. Whole slate: rewards count at the last.
    assert weigh(TINY, PER_POSITION).weights == pytest.approx(np.array([[0.5, 2.0], [1.5, 0.5]]))
    assert weigh(TINY, CASCADE).weights == pytest.approx(np.array([[0.5, 1.0], [1.5, 0.75]]))
    assert weigh(TINY, WHOLE).weights == pytest.approx(np.array([[0.5, 1.0], [1.5, 0.75]]))
    assert weigh(TINY, WHOLE).rewards == pytest.approx(np.array([[0.0, 1.0], [0.0, 1.0]]))
    # (0.5 + 1.5)^2 / (0.25 + 2.25) = 1.6; (2 + 0.5)^2 / (4 + 0.25) = 1.4706.
    sizes = effective_size(weigh(TINY, PER_POSITION).weights)
    assert sizes == pytest.approx([1.6, 6.25 / 4.25])


@pytest.mark.parametrize(
    ("model", "by_ips", "by_snips"),
    [
        # (0.5 x 1 + 0.5 x 1) / 2; 0.5 / 2 + 0.5 / 2.5.
        (PER_POSITION, 0.5, 0.45),
        # (0.5 x 1 + 0.75 x 1) / 2; 0.5 / 2 + 0.75 / 1.75.
        (CASCADE, 0.625, 0.25 + 3.0 / 7.0),
        # Each slate earns 1: (1 + 0.75) / 2; 1.75 / 1.75.
        (WHOLE, 0.875, 1.0),
    ],
)
def test_ips_and_snips_by_hand(model: RewardModel, by_ips: float, by_snips: float) -> None:
    weighted = weigh(TINY, model)
    assert value(ips(weighted)) == pytest.approx(by_ips)
    assert value(snips(weighted)) == pytest.approx(by_snips)


def test_doubly_robust_by_hand() -> None:
    # 0.5 + 0.5 x 0.5 + 0.5 + 2 x (-0.5) = 0.25; 0.5 + 1.5 x (-0.5) + 0.5 + 0.5 x 0.5 = 0.5.
    assert value(doubly_robust(weigh(TINY, PER_POSITION), ONE_HALF)) == pytest.approx(0.375)
    # [1 + 0.5 x 0] + [0.5 x 0.5 + 1 x (-0.5)] = 0.75;
    # [1 + 1.5 x (-1)] + [1.5 x 0.5 + 0.75 x 0.5] = 0.625.
    assert value(doubly_robust(weigh(TINY, CASCADE), TAIL)) == pytest.approx(0.6875)
    # [1 + 0.5 x (-1)] + [0.5 x 0.5 + 1 x (1 - 0.5)] = 1.25;
    # [1 + 1.5 x (-1)] + [1.5 x 0.5 + 0.75 x (1 - 0.5)] = 0.625.
    assert value(doubly_robust(weigh(TINY, WHOLE), TAIL)) == pytest.approx(0.9375)


def test_switch_doubly_robust_by_hand() -> None:
    # Weights above 1 are left to the prediction of 0.5: 0.75 + 0.5; 0.5 + 0.75.
    apart = weigh(TINY, PER_POSITION)
    assert value(switch_doubly_robust(apart, ONE_HALF, 1.0)) == pytest.approx(1.25)
    assert switched_mass(apart, 1.0) == pytest.approx((2.0 + 1.5) / 4)
    # The first slate is kept, 0.75; the other switches at once to the prediction for all of it, 1.
    cascade = weigh(TINY, CASCADE)
    assert value(switch_doubly_robust(cascade, TAIL, 1.0)) == pytest.approx(0.875)
    assert switched_mass(cascade, 1.0) == pytest.approx((1.5 + 0.75) / 4)


@pytest.mark.parametrize("model", RewardModel)
def test_over_every_slate_ips_and_dr_are_exactly_the_truth(model: RewardModel) -> None:
    small = world(model)
    chance = small.logged_probabilities
    every = small.every_slate(model)
    weighted = weigh(every, model)
    assert chance @ weighted.weights == pytest.approx(np.ones(weighted.weights.shape[1]))
    assert float(chance @ ips(weighted).numerators[:, 0]) == pytest.approx(small.truth)
    # Normalising by sums that are expected to be 1 changes nothing in expectation.
    terms = snips(weighted)
    ratios = (chance @ terms.numerators) / (chance @ terms.denominators)
    assert float(ratios.sum()) == pytest.approx(small.truth)
    # Predictions that are nonsense take nothing away from DR.
    nonsense = small.predictions(model, lambda j, items: float(np.sin(7 * j + hash(items) % 11)))
    robust = doubly_robust(weighted, nonsense)
    assert float(chance @ robust.numerators[:, 0]) == pytest.approx(small.truth)


@pytest.mark.parametrize("model", RewardModel)
def test_predictions_that_know_the_world_leave_nothing_to_chance(model: RewardModel) -> None:
    small = world(model)
    every = small.every_slate(model)
    weighted = weigh(every, model)
    exact = small.exact(model)
    for threshold in (0.0, 0.7, 1.0, 1.5, np.inf):
        terms = switch_doubly_robust(weighted, exact, threshold)
        expected = float(small.logged_probabilities @ terms.numerators[:, 0])
        assert expected == pytest.approx(small.truth)
    # No reward differs from what was predicted of it: DR gives the truth of every single slate.
    robust = doubly_robust(weighted, exact)
    assert robust.numerators[:, 0] == pytest.approx(np.full(len(SLATES), small.truth))


@pytest.mark.parametrize(
    ("holds", "assumed"), [(CASCADE, PER_POSITION), (WHOLE, PER_POSITION), (WHOLE, CASCADE)]
)
def test_a_model_that_does_not_hold_is_biased(holds: RewardModel, assumed: RewardModel) -> None:
    small = world(holds, seed=10)
    terms = ips(weigh(small.every_slate(assumed), assumed))
    expected = float(small.logged_probabilities @ terms.numerators[:, 0])
    assert abs(expected - small.truth) > 0.05


@pytest.mark.parametrize(("every", "chosen"), [(2, np.inf), (10, 0.6)])
def test_the_threshold_trades_variance_for_what_predictions_may_miss(
    every: int, chosen: float
) -> None:
    # Two of 2,000 slates weigh w = 400 and carry 0.4 of the mass; one in ``every`` is rewarded, the
    # first of the two among them, and predictions say so. Believed, the two cost a variance of
    # 2 (w / 2)^2 = 0.5 w^2 or (0.9 w)^2 + (0.1 w)^2 = 0.82 w^2, over n^2. Left to the predictions,
    # they cost a bias of at most 2 w / 2 = w or 2 w / 10 = 0.2 w, squared, over n^2.
    weights = np.where(np.arange(2_000) < 2, 400.0, 0.6)[:, None]
    rewards = (np.arange(2_000) % every == 0).astype(np.float64)[:, None]
    logged = LoggedSlates(rewards, np.full((2_000, 1), -6.0), np.log(weights) - 6.0)
    weighted = weigh(logged, WHOLE)
    right = Predictions(*np.full((2, 2_000, 1), 1.0 / every))
    assert choose_threshold(weighted, right) == pytest.approx(chosen)
    assert choose_threshold(weighted, right, most=0.3) == np.inf
