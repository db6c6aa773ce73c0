"""Small worlds of slates whose every probability and expected reward can be written out."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from math import exp, prod

import numpy as np

from offline.evaluation.off_policy.slates import LoggedSlates, Predictions, Values
from offline.evaluation.off_policy.weights import RewardModel

ITEMS, POSITIONS = 4, 3
SLATES = list(permutations(range(ITEMS), POSITIONS))


@dataclass(frozen=True)
class Policy:
    """Draws positions one after the other, without replacement: softmax of ``scores`` [items]."""

    scores: Values

    def conditional(self, prefix: tuple[int, ...], item: int) -> float:
        """Probability of ``item`` after ``prefix``, by the definition."""
        if item in prefix:
            return 0.0
        left = [i for i in range(ITEMS) if i not in prefix]
        return exp(self.scores[item]) / sum(exp(self.scores[i]) for i in left)

    def probability(self, slate: tuple[int, ...]) -> float:
        """Probability of a whole slate."""
        return prod(self.conditional(slate[:j], item) for j, item in enumerate(slate))

    def marginal(self, position: int, item: int) -> float:
        """Probability of ``item`` at ``position``, whatever stands elsewhere."""
        return sum(self.probability(slate) for slate in SLATES if slate[position] == item)


@dataclass(frozen=True)
class World:
    """Two policies and the chance [slates, positions] of a reward at each place of a slate."""

    logging: Policy
    new: Policy
    chances: Values

    @cached_property
    def truth(self) -> float:
        """Expected sum of rewards under the new policy."""
        return float(self.new_probabilities @ self.chances.sum(axis=1))

    @cached_property
    def logged_probabilities(self) -> Values:
        """Probability of each of ``SLATES`` under the logging policy."""
        return np.array([self.logging.probability(slate) for slate in SLATES])

    @cached_property
    def new_probabilities(self) -> Values:
        """Probability of each of ``SLATES`` under the new policy."""
        return np.array([self.new.probability(slate) for slate in SLATES])

    def log_propensities(self, policy: Policy, model: RewardModel) -> Values:
        """What ``LoggedSlates`` wants of ``policy`` for each of ``SLATES``, [slates, positions]."""
        marginal = model == RewardModel.PER_POSITION
        return np.log(
            [
                [
                    policy.marginal(j, item) if marginal else policy.conditional(slate[:j], item)
                    for j, item in enumerate(slate)
                ]
                for slate in SLATES
            ]
        )

    def every_slate(self, model: RewardModel) -> LoggedSlates:
        """Each possible slate once, with its expected rewards."""
        return LoggedSlates(
            self.chances,
            self.log_propensities(self.logging, model),
            self.log_propensities(self.new, model),
        )

    def predictions(
        self, model: RewardModel, tail: Callable[[int, tuple[int, ...]], float]
    ) -> Predictions:
        """Predictions for ``every_slate``, from what is predicted of ``model``'s actions.

        ``tail(j, items)``: per position of ``(item,)`` at j, else of the prefix up to and with j.
        """
        logged, new = np.zeros((2, len(SLATES), POSITIONS))
        for row, slate in enumerate(SLATES):
            for j in range(POSITIONS):
                if model == RewardModel.PER_POSITION:
                    logged[row, j] = tail(j, (slate[j],))
                    new[row, j] = sum(
                        self.new.marginal(j, item) * tail(j, (item,)) for item in range(ITEMS)
                    )
                else:
                    logged[row, j] = tail(j, slate[: j + 1])
                    new[row, j] = sum(
                        self.new.conditional(slate[:j], item) * tail(j, (*slate[:j], item))
                        for item in range(ITEMS)
                        if item not in slate[:j]
                    )
        return Predictions(logged, new)

    def exact(self, model: RewardModel) -> Predictions:
        """Predictions that know the world."""

        def tail(j: int, items: tuple[int, ...]) -> float:
            """Expected rewards, conditional on ``items``, with the new policy for the rest."""
            if model == RewardModel.PER_POSITION:
                rows = [r for r, slate in enumerate(SLATES) if slate[j] == items[0]]
                return float(self.chances[rows, j].mean())
            rows = [r for r, slate in enumerate(SLATES) if slate[: j + 1] == items]
            shares = self.new_probabilities[rows]
            first = 0 if model == RewardModel.WHOLE_SLATE else j
            return float(shares @ self.chances[rows, first:].sum(axis=1) / shares.sum())

        return self.predictions(model, tail)

    def sample_rows(self, slates: int, rng: np.random.Generator) -> np.ndarray:
        """Places in ``SLATES`` that the logging policy draws."""
        return rng.choice(len(SLATES), size=slates, p=self.logged_probabilities)


def world(model: RewardModel, seed: int = 3) -> World:
    """A world in which ``model`` holds and nothing weaker does."""
    rng = np.random.default_rng(seed)
    appeal = rng.uniform(0.1, 0.9, (POSITIONS, ITEMS))
    chances = np.array([[appeal[j, item] for j, item in enumerate(slate)] for slate in SLATES])
    if model == RewardModel.CASCADE:
        # An item is worth less after one that was worth more.
        chances[:, 1:] *= 1.0 - 0.8 * chances[:, :-1]
    elif model == RewardModel.WHOLE_SLATE:
        # The item at the end decides over the whole slate.
        chances = chances * (0.2 + 0.8 * appeal[0, [slate[-1] for slate in SLATES]])[:, None]
    return World(Policy(rng.normal(0.0, 0.5, ITEMS)), Policy(rng.normal(0.0, 0.7, ITEMS)), chances)
