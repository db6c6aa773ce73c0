"""The formulas: IPS, SNIPS, DR and switch-DR, each over the positions of a slate.

Sums run over n slates i and the positions j of ``Weighted``: w_ij the weight, r_ij the reward, b_ij
the weight before the position's draw, q_ij and v_ij what ``Predictions`` expects of the logged and
of the new policy's items.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from offline.evaluation.off_policy.slates import Predictions, Values
from offline.evaluation.off_policy.weights import RewardModel, Weighted


class Estimator(StrEnum):
    """How a value is estimated."""

    IPS = "ips"
    SNIPS = "snips"
    DR = "dr"
    SWITCH_DR = "switch-dr"


@dataclass(frozen=True)
class Terms:
    """An estimate as a sum of ratios of means: sum over c of mean(numerators) / mean(denominators).

    [n, c] each, a row a slate: what is independent is still apart, to be drawn again.
    """

    numerators: Values
    denominators: Values


def ips(weighted: Weighted) -> Terms:
    """Inverse propensity scores: 1/n sum_i sum_j w_ij r_ij. Unbiased where there is support.

    Horvitz & Thompson 1952. Per position this is the item-position estimator of Li et al. 2018,
    with the model cascade the reward interaction IPS of McInerney et al. 2020.
    """
    return _plain((weighted.weights * weighted.rewards).sum(axis=1))


def snips(weighted: Weighted) -> Terms:
    """Self-normalised IPS: sum_j (sum_i w_ij r_ij / sum_i w_ij).

    Swaminathan & Joachims 2015, "The Self-Normalized Estimator for Counterfactual Learning",
    section 4; by position, as McInerney et al. 2020 normalise the positions of a slate. Consistent,
    with a bias of order 1/n; moves along when every reward is shifted, which IPS does not.
    """
    return Terms(weighted.weights * weighted.rewards, weighted.weights)


def doubly_robust(weighted: Weighted, expected: Predictions) -> Terms:
    """Doubly robust: 1/n sum_i sum_j [b_ij v_ij + w_ij (r_ij - q_ij)].

    Dudík, Langford & Li 2011, "Doubly Robust Policy Evaluation and Learning", equation (1), for one
    position and b = 1; with the models cascade and whole slate the cascade DR of Kiyohara et al.
    2022, "Doubly Robust Off-Policy Evaluation for Ranking Policies under the Cascade Behavior
    Model", whose recursion unrolls to these terms. Unbiased where the propensities are right,
    whatever the predictions.
    """
    return switch_doubly_robust(weighted, expected, np.inf)


def switch_doubly_robust(weighted: Weighted, expected: Predictions, threshold: float) -> Terms:
    """Switch-DR: DR that leaves to the predictions what weighs more than ``threshold``.

    1/n sum_i sum_j [c_ij b_ij v_ij + d_ij w_ij (r_ij - q_ij)], d_ij = 1 where w_ij <= threshold:
    Wang, Agarwal & Dudík 2017, "Optimal and Adaptive Off-policy Evaluation in Contextual Bandits",
    section 4 (SWITCH, with DR in the place of IPS), where c_ij = 1. With the models cascade and
    whole slate, what has switched stays switched: d_ij is 0 from the first position that weighs too
    much, c_ij from the position after it, since the prediction there is of all rewards to the end
    (our extension). Biased by what the predictions miss there.
    """
    kept, reached = _switch(weighted, threshold)
    shown = np.where(kept, weighted.weights * (weighted.rewards - expected.logged), 0.0)
    drawn = np.where(reached, weighted.before * expected.new, 0.0)
    return _plain((drawn + shown).sum(axis=1))


def switched_mass(weighted: Weighted, threshold: float) -> float:
    """Share of the new policy's mass left to the predictions, a mean over positions.

    The mean of w where it switches: E[w 1(switched)] under the logging policy is the probability of
    switching under the new one.
    """
    kept, _ = _switch(weighted, threshold)
    return float(np.where(kept, 0.0, weighted.weights).mean())


def choose_threshold(
    weighted: Weighted, expected: Predictions, *, most: float = 1.0, candidates: int = 20
) -> float:
    """The threshold of least estimated mean squared error: Wang et al. 2017, section 4.1.

    Variance of the estimate, plus the square of an upper bound of its bias: the mass that switches
    at a position times the largest reward that is to be expected there. Candidates are quantiles of
    the weights that leave at most ``most`` of the mass to the predictions; infinity (plain DR) is
    one.
    """
    weights = weighted.weights
    grid = np.unique(np.quantile(weights[weights > 0.0], np.linspace(0.5, 1.0, candidates)))
    bound = _largest_expected(weighted, expected)
    best, least = np.inf, np.inf
    for threshold in (np.inf, *grid[::-1].tolist()):
        if switched_mass(weighted, threshold) > most:
            break
        terms = switch_doubly_robust(weighted, expected, threshold)
        variance = float(terms.numerators.var()) / len(weights)
        kept, reached = _switch(weighted, threshold)
        missed = np.where(reached & ~kept, weights, 0.0).mean(axis=0)
        error = variance + float(missed @ bound) ** 2
        if error < least:
            best, least = threshold, error
    return best


def _largest_expected(weighted: Weighted, expected: Predictions) -> Values:
    """By position [k]: the largest prediction, or the mean logged reward if that is larger."""
    rewards = np.abs(weighted.rewards).mean(axis=0)
    if weighted.model != RewardModel.PER_POSITION:
        rewards = np.cumsum(rewards[::-1])[::-1]
    largest: Values = np.maximum(np.abs(expected.logged).max(axis=0), rewards)
    return largest


def _switch(weighted: Weighted, threshold: float) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Where the log is believed, and where the draw of the position is still to be expected."""
    kept: NDArray[np.bool_] = weighted.weights <= threshold
    reached = np.ones_like(kept)
    if weighted.model != RewardModel.PER_POSITION:
        kept = np.logical_and.accumulate(kept, axis=1)
        reached[:, 1:] = kept[:, :-1]
    return kept, reached


def _plain(totals: Values) -> Terms:
    return Terms(totals[:, None], np.ones((len(totals), 1)))
