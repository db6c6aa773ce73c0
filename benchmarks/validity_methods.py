"""Methods of analysis as they are called for the outcomes of a world."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from benchmarks.validity_worlds import CARRIED_MS, DAYS, Outcomes, World
from offline.analysis.statistics.bayesian import posterior, relative_prior
from offline.analysis.statistics.clusters import clustered
from offline.analysis.statistics.comparison import Comparison
from offline.analysis.statistics.cuped import cuped
from offline.analysis.statistics.interleaving import team_draft
from offline.analysis.statistics.means import ratio, welch, winsor_threshold, winsorised
from offline.analysis.statistics.over_time import (
    ArmOverTime,
    adjusted_over_time,
    clustered_over_time,
    one_after_another,
    over_time,
)
from offline.analysis.statistics.quantiles import quantile
from offline.analysis.statistics.sequences import ConfidenceSequence, confidence_sequence, msprt
from offline.analysis.statistics.switchback import randomisation_p, switchback
from offline.analysis.statistics.two_sided import TwoSided, two_sided

ALPHA = 0.05

Kind = Literal["fixed", "sequential"]


@dataclass(frozen=True)
class Verdict:
    """Of one run: was an effect found, did the interval hold the truth, and, of a sequential
    method, how wide it ended over the fixed-horizon one."""

    found: bool
    covered: bool | None
    width: float | None = None


@dataclass(frozen=True)
class Method:
    """``judge(outcomes, world, effect)``: effect 0 or 1 as the outcomes were drawn with."""

    name: str
    kind: Kind
    judge: Callable[[Outcomes, World, float], Verdict]


def _fixed(
    name: str,
    compare: Callable[[Outcomes, World], Comparison],
    truth: Callable[[World], float] = lambda world: world.effect,
) -> Method:
    def judge(outcomes: Outcomes, world: World, effect: float) -> Verdict:
        comparison = compare(outcomes, world)
        actual = truth(world) * effect if effect else 0.0
        covered = None if math.isnan(actual) else comparison.lower <= actual <= comparison.upper
        return Verdict(comparison.p_value <= ALPHA, covered)

    return Method(name, "fixed", judge)


def _sequential(
    name: str,
    over: Callable[[Outcomes], tuple[ArmOverTime, ArmOverTime]],
    compare: Callable[[Outcomes, World], Comparison],
    sequence: Callable[[ArmOverTime, ArmOverTime, Outcomes], ConfidenceSequence],
    truth: Callable[[World], float] = lambda world: world.effect,
) -> Method:
    def judge(outcomes: Outcomes, world: World, effect: float) -> Verdict:
        found = sequence(*over(outcomes), outcomes)
        fixed = compare(outcomes, world)
        actual = truth(world) * effect if effect else 0.0
        held = bool(((found.lower <= actual) & (actual <= found.upper)).all())
        covered = None if math.isnan(actual) else held
        width = (found.upper[-1] - found.lower[-1]) / (fixed.upper - fixed.lower)
        return Verdict(bool(found.stopped() >= 0), covered, float(width))

    return Method(name, "sequential", judge)


def _welch(outcomes: Outcomes, _: World) -> Comparison:
    return welch(*outcomes.arms(outcomes.values))


def _ratio(outcomes: Outcomes, _: World) -> Comparison:
    above, below = outcomes.arms(outcomes.values), outcomes.arms(outcomes.denominators)
    return ratio(above[0], below[0], above[1], below[1])


def _cluster_ratio(outcomes: Outcomes, _: World) -> Comparison:
    assert outcomes.clusters is not None
    sums = np.bincount(outcomes.clusters, weights=outcomes.values)
    sizes = np.bincount(outcomes.clusters).astype(np.float64)
    treated = np.bincount(outcomes.clusters, weights=outcomes.treated) > 0
    return ratio(sums[~treated], sizes[~treated], sums[treated], sizes[treated])


def _cuped(outcomes: Outcomes, _: World) -> Comparison:
    return cuped(*outcomes.arms(outcomes.values), *outcomes.arms(outcomes.covariates))


def _winsorised(outcomes: Outcomes, _: World) -> Comparison:
    return winsorised(*outcomes.arms(outcomes.values), quantile=0.99)


def _quantile(outcomes: Outcomes, world: World) -> Comparison:
    return quantile(*outcomes.arms(outcomes.values), at=world.quantile)


def _clustered(outcomes: Outcomes, _: World) -> Comparison:
    assert outcomes.clusters is not None
    return clustered(outcomes.values, outcomes.treated, outcomes.clusters)


def _clustered_quantile(outcomes: Outcomes, world: World) -> Comparison:
    assert outcomes.clusters is not None
    clusters = outcomes.arms(outcomes.clusters)
    return quantile(
        *outcomes.arms(outcomes.values),
        at=world.quantile,
        control_units=clusters[0],
        treatment_units=clusters[1],
    )


def _clustered_adjusted(outcomes: Outcomes, _: World) -> Comparison:
    assert outcomes.clusters is not None
    return clustered(
        outcomes.values, outcomes.treated, outcomes.clusters, covariates=outcomes.covariates[:, 0]
    )


def _switchback(outcomes: Outcomes, _: World) -> Comparison:
    assert outcomes.clusters is not None
    since = np.zeros(len(outcomes.values), dtype=np.int64)
    return switchback(outcomes.values, outcomes.treated, outcomes.clusters, since)


def _burnt_in(outcomes: Outcomes, _: World) -> Comparison:
    assert outcomes.clusters is not None
    assert outcomes.elapsed_ms is not None
    return switchback(
        outcomes.values,
        outcomes.treated,
        outcomes.clusters,
        outcomes.elapsed_ms,
        burn_in_ms=CARRIED_MS,
    )


def _drawn_anew(outcomes: Outcomes, _world: World, _effect: float) -> Verdict:
    assert outcomes.clusters is not None
    p_value = randomisation_p(outcomes.values, outcomes.treated, outcomes.clusters, draws=199)
    return Verdict(p_value <= ALPHA, None)


def _two_sided(outcomes: Outcomes) -> TwoSided:
    assert outcomes.hosts is not None
    assert outcomes.clusters is not None
    assert outcomes.host_treated is not None
    return two_sided(
        outcomes.values,
        outcomes.treated,
        outcomes.host_treated,
        outcomes.clusters,
        outcomes.hosts,
    )


def _bayesian(outcomes: Outcomes, world: World, _effect: float) -> Verdict:
    comparison = _welch(outcomes, world)
    believed = posterior(comparison, relative_prior(comparison.control_mean))
    # Its interval promises to hold effects that come from its prior, not this one.
    return Verdict(abs(believed.chance_to_beat_control - 0.5) > 0.5 - ALPHA / 2.0, None)


def _team_draft(outcomes: Outcomes, _world: World, _effect: float) -> Verdict:
    assert outcomes.credits is not None
    assert outcomes.clusters is not None
    return Verdict(team_draft(outcomes.clusters, *outcomes.credits.T).p_value <= ALPHA, None)


def _arms_over_time(outcomes: Outcomes) -> tuple[ArmOverTime, ArmOverTime]:
    values, arrived = outcomes.arms(outcomes.values), outcomes.arms(outcomes.arrived)
    control, treatment = (over_time(v, a, DAYS) for v, a in zip(values, arrived, strict=True))
    return control, treatment


def _ratios_over_time(outcomes: Outcomes) -> tuple[ArmOverTime, ArmOverTime]:
    values, arrived = outcomes.arms(outcomes.values), outcomes.arms(outcomes.arrived)
    below = outcomes.arms(outcomes.denominators)
    control, treatment = (
        over_time(v, a, DAYS, denominators=b)
        for v, a, b in zip(values, arrived, below, strict=True)
    )
    return control, treatment


def _winsorised_over_time(outcomes: Outcomes) -> tuple[ArmOverTime, ArmOverTime]:
    """Each day cut at the quantile of all that had come until then, as reports have it."""
    days = []
    for day in range(DAYS):
        there = outcomes.arrived <= day
        values, treated = outcomes.values[there], outcomes.treated[there]
        cut = winsor_threshold(values[~treated], values[treated], quantile=0.99)
        days.append(
            [
                over_time(np.minimum(part, cut), np.zeros(len(part), np.int64), 1)
                for part in (values[~treated], values[treated])
            ]
        )
    return one_after_another([c for c, _ in days]), one_after_another([t for _, t in days])


def _adjusted(outcomes: Outcomes) -> tuple[ArmOverTime, ArmOverTime]:
    values, covariates = outcomes.arms(outcomes.values), outcomes.arms(outcomes.covariates)
    return adjusted_over_time(*values, *covariates, *outcomes.arms(outcomes.arrived), DAYS)


def _clusters_over_time(outcomes: Outcomes) -> tuple[ArmOverTime, ArmOverTime]:
    assert outcomes.clusters is not None
    return clustered_over_time(
        outcomes.values, outcomes.treated, outcomes.clusters, outcomes.arrived, DAYS
    )


def _tuned(control: ArmOverTime, treatment: ArmOverTime, outcomes: Outcomes) -> ConfidenceSequence:
    return confidence_sequence(control, treatment, horizon_units=len(outcomes.values))


def _msprt(control: ArmOverTime, treatment: ArmOverTime, _: Outcomes) -> ConfidenceSequence:
    # Effects of about a standard error of the planned end, as one plans for: known beforehand.
    deviation = math.sqrt(8.0 * float(control.variance[-1] + treatment.variance[-1]))
    return msprt(control, treatment, effect_deviation=deviation)


UNITS = (
    _fixed("welch", _welch),
    _fixed("ratio", _ratio, lambda world: world.effect / world.denominator_mean),
    _fixed("winsorised", _winsorised, lambda _: math.nan),
    _fixed("quantile", _quantile, lambda world: world.quantile_effect),
    _fixed("cuped", _cuped),
    Method("bayesian", "fixed", _bayesian),
    _sequential("asymptotic_sequence", _arms_over_time, _welch, _tuned),
    _sequential("asymptotic_sequence_cuped", _adjusted, _cuped, _tuned),
    _sequential(
        "asymptotic_sequence_ratio",
        _ratios_over_time,
        _ratio,
        _tuned,
        lambda world: world.effect / world.denominator_mean,
    ),
    _sequential(
        "asymptotic_sequence_winsorised",
        _winsorised_over_time,
        _winsorised,
        _tuned,
        lambda _: math.nan,
    ),
    _sequential("msprt", _arms_over_time, _welch, _msprt),
)
CLUSTERS = (
    _fixed("clustered", _clustered),
    _fixed("clustered_cuped", _clustered_adjusted),
    _fixed("quantile", _clustered_quantile, lambda world: world.quantile_effect),
    _fixed("ratio", _cluster_ratio),
    _fixed("welch", _welch),
    _sequential("clustered_sequence", _clusters_over_time, _clustered, _tuned),
)


def methods_for(world: World) -> tuple[Method, ...]:
    """What is measured in a world."""
    special: dict[str, tuple[Method, ...]] = {
        "slices": (
            _fixed("switchback", _switchback),
            Method("switchback_drawn_anew", "fixed", _drawn_anew),
        ),
        "carry_over": (
            _fixed("switchback", _burnt_in),
            _fixed("switchback_uncut", _switchback),
        ),
        "market": (
            _fixed("two_sided_total", lambda outcomes, _: _two_sided(outcomes).total),
            _fixed(
                "two_sided_direct",
                lambda outcomes, _: _two_sided(outcomes).direct,
                lambda world: world.effect - world.viewer_spillover - world.host_spillover,
            ),
            _fixed(
                "two_sided_viewer_spillover",
                lambda outcomes, _: _two_sided(outcomes).viewer_spillover,
                lambda world: world.viewer_spillover,
            ),
            _fixed(
                "two_sided_host_spillover",
                lambda outcomes, _: _two_sided(outcomes).host_spillover,
                lambda world: world.host_spillover,
            ),
        ),
        "interleaved": (Method("team_draft", "fixed", _team_draft),),
    }
    if world.name in special:
        return special[world.name]
    return UNITS if world.clusters_an_arm is None else CLUSTERS
