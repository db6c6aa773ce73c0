"""Which estimator a sample is compared by, and the effect as it was known day by day."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offline.analysis.conclude.sample import Indices, Sample
from offline.analysis.model import Chances, Direction, Interval, SequencePoint
from offline.analysis.statistics.bayesian import posterior, relative_prior
from offline.analysis.statistics.clusters import clustered
from offline.analysis.statistics.comparison import Comparison
from offline.analysis.statistics.cuped import cuped
from offline.analysis.statistics.means import ratio, welch
from offline.analysis.statistics.over_time import (
    ArmOverTime,
    adjusted_over_time,
    clustered_over_time,
    one_after_another,
    over_time,
)
from offline.analysis.statistics.quantiles import quantile
from offline.analysis.statistics.sequences import ConfidenceSequence, confidence_sequence
from offline.analysis.statistics.switchback import switchback
from offline.analysis.statistics.two_sided import TwoSided, two_sided
from services.common.errors import InvalidArgument

# A comparison of all rows on each day costs days × rows: so many are spent, the rest is not drawn.
_ROWS_OVER_TIME = 20_000_000
_MOST_DAYS = 60
_LEAST_DAYS = 5


@dataclass(frozen=True)
class Measured:
    """A comparison, or why there is none; ``two_sided`` has its parts."""

    comparison: Comparison | None
    problem: str = ""
    two_sided: TwoSided | None = None


def compare(sample: Sample, alpha: float) -> Measured:
    """Treatment against control, by the estimator of the sample's design and statistic:

    two-sided: pairs clustered on both sides, quantiles aside; switchback: slices as clusters; rows
    within hosts or rooms: CR2; else quantiles, CUPED where there are covariates, ratios by the
    delta method, Welch.
    """
    if min(int(sample.treated.sum()), int((~sample.treated).sum())) < 2:
        return Measured(None, "an arm has fewer than two units whose window has ended")
    try:
        return _compare(sample, alpha)
    except InvalidArgument as error:
        return Measured(None, error.message)


def _compare(sample: Sample, alpha: float) -> Measured:
    treated, cluster = sample.treated, sample.cluster
    if sample.other_treated is not None and cluster is not None:
        if sample.statistic == "quantile":
            return Measured(None, "a two-sided experiment has no comparison of quantiles")
        found = two_sided(
            sample.values(), treated, sample.other_treated, sample.unit, cluster, alpha=alpha
        )
        return Measured(found.total, two_sided=found)
    if sample.statistic == "quantile":
        return Measured(_quantiles(sample, alpha))
    if sample.slices is not None and sample.elapsed_ms is not None:
        return Measured(
            switchback(
                sample.values(),
                treated,
                sample.slices,
                sample.elapsed_ms,
                block_slices=sample.block_slices,
                alpha=alpha,
            )
        )
    adjusts = sample.covariates.shape[1] > 0
    values = sample.values()
    if cluster is not None:
        before = sample.covariates if adjusts else None
        name = "clustered_cuped" if adjusts else "clustered"
        return Measured(
            clustered(values, treated, cluster, covariates=before, alpha=alpha, method=name)
        )
    if adjusts and len(values) >= 2 * sample.covariates.shape[1] + 10:
        before = sample.covariates
        return Measured(
            cuped(values[~treated], values[treated], before[~treated], before[treated], alpha=alpha)
        )
    if sample.denominator is not None:
        above, below = sample.numerator, sample.denominator
        return Measured(
            ratio(above[~treated], below[~treated], above[treated], below[treated], alpha=alpha)
        )
    method = "winsorised" if sample.statistic == "winsorised_mean" else "welch"
    return Measured(welch(values[~treated], values[treated], alpha=alpha, method=method))


def _quantiles(sample: Sample, alpha: float) -> Comparison:
    treated = sample.treated
    units = sample.groups
    return quantile(
        sample.numerator[~treated],
        sample.numerator[treated],
        at=0.5 if sample.level is None else sample.level,
        control_units=None if units is None else units[~treated],
        treatment_units=None if units is None else units[treated],
        alpha=alpha,
    )


def has_sequence(sample: Sample) -> bool:
    """Whether there is an always-valid sequence: neither of quantiles nor of two sides."""
    return sample.other_treated is None and sample.statistic != "quantile"


def cuts_of(sample: Sample, day_ms: Indices) -> tuple[float, ...]:
    """Where values of a winsorised mean were cut at the end of each day; nothing of others."""
    if sample.uncut is None:
        return ()
    ends_ms = _ends_ms(day_ms)
    return tuple(sample.only(sample.matured_ms < end).threshold() for end in ends_ms)


def sequence_of(
    sample: Sample,
    day_ms: Indices,
    *,
    horizon_units: float,
    alpha: float,
    cuts: Sequence[float] = (),
) -> ConfidenceSequence | None:
    """The always-valid sequence over the days that begin at ``day_ms``; None before there is any
    day, or where a ratio has no denominator yet.

    Each day is of what was known at its end: ratios are of the sums there were, winsorised means of
    values cut at the day's of ``cuts``.
    """
    if not len(day_ms):
        return None
    try:
        sample.values()
    except InvalidArgument:
        return None
    came = np.searchsorted(day_ms, sample.matured_ms, side="right") - 1
    if sample.uncut is None:
        arms = _arms_over_time(sample, came, len(day_ms))
    else:
        control, treatment = [], []
        for day, cut in enumerate(cuts):
            known = sample.only(came <= day).cut_at(cut)
            one = _arms_over_time(known, np.zeros(len(known.treated), np.int64), 1)
            control.append(one[0])
            treatment.append(one[1])
        arms = one_after_another(control), one_after_another(treatment)
    return confidence_sequence(
        *arms, horizon_units=horizon_units, alpha=alpha, method=_sequence_method(sample)
    )


def _sequence_method(sample: Sample) -> str:
    if sample.groups is not None:
        return "clustered_sequence"
    if sample.covariates.shape[1]:
        return "asymptotic_sequence_cuped"
    if sample.uncut is not None:
        return "asymptotic_sequence_winsorised"
    return "asymptotic_sequence" if sample.denominator is None else "asymptotic_sequence_ratio"


def _arms_over_time(sample: Sample, came: Indices, moments: int) -> tuple[ArmOverTime, ArmOverTime]:
    """Both arms at each moment; ``came`` [rows]: from which on a row is known."""
    treated, values, below = sample.treated, sample.numerator, sample.denominator
    if sample.groups is not None:
        return clustered_over_time(
            values, treated, sample.groups, came, moments, denominators=below
        )
    arms = (~treated, treated)
    divisors = [None if below is None else below[arm] for arm in arms]
    if sample.covariates.shape[1]:
        return adjusted_over_time(
            values[~treated],
            values[treated],
            sample.covariates[~treated],
            sample.covariates[treated],
            came[~treated],
            came[treated],
            moments,
            control_denominators=divisors[0],
            treatment_denominators=divisors[1],
        )
    control, treatment = (
        over_time(values[arm], came[arm], moments, denominators=divisor)
        for arm, divisor in zip(arms, divisors, strict=True)
    )
    return control, treatment


def _ends_ms(day_ms: Indices) -> list[int]:
    """When each day ended; the last goes on."""
    return [*day_ms[1:].tolist(), int(np.iinfo(np.int64).max)]


def points_of(sequence: ConfidenceSequence, day_ms: Indices) -> tuple[SequencePoint, ...]:
    """The sequence as points of a report."""
    return tuple(
        SequencePoint(int(start), interval_of(sequence.at(moment)))
        for moment, start in enumerate(day_ms)
    )


def looks_of(sample: Sample, day_ms: Indices, alpha: float) -> tuple[SequencePoint, ...]:
    """What the fixed estimator would have said at the end of each day, each for itself."""
    days = _drawn_days(len(day_ms), len(sample.treated))
    points = []
    ends_ms = _ends_ms(day_ms)
    for day in days:
        found = compare(sample.known_by(ends_ms[day]), alpha).comparison
        if found is not None:
            points.append(SequencePoint(int(day_ms[day]), interval_of(found)))
    return tuple(points)


def _drawn_days(days: int, rows: int) -> list[int]:
    most = min(_MOST_DAYS, max(_LEAST_DAYS, _ROWS_OVER_TIME // max(rows, 1)))
    if days <= most:
        return list(range(days))
    return sorted({round(place) for place in np.linspace(0, days - 1, most)})


def interval_of(comparison: Comparison) -> Interval:
    """A comparison's interval, None for what is not finite."""
    return Interval(
        estimate=finite(comparison.estimate),
        lower=finite(comparison.lower),
        upper=finite(comparison.upper),
        relative=finite(comparison.relative),
        relative_lower=finite(comparison.relative_lower),
        relative_upper=finite(comparison.relative_upper),
    )


def chances_of(comparison: Comparison, direction: Direction, alpha: float) -> Chances | None:
    """The Bayesian summary with a prior of no effect on average and 30% of the control's mean;
    None where the control's mean is 0, or nothing is known yet."""
    if comparison.control_mean == 0 or not math.isfinite(comparison.standard_error):
        return None
    found = posterior(comparison, relative_prior(comparison.control_mean), alpha=alpha)
    if direction == "increase":
        return Chances(found.chance_to_beat_control, found.loss_of_treatment)
    return Chances(1 - found.chance_to_beat_control, found.loss_of_control)


def finite(number: float | None) -> float | None:
    """``number``, None where it is not finite."""
    return number if number is not None and math.isfinite(number) else None
