"""When a log says too little of a new policy for an estimate to be given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from offline.evaluation.off_policy.slates import Groups, LoggedSlates, Values
from offline.evaluation.off_policy.weights import Weighted, effective_size, summed


class Reason(StrEnum):
    """Why an estimate is refused."""

    NO_SUPPORT = "no support"
    SMALL_EFFECTIVE_SAMPLE = "small effective sample"
    MEAN_WEIGHT = "mean weight is not 1"
    FEW_REWARDS = "few rewards"
    MOSTLY_PREDICTED = "mostly predicted"


@dataclass(frozen=True)
class Limits:
    """What an estimate needs; the defaults are stated in docs/ranking.md.

    - ``unsupported_mass``: largest share of the new policy's mass on what the logging policy could
      not take (no estimator can learn of it: Sachdeva, Su & Joachims 2020, "Off-policy Bandits with
      Deficient Support").
    - ``effective_sample_size``: least effective number of slates (or groups) at every position.
    - ``mean_weight_errors``: the mean weight is 1 where propensities are right and cover the new
      policy; it may differ by ``unsupported_mass`` and this many standard errors.
    - ``effective_rewards``: least effective number of rewarded slates (or groups), which is what an
      interval of a rare reward rests on.
    - ``switched_mass``: largest share of the new policy's mass that switch-DR may leave to the
      predictions.
    """

    unsupported_mass: float = 0.01
    effective_sample_size: float = 100.0
    mean_weight_errors: float = 4.0
    effective_rewards: float = 10.0
    switched_mass: float = 0.2


@dataclass(frozen=True)
class Support:
    """How much a log says of a new policy under one reward model.

    Of several columns the worst counts. ``unsupported_mass`` is None where the log does not tell
    what could have been taken; ``effective_rewards`` is the effective number of weighted rewards
    that are not 0.
    """

    slates: int
    effective_sample_size: float
    effective_rewards: float
    mean_weight: float
    mean_weight_error: float
    largest_weight: float
    unsupported_mass: float | None

    def lacks(self, limits: Limits) -> Iterator[tuple[Reason, str]]:
        """Each limit that is not kept, with what was seen and what was asked."""
        mass, asked = self.unsupported_mass, limits.unsupported_mass
        if mass is not None and mass > asked:
            yield (
                Reason.NO_SUPPORT,
                f"{mass:.1%} of the new policy's mass is on what the logging policy could not take;"
                f" at most {asked:.1%} may be",
            )
        if self.effective_sample_size < limits.effective_sample_size:
            yield (
                Reason.SMALL_EFFECTIVE_SAMPLE,
                f"{self.slates:,} logged are worth {self.effective_sample_size:,.1f} under the new"
                f" policy; at least {limits.effective_sample_size:,.0f} are asked for",
            )
        away = abs(self.mean_weight - 1.0)
        if away > asked + limits.mean_weight_errors * self.mean_weight_error:
            yield (
                Reason.MEAN_WEIGHT,
                f"it is {self.mean_weight:.3g} with a standard error of"
                f" {self.mean_weight_error:.2g}: the propensities are not those that drew the log,"
                " or it lacks much of what the new policy shows",
            )
        if self.effective_rewards < limits.effective_rewards:
            yield (
                Reason.FEW_REWARDS,
                f"the logged rewards are worth {self.effective_rewards:,.1f} under the new policy;"
                f" at least {limits.effective_rewards:,.0f} are asked for",
            )


def support(slates: LoggedSlates, weighted: Weighted, limits: Limits) -> Support:
    """What ``weighted``, made of ``slates``, rests on. Independent units are groups, if given; the
    mean weight is that of the column furthest beyond what ``limits`` allow."""
    weights = summed(weighted.weights, slates.groups)
    means = weighted.weights.mean(axis=0)
    errors = _mean_errors(weighted.weights, slates.groups)
    column = int(np.argmax(np.abs(means - 1.0) - limits.mean_weight_errors * errors))
    earned = summed(weighted.weights * weighted.rewards, slates.groups).sum(axis=1, keepdims=True)
    totals = weights.sum(axis=0)
    shares = weights.max(axis=0) / np.where(totals > 0.0, totals, 1.0)
    return Support(
        slates=len(slates),
        effective_sample_size=float(effective_size(weights).min()),
        effective_rewards=float(effective_size(earned)[0]),
        mean_weight=float(means[column]),
        mean_weight_error=float(errors[column]),
        largest_weight=float(shares.max()),
        unsupported_mass=None if slates.unsupported is None else float(slates.unsupported.mean()),
    )


def _mean_errors(weights: Values, groups: Groups | None) -> Values:
    """Standard errors [c] of the mean weights, slates of one group being dependent."""
    deviations = summed(weights - weights.mean(axis=0), groups)
    errors: Values = np.sqrt((deviations**2).sum(axis=0)) / len(weights)
    return errors
