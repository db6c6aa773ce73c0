"""How many units an experiment needs, and what it can see.

Not by tea-tasting's solver, which ends in nan for arms of unequal size and for effects that many
units see; where it ends in a number, tests hold ours against it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from scipy.optimize import brentq
from scipy.special import nctdtr, ndtr, stdtrit

from offline.analysis.statistics.arrays import MAX_MAGNITUDE
from offline.analysis.statistics.comparison import satterthwaite
from offline.analysis.statistics.means import ratio_variance
from offline.analysis.statistics.sequences import boundary_at_horizon
from services.common.errors import InvalidArgument

# Searched for at most so many units an arm: more than any experiment has.
MOST_UNITS = 1e12
MOST_VARIATION = 1e6
LEAST_SHARE = 1e-9


@dataclass(frozen=True)
class Baseline:
    """A metric as it is without treatment: ``mean``, ``variance`` of a unit's value.

    ``proportion``: values are 0 or 1, so that a treatment that changes the mean changes the
    variance with it.
    """

    mean: float
    variance: float
    proportion: bool = False


@dataclass(frozen=True)
class Clustering:
    """Units come in clusters of ``mean_size`` (coefficient of variation ``size_variation``), whose
    values correlate by ``intraclass_correlation``; whole clusters are randomised."""

    mean_size: float
    intraclass_correlation: float
    size_variation: float = 0.0

    @property
    def design_effect(self) -> float:
        """How many times as large the variance is as that of as many units on their own.

        1 + ((1 + cv²) m - 1) ICC: Eldridge, Ashby & Kerry 2006, "Sample size for cluster randomized
        trials: effect of coefficient of variation of cluster size", equation 2.
        """
        size = (1.0 + self.size_variation**2) * self.mean_size
        return 1.0 + (size - 1.0) * self.intraclass_correlation


@dataclass(frozen=True)
class Design:
    """What an experiment promises and how it is analysed.

    ``treatment_share``: of both arms' units; ``explained``: share of the variance that covariates
    take away (the squared multiple correlation); ``always_valid``: it must be found by a sequence
    tuned for the horizon, at the horizon at the latest.
    """

    alpha: float = 0.05
    power: float = 0.8
    treatment_share: float = 0.5
    explained: float = 0.0
    clustering: Clustering | None = None
    always_valid: bool = False


@dataclass(frozen=True)
class Needed:
    """Units of each arm and, of clustered designs, clusters of each."""

    control_units: int
    treatment_units: int
    control_clusters: int | None = None
    treatment_clusters: int | None = None

    @property
    def units(self) -> int:
        """Of both arms."""
        return self.control_units + self.treatment_units


def proportion(share: float) -> Baseline:
    """Of units that do something, such as buy: mean and variance of 0 and 1."""
    if not 0.0 < share < 1.0:
        raise InvalidArgument.field("share", f"must lie between 0 and 1, is {share}")
    return Baseline(share, share * (1.0 - share), proportion=True)


def ratio_baseline(
    numerator_mean: float,
    denominator_mean: float,
    numerator_variance: float,
    denominator_variance: float,
    covariance: float,
) -> Baseline:
    """Of a ratio of sums."""
    # A square of what is smaller is 0.
    if not abs(denominator_mean) * MAX_MAGNITUDE >= 1.0:
        raise InvalidArgument.field("denominator_mean", f"must not be 0, is {denominator_mean}")
    variance = ratio_variance(
        numerator_mean, denominator_mean, numerator_variance, denominator_variance, covariance
    )
    return Baseline(numerator_mean / denominator_mean, float(variance))


def needed(baseline: Baseline, effect: float, design: Design) -> Needed:
    """Units to find ``effect`` (absolute, in the metric's unit) with the design's power.

    Of a t test with Welch's degrees of freedom and the noncentral t distribution (Cohen 1988,
    section 2.2); finding the wrong sign is no power. Each cluster counts as an observation, its
    variance the unit's times design effect / mean size.
    Raises InvalidArgument for an effect of 0, a variance of 0, and shares outside their ranges.
    """
    _check(baseline, design)
    if effect == 0.0 or not math.isfinite(effect):
        raise InvalidArgument.field("effect", f"must be a number other than 0, is {effect}")
    variance = _variance(baseline, effect, design)
    return _needed(abs(effect), variance, design, field="effect", asked=effect)


def _needed(
    effect: float,
    variance: float,
    design: Design,
    *,
    field: str,
    asked: float,
    factor: float = 1.0,
) -> Needed:
    """``asked`` for as ``field``: for what says that it is too much."""
    fewest, most = 2.0 / min(design.treatment_share, 1.0 - design.treatment_share), MOST_UNITS

    def lacking(units_log: float) -> float:
        return design.power - _power(effect, variance, math.exp(units_log), design, factor)

    if lacking(math.log(most)) > 0.0:
        raise InvalidArgument.field(field, f"{asked:g} needs more than {most:g} units")
    total = fewest
    if lacking(math.log(fewest)) > 0.0:
        total = math.exp(brentq(lacking, math.log(fewest), math.log(most), xtol=1e-12))
    arms = [
        math.ceil(total * share - 1e-6)
        for share in (1.0 - design.treatment_share, design.treatment_share)
    ]
    if design.clustering is None:
        return Needed(*arms)
    size = design.clustering.mean_size
    return Needed(math.ceil(arms[0] * size), math.ceil(arms[1] * size), arms[0], arms[1])


def needed_to_hold(
    baseline: Baseline, margin: float, design: Design, *, less_is_better: bool = False
) -> Needed:
    """Units to show that a guardrail holds, where treatment changes nothing.

    It holds where the relative interval at 1 - alpha lies within ``margin``, a share of the
    baseline's mean, on the side that is worse: a one-sided test at alpha / 2 of treatment -
    (1 - margin) control > 0 (Fieller's interval leaves the margin out exactly there); of the
    noncentral t distribution, as Hauschke, Kieser, Diletti & Burke 1999, "Sample Size Determination
    for Proving Equivalence Based on the Ratio of Two Means", have it. With ``less_is_better`` the
    margin is above. Raises as ``needed`` does, and for a margin outside (0, 1) or a mean of 0.
    """
    if not 0.0 < margin < 1.0:
        raise InvalidArgument.field("margin", f"must lie between 0 and 1, is {margin}")
    if baseline.mean == 0.0:
        raise InvalidArgument.field("mean", "is 0: no margin is a share of it")
    _check(baseline, design)
    # Of a negative mean the worse side is away from zero.
    grows = less_is_better == (baseline.mean > 0.0)
    factor = 1.0 + margin if grows else 1.0 - margin
    size, variance = margin * abs(baseline.mean), _variance(baseline, 0.0, design)
    return _needed(size, variance, design, field="margin", asked=margin, factor=factor)


def minimum_effect(baseline: Baseline, units: float, design: Design) -> float:
    """The smallest increase that ``units`` (both arms) find with the design's power, absolute.

    Raises InvalidArgument for units (of clusters: clusters) that leave an arm with less than two,
    and where no share of 1 or less is found.
    """
    _check(baseline, design)
    observations = _observations(units, design)
    deviation = math.sqrt(_variance(baseline, 0.0, design) / observations)
    most = min(1e6 * deviation, 1.0 - 1e-9 - baseline.mean if baseline.proportion else math.inf)

    def lacking(effect: float) -> float:
        variance = _variance(baseline, effect, design)
        return design.power - _power(effect, variance, observations, design)

    if lacking(most) > 0.0:
        raise InvalidArgument.field("units", f"{units:g} find no effect")
    return float(brentq(lacking, 0.0, most, xtol=1e-9 * deviation))


def power_of(baseline: Baseline, effect: float, units: float, design: Design) -> float:
    """The chance that ``units`` (both arms) find ``effect`` (absolute) with its sign.

    ``design.power`` is unused. Raises as ``needed`` and ``minimum_effect`` do.
    """
    _check(baseline, design)
    variance = _variance(baseline, effect, design)
    return _power(abs(effect), variance, _observations(units, design), design)


def _power(
    effect: float, variance: float, observations: float, design: Design, factor: float = 1.0
) -> float:
    """Of a t test of treatment - ``factor`` control, by the noncentral t distribution (Cohen 1988,
    section 2.2)."""
    treated = design.treatment_share * observations
    control = observations - treated
    parts = factor * factor / control, 1.0 / treated
    degrees_of_freedom = float(satterthwaite(*parts, control - 1.0, treated - 1.0))
    noncentrality = effect / math.sqrt(variance * (parts[0] + parts[1]))
    critical = float(stdtrit(degrees_of_freedom, 1.0 - _alpha(design) / 2.0))
    missed = float(nctdtr(degrees_of_freedom, noncentrality, critical))
    # Not a number far from the critical value, where it is 0, and for very many units.
    return float(ndtr(noncentrality - critical)) if math.isnan(missed) else 1.0 - missed


def _check(baseline: Baseline, design: Design) -> None:
    for name, value in (("alpha", design.alpha), ("power", design.power)):
        if not 0.0 < value < 1.0:
            raise InvalidArgument.field(name, f"must lie between 0 and 1, is {value}")
    least = min(design.treatment_share, 1.0 - design.treatment_share)
    if not LEAST_SHARE <= least < 1.0:
        raise InvalidArgument.field(
            "treatment_share",
            f"must lie between 0 and 1, {LEAST_SHARE:g} from both, is {design.treatment_share}",
        )
    if not 0.0 <= design.explained < 1.0:
        raise InvalidArgument.field("explained", f"must be in [0, 1), is {design.explained}")
    if not (math.isfinite(baseline.variance) and baseline.variance > 0.0):
        raise InvalidArgument.field("variance", f"must be positive, is {baseline.variance}")
    if design.clustering is not None:
        if not 1.0 <= design.clustering.mean_size <= MOST_UNITS:
            raise InvalidArgument.field(
                "cluster_size", f"must be 1 to {MOST_UNITS:g}, is {design.clustering.mean_size}"
            )
        if not 0.0 <= design.clustering.size_variation <= MOST_VARIATION:
            raise InvalidArgument.field(
                "cluster_variation",
                f"must be 0 to {MOST_VARIATION:g}, is {design.clustering.size_variation}",
            )
        if not 0.0 <= design.clustering.intraclass_correlation <= 1.0:
            raise InvalidArgument.field("intraclass_correlation", "must lie in [0, 1]")


def _variance(baseline: Baseline, effect: float, design: Design) -> float:
    """Of one observation: a unit, or a cluster's mean."""
    variance = baseline.variance
    if baseline.proportion:
        after = baseline.mean + effect
        if not 0.0 < after < 1.0:
            raise InvalidArgument.field("effect", f"takes the share {baseline.mean} to {after}")
        # Both arms' on average, weighed as the variance of their difference does.
        treated = design.treatment_share
        variance = (1.0 - treated) * after * (1.0 - after) + treated * variance
    variance *= 1.0 - design.explained
    if design.clustering is not None:
        variance *= design.clustering.design_effect / design.clustering.mean_size
    return variance


def _observations(units: float, design: Design) -> float:
    if not 0.0 < units <= MOST_UNITS:
        raise InvalidArgument.field("units", f"must be 1 to {MOST_UNITS:g}, are {units:g}")
    count = units if design.clustering is None else units / design.clustering.mean_size
    if count * min(design.treatment_share, 1.0 - design.treatment_share) < 2.0:
        raise InvalidArgument.field("units", f"{units:g} leave an arm with fewer than two")
    return count


def _alpha(design: Design) -> float:
    """At which a test at the horizon is as strict as the sequence is there."""
    if not design.always_valid:
        return design.alpha
    return float(2.0 * ndtr(-boundary_at_horizon(design.alpha)))
