"""Whether the effect fades or grows: what is new is looked at because it is new.

Of a unit, the outcome in each part of its window is a line, and its slope one number; slopes of
arms, as shares of their outcomes, are compared as ratios are, so that parts of one unit may depend
on one another. Of an
experiment, the effect among those who came on a day is compared with the effect among those who
came later; they are other units, hence independent.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import stats

from offline.analysis.health.comparing import Floats
from offline.analysis.model import Finding
from offline.analysis.statistics.means import ratio_variance
from offline.analysis.wording import probability, share

CHECK = "novelty"
NOTICE_BELOW = 0.01
LEAST_UNITS = 20
LEAST_DAYS = 3
# A mean that is nearer to zero than so many standard errors is nothing to be relative to.
LEAST_ERRORS = 3.0


@dataclass(frozen=True)
class EffectOfDay:
    """The relative effect among the units of one day, a share of the size of the control's mean,
    with its variance."""

    day: int
    effect: float
    variance: float


def trend_p(effects: list[EffectOfDay]) -> float | None:
    """The p-value of "the effect is the same on all days": the slope of the line through
    ``effects``, weighted by their variances, against its normal distribution. None of fewer than
    ``LEAST_DAYS`` days that vary."""
    varying = [e for e in effects if e.variance > 0]
    if len(varying) < LEAST_DAYS:
        return None
    weights = 1 / np.array([e.variance for e in varying])
    days = np.array([float(e.day) for e in varying])
    values = np.array([e.effect for e in varying])
    centred = days - np.average(days, weights=weights)
    spread = float((weights * np.square(centred)).sum())
    slope = float((weights * centred * values).sum()) / spread
    return float(2 * stats.norm.sf(abs(slope) * np.sqrt(spread)))


def check_by_age(
    metric: str, variant: str, p_value: float | None, first: float, last: float
) -> Finding:
    """The finding of the slopes of people's outcomes since their exposure, compared between arms:
    the p-value, None where it could not be compared, and the effect at the window's beginning and
    end that the slopes' difference makes, were the control's outcomes the same throughout."""
    subject = f"{metric}, {variant}, since exposure"
    if p_value is None:
        return Finding(CHECK, "not_checked", "Too few units to see a trend.", subject)
    course, fades = f"from {first:+.4g} to {last:+.4g}", abs(last) < abs(first)
    return _finding(subject, p_value, course, "time since the first exposure", fades=fades)


def check_by_day(metric: str, effects: list[EffectOfDay], variant: str) -> Finding:
    """Compares the relative effect among the units of each day: where all is more on some days, so
    is a difference."""
    subject = f"{metric}, {variant}"
    p_value = trend_p(effects)
    if p_value is None:
        text = "Too few days with enough units to see whether the effect changes."
        return Finding(CHECK, "not_checked", text, subject)
    first, last = effects[0].effect, effects[-1].effect
    course = f"from {share(first, signed=True)} to {share(last, signed=True)}"
    fades = abs(last) < abs(first)
    return _finding(subject, p_value, course, "days of the experiment", fades=fades)


def effects_by_day(
    units: Floats, sums: Floats, products: Floats, control: int, treatment: int
) -> list[EffectOfDay]:
    """The relative effect among units that came between one day and the next, from cumulative
    sums.

    Args:
        units: [days × arms].
        sums: [days × arms × 1 or 2], of the numerator and, of a ratio, the denominator.
        products: [days × arms × the same twice], sums of products of each two.
        control: the arm.
        treatment: the arm.

    Days are taken together until both arms have ``LEAST_UNITS`` and the control's mean is
    ``LEAST_ERRORS`` standard errors from zero; the place of a day is that of its last. Variances of
    ratios, of both arms' means as well, by the delta method.
    """
    effects = []
    before = -1
    for day in range(len(units)):
        means, variances = [], []
        for arm in (control, treatment):
            none = np.zeros_like(sums[0, arm])
            start = before, arm
            count = units[day, arm] - (units[start] if before >= 0 else 0.0)
            total = sums[day, arm] - (sums[start] if before >= 0 else none)
            squares = products[day, arm] - (
                products[start] if before >= 0 else np.zeros_like(products[day, arm])
            )
            if count < LEAST_UNITS or (len(total) > 1 and total[1] == 0):
                break
            mean, variance = _mean(float(count), total, squares)
            means.append(mean)
            variances.append(variance)
        if len(means) == 2 and means[0] ** 2 > LEAST_ERRORS**2 * variances[0]:
            spread = ratio_variance(means[1], means[0], variances[1], variances[0], 0.0)
            relative = (means[1] - means[0]) / abs(means[0])
            effects.append(EffectOfDay(day, relative, float(spread)))
            before = day
    return effects


def _mean(count: float, total: Floats, products: Floats) -> tuple[float, float]:
    """A mean or ratio and its variance."""
    means = total / count
    covariance = (products / count - np.outer(means, means)) * count / (count - 1)
    if len(total) == 1:
        return float(means[0]), max(0.0, float(covariance[0, 0])) / count
    variance = ratio_variance(
        means[0], means[1], covariance[0, 0], covariance[1, 1], covariance[0, 1]
    )
    return float(means[0] / means[1]), max(0.0, float(variance)) / count


def _finding(subject: str, p_value: float, course: str, over: str, *, fades: bool) -> Finding:
    if p_value >= NOTICE_BELOW:
        return Finding(CHECK, "ok", f"The effect shows no trend over the {over}.", subject, p_value)
    text = (
        f"The effect {'fades' if fades else 'grows'} with the {over} ({course}); chance alone"
        f" makes such a trend {probability(p_value)}. Its average says little of later."
    )
    return Finding(CHECK, "notice", text, subject, p_value)
