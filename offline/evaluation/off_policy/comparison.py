"""One policy's value from another's log, by every estimator."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from offline.evaluation.bootstrap import Interval, interval, resampled_means
from offline.evaluation.off_policy.estimate import Estimate, Refused, Resampling, estimate
from offline.evaluation.off_policy.estimators import Estimator
from offline.evaluation.off_policy.open_bandit import POLICIES, Campaign
from offline.evaluation.off_policy.slates import LoggedSlates, Predictions, Values
from offline.evaluation.off_policy.support import Limits
from offline.evaluation.off_policy.weights import RewardModel, summed


@dataclass(frozen=True)
class Comparison:
    """``new``'s value per slate, estimated from ``logged``'s log of ``group``.

    ``rewards``: sum of all that was logged. ``logged_value``: mean of what a logged slate earned.
    ``truth``: the same in ``new``'s own log, where there is one. Percentile bootstrap intervals,
    over slates or over users.
    """

    group: str
    logged: str
    new: str
    slates: int
    rewards: float
    logged_value: Interval
    truth: Interval | None
    results: list[Estimate | Refused]


def compare_policies(
    campaign: Campaign, *, limits: Limits | None = None, resampling: Resampling | None = None
) -> list[Comparison]:
    """Both directions of a campaign of the Open Bandit Dataset."""
    resampling = resampling or Resampling()
    return [
        compare_on(
            campaign.slates(logged, new),
            {RewardModel.PER_POSITION: campaign.predictions(logged, new)},
            group=campaign.name,
            logged=logged,
            new=new,
            truth=_mean(campaign.logs[new].clicks, resampling),
            limits=limits,
            resampling=resampling,
        )
        for logged in POLICIES
        for new in POLICIES
        if new != logged
    ]


def compare_on(
    slates: LoggedSlates,
    predictions: Mapping[RewardModel, Predictions],
    *,
    group: str,
    logged: str,
    new: str,
    truth: Interval | None = None,
    limits: Limits | None = None,
    resampling: Resampling | None = None,
) -> Comparison:
    """Every estimator under each reward model that ``predictions`` name."""
    resampling = resampling or Resampling()
    return Comparison(
        group=group,
        logged=logged,
        new=new,
        slates=len(slates),
        rewards=float(slates.rewards.sum()),
        logged_value=_mean(slates.rewards.sum(axis=1), resampling, slates),
        truth=truth,
        results=[
            estimate(
                slates,
                model,
                estimator,
                predictions=expected,
                limits=limits,
                resampling=resampling,
            )
            for model, expected in predictions.items()
            for estimator in Estimator
        ],
    )


def _mean(values: Values, resampling: Resampling, slates: LoggedSlates | None = None) -> Interval:
    """Mean of ``values`` [n], drawn again by the groups of ``slates``."""
    both = np.stack([values, np.ones_like(values)], axis=1)
    sums = summed(both, None if slates is None else slates.groups)
    means = resampled_means(sums, resamples=resampling.resamples, seed=resampling.seed)
    return interval(float(values.mean()), means[:, 0] / means[:, 1], resampling.confidence)
