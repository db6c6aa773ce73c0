"""Each policy's value from the other's log, by every estimator, beside the truth."""

from __future__ import annotations

from dataclasses import dataclass

from offline.evaluation.bootstrap import Interval, interval, resampled_means
from offline.evaluation.off_policy.estimate import Estimate, Refused, Resampling, estimate
from offline.evaluation.off_policy.estimators import Estimator
from offline.evaluation.off_policy.open_bandit import POLICIES, Campaign
from offline.evaluation.off_policy.support import Limits
from offline.evaluation.off_policy.weights import RewardModel


@dataclass(frozen=True)
class Comparison:
    """``new``'s click rate estimated from ``logged``'s log.

    ``truth``: the click rate in ``new``'s own log, with a percentile bootstrap interval over its
    impressions.
    """

    campaign: str
    logged: str
    new: str
    impressions: int
    clicks: int
    truth: Interval
    results: list[Estimate | Refused]


def compare_policies(
    campaign: Campaign, *, limits: Limits | None = None, resampling: Resampling | None = None
) -> list[Comparison]:
    """Both directions of a campaign."""
    resampling = resampling or Resampling()
    return [
        _compare(campaign, logged, new, limits, resampling)
        for logged in POLICIES
        for new in POLICIES
        if new != logged
    ]


def _compare(
    campaign: Campaign, logged: str, new: str, limits: Limits | None, resampling: Resampling
) -> Comparison:
    slates = campaign.slates(logged, new)
    predictions = campaign.predictions(logged, new)
    own = campaign.logs[new].clicks
    means = resampled_means(own[:, None], resamples=resampling.resamples, seed=resampling.seed)
    return Comparison(
        campaign=campaign.name,
        logged=logged,
        new=new,
        impressions=len(slates),
        clicks=int(slates.rewards.sum()),
        truth=interval(float(own.mean()), means[:, 0], resampling.confidence),
        results=[
            estimate(
                slates,
                RewardModel.PER_POSITION,
                estimator,
                predictions=predictions,
                limits=limits,
                resampling=resampling,
            )
            for estimator in Estimator
        ],
    )
