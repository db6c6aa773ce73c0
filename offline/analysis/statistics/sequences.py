"""Always-valid intervals: they hold at all moments together, however often one looks.

Everything here is for arrays [..., moments], moments in order; leading dimensions are of several
experiments at once.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.special import lambertw, ndtr, ndtri, stdtr, stdtrit

from offline.analysis.statistics.arrays import Values
from offline.analysis.statistics.comparison import Comparison, fieller, satterthwaite
from offline.analysis.statistics.over_time import ArmOverTime
from services.common.errors import InvalidArgument


@dataclass(frozen=True)
class ConfidenceSequence:
    """Treatment minus control at each of the moments [..., moments].

    ``lower`` and ``upper`` hold at each moment; together with all earlier ones they still do, which
    is what ``p_value`` (the smallest so far) stands for. Infinite bounds and p 1 where an arm has
    too few units to tell. ``relative_lower``, ``relative_upper``: Fieller's with this boundary.
    """

    method: str
    alpha: float
    estimate: Values
    standard_error: Values
    lower: Values
    upper: Values
    p_value: Values
    relative: Values
    relative_lower: Values
    relative_upper: Values
    control: ArmOverTime
    treatment: ArmOverTime

    def running(self) -> tuple[Values, Values]:
        """Bounds of the intersection of all intervals so far.

        lower > upper says that no one effect agrees with all that was seen: it changed.
        """
        return _intersected(self.lower, self.upper)

    def stopped(self) -> NDArray[np.int64]:
        """The first moment [...] whose interval leaves out zero; -1 where none does."""
        told = self.p_value <= self.alpha
        return np.where(told.any(axis=-1), told.argmax(axis=-1), -1).astype(np.int64)

    def at(self, moment: int = -1) -> Comparison:
        """What is known at one moment of a single experiment: all intervals so far together, of
        the absolute and of the relative effect.

        Where no one effect agrees with them all, that moment's own interval.
        """
        lower, upper = _together(self.lower, self.upper, moment)
        relative_lower, relative_upper = _together(self.relative_lower, self.relative_upper, moment)
        return Comparison(
            method=self.method,
            estimate=float(self.estimate[moment]),
            standard_error=float(self.standard_error[moment]),
            lower=lower,
            upper=upper,
            p_value=float(self.p_value[moment]),
            relative=float(self.relative[moment]),
            relative_lower=relative_lower,
            relative_upper=relative_upper,
            control_mean=float(self.control.mean[moment]),
            treatment_mean=float(self.treatment.mean[moment]),
            control_units=int(self.control.units[moment]),
            treatment_units=int(self.treatment.units[moment]),
            degrees_of_freedom=None,
        )


def confidence_sequence(
    control: ArmOverTime,
    treatment: ArmOverTime,
    *,
    horizon_units: float,
    alpha: float = 0.05,
    method: str = "asymptotic_sequence",
) -> ConfidenceSequence:
    """Asymptotic confidence sequence of the difference of two means.

    Waudby-Smith, Arbour, Sinha, Kennedy & Ramdas 2024, "Time-uniform central limit theory and
    asymptotic confidence sequences", Annals of Statistics 52(6), theorem 2.2 (a normal mixture),
    with the difference's own variance, or that of values adjusted by covariates, as in their
    section 3. rho is such that the interval is narrowest at ``horizon_units`` (both arms together;
    any number keeps it valid). Ours besides: the normal quantile that the boundary amounts to is
    read off a t distribution with Welch's degrees of freedom: wider while units are few.
    """
    if not horizon_units > 0.0:
        raise InvalidArgument.field("horizon_units", f"must be positive, is {horizon_units}")
    rho_squared = tuned_rho_squared(horizon_units, alpha)
    ours, theirs = control.units, treatment.units
    # As many units, split evenly, would know as much.
    units = 4.0 * ours * theirs / np.maximum(ours + theirs, 1)
    return _sequence(method, control, treatment, units * rho_squared, alpha=alpha)


def msprt(
    control: ArmOverTime,
    treatment: ArmOverTime,
    *,
    effect_deviation: float,
    alpha: float = 0.05,
) -> ConfidenceSequence:
    """Mixture sequential probability ratio test of the difference, a normal mixture over effects.

    Johari, Koomen, Pekelis & Walsh 2022, "Always Valid Inference: Continuous Monitoring of A/B
    Tests", Operations Research 70(3), normal data and a normal mixture. ``effect_deviation`` (their
    tau) is the standard deviation of effects that are thought of, in the metric's unit; best fixed
    before the experiment, narrow or wide it stays valid. Variances are estimated; t as in
    ``confidence_sequence``.
    """
    if not effect_deviation > 0.0:
        raise InvalidArgument.field("effect_deviation", f"must be positive, is {effect_deviation}")
    variance = control.variance + treatment.variance
    weight = np.divide(
        effect_deviation**2, variance, out=np.zeros_like(variance), where=variance > 0.0
    )
    return _sequence("msprt", control, treatment, weight, alpha=alpha)


def tuned_rho_squared(horizon: float, alpha: float) -> float:
    """The rho squared whose boundary is narrowest after ``horizon`` units.

    The minimum over x = rho² t of (1 + 1/x) log((1 + x) / alpha²), which lies at
    -W₋₁(-alpha² / e) - 1, W₋₁ the lower branch of Lambert's function; Waudby-Smith et al. 2024,
    appendix on tuning, give its approximation (2 log(1/alpha) + log(1 + 2 log(1/alpha))) / t.
    """
    if not 0.0 < alpha < 1.0:
        raise InvalidArgument.field("alpha", f"must lie between 0 and 1, is {alpha}")
    return float((-lambertw(-alpha * alpha / math.e, -1).real - 1.0) / horizon)


def boundary_at_horizon(alpha: float) -> float:
    """How many standard errors a tuned sequence reaches at its horizon."""
    return float(boundary(np.array(tuned_rho_squared(1.0, alpha)), alpha))


def boundary(weight: Values, alpha: float) -> Values:
    """How many standard errors [...] the interval reaches to each side.

    sqrt((1 + 1/x) log((1 + x) / alpha²)) for x = rho² t: Robbins 1970; Howard et al. 2021,
    equation 14. ``weight`` x; infinite at 0.
    """
    positive = np.where(weight > 0.0, weight, 1.0)
    reach = np.sqrt((1.0 + 1.0 / positive) * (np.log1p(positive) - 2.0 * math.log(alpha)))
    return np.where(weight > 0.0, reach, np.inf)


def _intersected(lower: Values, upper: Values) -> tuple[Values, Values]:
    return np.maximum.accumulate(lower, axis=-1), np.minimum.accumulate(upper, axis=-1)


def _together(lower: Values, upper: Values, moment: int) -> tuple[float, float]:
    """The intersection of all intervals [moments] until ``moment``, or its own where that is
    empty."""
    least, most = (float(bound[moment]) for bound in _intersected(lower, upper))
    return (least, most) if least <= most else (float(lower[moment]), float(upper[moment]))


def _sequence(
    method: str, control: ArmOverTime, treatment: ArmOverTime, weight: Values, *, alpha: float
) -> ConfidenceSequence:
    estimate = treatment.mean - control.mean
    # An arm without spread has too few units yet, or nothing to tell of.
    known = (control.variance > 0.0) & (treatment.variance > 0.0) & (weight > 0.0)
    first = np.where(known, control.variance, 1.0)
    second = np.where(known, treatment.variance, 1.0)
    standard_error = np.sqrt(first + second)
    freedom = satterthwaite(
        first, second, np.maximum(control.freedom, 1.0), np.maximum(treatment.freedom, 1.0)
    )
    critical = _by_t(np.where(known, boundary(weight, alpha), np.inf), freedom)
    reach = critical * standard_error
    distance = np.abs(estimate) / standard_error
    lower_relative, upper_relative = fieller(
        control.mean, control.variance, treatment.mean, treatment.variance, critical=critical
    )
    return ConfidenceSequence(
        method=method,
        alpha=alpha,
        estimate=estimate,
        standard_error=np.where(known, standard_error, np.nan),
        lower=estimate - reach,
        upper=estimate + reach,
        p_value=np.minimum.accumulate(
            np.where(known, _p_value(distance, weight, freedom), 1.0), axis=-1
        ),
        relative=np.divide(
            estimate,
            np.abs(control.mean),
            out=np.full_like(estimate, np.nan),
            where=control.mean != 0.0,
        ),
        relative_lower=lower_relative,
        relative_upper=upper_relative,
        control=control,
        treatment=treatment,
    )


def _by_t(reach: Values, freedom: Values) -> Values:
    """The quantile of t whose tail is that of the normal one at ``reach``."""
    tail = ndtr(-reach)
    return np.where(tail > 0.0, -stdtrit(freedom, np.where(tail > 0.0, tail, 0.5)), np.inf)


def _p_value(distance: Values, weight: Values, freedom: Values) -> Values:
    """1 / the mixture's likelihood ratio, at most 1; of the normal deviate as rare as t's."""
    deviate = ndtri(np.maximum(stdtr(freedom, -distance), 1e-300))
    ratio = 0.5 * (deviate**2 * weight / (1.0 + weight) - np.log1p(weight))
    return np.asarray(np.exp(-np.maximum(ratio, 0.0)))
