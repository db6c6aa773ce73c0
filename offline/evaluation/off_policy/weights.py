"""Importance weights, and what they rest on: a model of what a reward depends on."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from offline.evaluation.off_policy.slates import Groups, LoggedSlates, Values

# A log-weight above it is cut, so that squares stay finite: such weights are refused anyhow.
_LARGEST_LOG_WEIGHT = 300.0


class RewardModel(StrEnum):
    """What the reward at a position depends on, apart from the user and the moment.

    The weaker the assumption, the larger the weights. An estimate is right only where its
    assumption holds.
    """

    PER_POSITION = "per position"
    """The item there alone: item-position model (Li et al. 2018, "Offline Evaluation of Ranking
    Policies with Click Models")."""
    CASCADE = "cascade"
    """The items there and before: McInerney et al. 2020, "Counterfactual Evaluation of Slate
    Recommendations with Sequential Reward Interactions"."""
    WHOLE_SLATE = "whole slate"
    """Every item of the slate: the product of conditionals, without an assumption."""


@dataclass(frozen=True)
class Weighted:
    """Rewards [n, k] with their weights [n, k], a column a position.

    ``before`` [n, k] weighs what is expected before a position's item is drawn: the weight of the
    position before, or 1 per position.
    """

    model: RewardModel
    rewards: Values
    weights: Values
    before: Values


def weigh(slates: LoggedSlates, model: RewardModel) -> Weighted:
    """The weights that ``model`` gives, with pi the new and mu the logging policy.

    - per position: pi(a_j at j) / mu(a_j at j), marginal probabilities;
    - cascade: product over l <= j of pi(a_l | a_1..a_l-1) / mu(a_l | a_1..a_l-1);
    - whole slate: the same, with every reward counted at the last position, where the product is
      that of all conditionals.
    """
    ratios = slates.new_log_propensities - slates.log_propensities
    if model == RewardModel.PER_POSITION:
        weights = _exp(ratios)
        return Weighted(model, slates.rewards, weights, np.ones_like(weights))
    weights = _exp(np.cumsum(ratios, axis=1))
    before = np.hstack([np.ones((len(slates), 1)), weights[:, :-1]])
    rewards = slates.rewards
    if model == RewardModel.WHOLE_SLATE:
        rewards = np.zeros_like(rewards)
        rewards[:, -1] = slates.rewards.sum(axis=1)
    return Weighted(model, rewards, weights, before)


def summed(values: Values, groups: Groups | None) -> Values:
    """Sums [g, c] of ``values`` [n, c] by group; the values themselves without groups."""
    if groups is None:
        return values
    present, places = np.unique(groups, return_inverse=True)
    sums = np.zeros((len(present), values.shape[1]))
    np.add.at(sums, places, values)
    return sums


def effective_size(weights: Values) -> Values:
    """Effective number of ``weights`` [n, c], by column [c]: (sum w)^2 / sum w^2 (Kong 1992)."""
    scale = np.abs(weights).max(axis=0)
    scaled = weights / np.where(scale > 0.0, scale, 1.0)
    squares = (scaled**2).sum(axis=0)
    sums = np.abs(scaled).sum(axis=0)
    return np.where(squares > 0.0, sums**2 / np.where(squares > 0.0, squares, 1.0), 0.0)


def _exp(log_weights: Values) -> Values:
    return np.exp(np.minimum(log_weights, _LARGEST_LOG_WEIGHT))
