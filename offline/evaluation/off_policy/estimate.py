"""An estimate with its interval, or a refusal with its reason."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from offline.evaluation.bootstrap import interval, resampled_means
from offline.evaluation.off_policy.estimators import (
    Estimator,
    Terms,
    choose_threshold,
    doubly_robust,
    ips,
    snips,
    switch_doubly_robust,
    switched_mass,
)
from offline.evaluation.off_policy.slates import Groups, LoggedSlates, Predictions
from offline.evaluation.off_policy.support import Limits, Reason, Support, support
from offline.evaluation.off_policy.weights import RewardModel, summed, weigh
from services.common.errors import InvalidArgument


@dataclass(frozen=True)
class Estimate:
    """Value of a slate under the new policy (the sum of its rewards), with its interval.

    ``low`` and ``high``: percentile bootstrap over slates, or over groups where the log has them.
    ``standard_error``: by the delta method. ``threshold`` and ``switched_mass``: of switch-DR.
    """

    estimator: Estimator
    reward_model: RewardModel
    value: float
    low: float
    high: float
    standard_error: float
    support: Support
    threshold: float | None = None
    switched_mass: float | None = None

    @property
    def effective_sample_size(self) -> float:
        """Effective number of slates (or groups) at the position where it is least."""
        return self.support.effective_sample_size


@dataclass(frozen=True)
class Refused:
    """No estimate: ``reason``, and in ``details`` what was seen and what was asked."""

    estimator: Estimator
    reward_model: RewardModel
    reason: Reason
    details: str
    support: Support


@dataclass(frozen=True)
class Resampling:
    """How intervals are made."""

    resamples: int = 1000
    seed: int = 0
    confidence: float = 0.95


def estimate(
    slates: LoggedSlates,
    model: RewardModel,
    estimator: Estimator,
    *,
    predictions: Predictions | None = None,
    threshold: float | None = None,
    limits: Limits | None = None,
    resampling: Resampling | None = None,
) -> Estimate | Refused:
    """Estimates the new policy's value from ``slates``, or says why it does not.

    ``predictions`` are what DR and switch-DR start from; ``threshold`` is switch-DR's largest
    weight, chosen from the data by default. Raises ``InvalidArgument`` where predictions are
    missing or have another shape.
    """
    limits = limits or Limits()
    weighted = weigh(slates, model)
    found = support(slates, weighted, limits)
    for reason, details in found.lacks(limits):
        return Refused(estimator, model, reason, details, found)
    mass: float | None = None
    if estimator == Estimator.IPS:
        terms = ips(weighted)
    elif estimator == Estimator.SNIPS:
        terms = snips(weighted)
    else:
        if predictions is None:
            raise InvalidArgument.field("predictions", f"{estimator} needs them")
        if predictions.logged.shape != slates.rewards.shape:
            raise InvalidArgument.field("predictions", f"must be {list(slates.rewards.shape)}")
        if estimator == Estimator.DR:
            terms = doubly_robust(weighted, predictions)
        else:
            if threshold is None:
                threshold = choose_threshold(weighted, predictions, most=limits.switched_mass)
            mass = switched_mass(weighted, threshold)
            if mass > limits.switched_mass:
                details = (
                    f"{mass:.1%} of the new policy's mass weighs more than {threshold:g} and would"
                    f" rest on the predictions; at most {limits.switched_mass:.1%} may"
                )
                return Refused(estimator, model, Reason.MOSTLY_PREDICTED, details, found)
            terms = switch_doubly_robust(weighted, predictions, threshold)
    value, error = _value(terms, slates.groups)
    low, high = _bounds(terms, slates.groups, value, resampling or Resampling())
    return Estimate(
        estimator=estimator,
        reward_model=model,
        value=value,
        low=low,
        high=high,
        standard_error=error,
        support=found,
        threshold=None if mass is None else threshold,
        switched_mass=mass,
    )


def _value(terms: Terms, groups: Groups | None) -> tuple[float, float]:
    """The estimate and its standard error, by the delta method for ratios of means."""
    numerators, denominators = summed(terms.numerators, groups), summed(terms.denominators, groups)
    below = denominators.mean(axis=0)
    ratios = numerators.mean(axis=0) / below
    influence = ((numerators - ratios * denominators) / below).sum(axis=1)
    return float(ratios.sum()), float(influence.std() / np.sqrt(len(influence)))


def _bounds(
    terms: Terms, groups: Groups | None, value: float, resampling: Resampling
) -> tuple[float, float]:
    columns = terms.numerators.shape[1]
    both = summed(np.hstack([terms.numerators, terms.denominators]), groups)
    means = resampled_means(both, resamples=resampling.resamples, seed=resampling.seed)
    values = (means[:, :columns] / means[:, columns:]).sum(axis=1)
    found = interval(value, values, resampling.confidence)
    return found.low, found.high
