"""An arm as it was known at each of several moments, units coming in one after another."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline.analysis.statistics.arrays import (
    MAX_MAGNITUDE,
    Indices,
    Values,
    checked,
    checked_columns,
    same_length,
)
from offline.analysis.statistics.cuped import solved
from services.common.errors import InvalidArgument


@dataclass(frozen=True)
class ArmOverTime:
    """Mean, its variance and units of all that came in so far, each [..., moments].

    ``freedom``: degrees of freedom of the variance, units - 1 as a rule. The variance is 0 before
    there are two units that differ.
    """

    mean: Values
    variance: Values
    units: Indices
    freedom: Values


def from_sums(units: ArrayLike, sums: ArrayLike, squares: ArrayLike) -> ArmOverTime:
    """The arm from cumulative counts, sums and sums of squares of unit values [..., moments].

    Each unit counts from one moment on with a value that no longer changes (a window of the same
    length for everybody): sequences are valid for units that arrive, not for values that grow.
    """
    counts = np.asarray(units, dtype=np.int64)
    total, square = np.asarray(sums, dtype=np.float64), np.asarray(squares, dtype=np.float64)
    divisor = np.maximum(counts, 1)
    mean = total / divisor
    freedom = np.maximum(counts - 1, 1).astype(np.float64)
    # Rounding may leave a little less than nothing where all values are alike.
    spread = np.maximum(square - mean * total, 0.0)
    spread = np.where(spread > 1e-12 * np.maximum(square, 0.0), spread, 0.0)
    return ArmOverTime(mean, spread / freedom / divisor, counts, freedom)


def over_time(
    values: ArrayLike,
    arrived: ArrayLike,
    moments: int,
    *,
    denominators: ArrayLike | None = None,
) -> ArmOverTime:
    """The arm at each of ``moments`` from unit values [units] and the moment each came in [units].

    A unit that came in at moment m is known at m and later. With ``denominators`` [units] the mean
    is the ratio of the sums that were known then, its variance the delta method's
    (``means.ratio_variance``). Raises InvalidArgument for moments outside [0, moments).
    """
    plain = checked("values", values, least=0)
    came = _moments_of(arrived, len(plain), moments)
    if denominators is not None:
        below = checked("denominators", denominators, least=0)
        same_length("denominators", below, plain)
        return _of_means(_as_ratio(_known(np.column_stack([plain, below]), came, moments)))
    # About the middle: of large values that hardly differ the squares would keep nothing.
    middle = float(plain.mean()) if len(plain) else 0.0
    sums = [
        np.cumsum(np.bincount(came, weights=part, minlength=moments))
        for part in (np.ones(len(plain)), plain - middle, (plain - middle) ** 2)
    ]
    found = from_sums(*sums)
    mean = np.where(found.units > 0, found.mean + middle, 0.0)
    return ArmOverTime(mean, found.variance, found.units, found.freedom)


def adjusted_over_time(
    control: ArrayLike,
    treatment: ArrayLike,
    control_covariates: ArrayLike,
    treatment_covariates: ArrayLike,
    control_arrived: ArrayLike,
    treatment_arrived: ArrayLike,
    moments: int,
    *,
    control_denominators: ArrayLike | None = None,
    treatment_denominators: ArrayLike | None = None,
) -> tuple[ArmOverTime, ArmOverTime]:
    """Both arms at each moment, adjusted (CUPED) with coefficients of the units there were then.

    Values [units], covariates [units, covariates], moments of arrival [units] of each arm; of
    ratios the denominators [units], too: what is adjusted is the ratio that was known then. While
    units are fewer than twice the covariates and ten, values are taken as they are.
    """
    known = []
    for name, values, columns, arrived, below in (
        ("control", control, control_covariates, control_arrived, control_denominators),
        ("treatment", treatment, treatment_covariates, treatment_arrived, treatment_denominators),
    ):
        plain = checked(name, values, least=0)
        before = checked_columns(f"{name}_covariates", columns, len(plain))
        came = _moments_of(arrived, len(plain), moments)
        if below is None:
            known.append(_known(np.column_stack([plain, before]), came, moments))
            continue
        divisor = checked(f"{name}_denominators", below, least=0)
        same_length(f"{name}_denominators", divisor, plain)
        table = np.column_stack([plain, divisor, before])
        known.append(_as_ratio(_known(table, came, moments)))
    return _adjusted(known[0], known[1])


@dataclass(frozen=True)
class _Known:
    """Of an arm: ``units`` [moments], means [moments, columns] and sums of products of deviations
    from them [moments, columns, columns] of all that came in so far."""

    units: Values
    means: Values
    spread: Values


def _known(table: Values, came: NDArray[np.int64], moments: int) -> _Known:
    """Of columns of a ``table`` [units, columns]."""
    width = table.shape[1]
    # About the middle: of large values that hardly differ the squares would keep nothing.
    middle = table.mean(axis=0) if len(table) else np.zeros(width)
    centred = table - middle
    units = np.cumsum(np.bincount(came, minlength=moments)).astype(np.float64)
    sums, products = np.empty((moments, width)), np.empty((moments, width, width))
    for row in range(width):
        sums[:, row] = np.cumsum(np.bincount(came, weights=centred[:, row], minlength=moments))
        for column in range(row, width):
            weights = centred[:, row] * centred[:, column]
            found = np.cumsum(np.bincount(came, weights=weights, minlength=moments))
            products[:, row, column] = products[:, column, row] = found
    divisor = np.maximum(units, 1.0)
    spread = products - sums[:, :, None] * sums[:, None, :] / divisor[:, None, None]
    # What is left of a column that does not vary yet is rounding.
    varies = np.einsum("tii->ti", spread) > 1e-12 * np.einsum("tii->ti", products)
    spread = np.where(varies[:, :, None] & varies[:, None, :], spread, 0.0)
    return _Known(
        units, np.where(units[:, None] > 0.0, sums / divisor[:, None] + middle, 0.0), spread
    )


def _as_ratio(known: _Known) -> _Known:
    """With one column, the ratio of both, instead of the first two: what a unit's part in the
    ratio deviates by is (numerator - ratio denominator) / mean(denominator), as
    ``means.linearised`` has it. Where nothing was in the denominator yet there is no spread."""
    below = known.means[:, 1]
    there = np.abs(below) > 1.0 / MAX_MAGNITUDE
    divisor = np.where(there, below, 1.0)
    ratio = np.where(there, known.means[:, 0] / divisor, 0.0)
    width = known.means.shape[1]
    turn = np.zeros((len(below), width - 1, width))
    turn[:, 0, 0], turn[:, 0, 1] = there / divisor, -ratio * there / divisor
    for column in range(1, width - 1):
        turn[:, column, column + 1] = 1.0
    spread = turn @ known.spread @ turn.transpose(0, 2, 1)
    # Rounding may leave a little of a ratio that all units have.
    own = spread[:, 0, 0] > 1e-12 * (turn[:, 0, 0] ** 2 * known.spread[:, 0, 0])
    spread[:, 0, :] = np.where(own[:, None], spread[:, 0, :], 0.0)
    spread[:, :, 0] = np.where(own[:, None], spread[:, :, 0], 0.0)
    return _Known(known.units, np.column_stack([ratio, known.means[:, 2:]]), spread)


def _of_means(known: _Known) -> ArmOverTime:
    """The arm of the first column."""
    freedom = np.maximum(known.units - 1.0, 1.0)
    variance = known.spread[:, 0, 0] / freedom / np.maximum(known.units, 1.0)
    return ArmOverTime(known.means[:, 0], variance, known.units.astype(np.int64), freedom)


def _adjusted(control: _Known, treatment: _Known) -> tuple[ArmOverTime, ArmOverTime]:
    """Both arms, the value's column first, those of covariates behind it."""
    known, width = (control, treatment), control.means.shape[1]
    counts = [np.maximum(each.units, 1.0) for each in known]
    weights = [1.0 / (units * np.maximum(units - 1.0, 1.0)) for units in counts]
    shares = [w[:, None, None] * k.spread for w, k in zip(weights, known, strict=True)]
    pooled = shares[0] + shares[1]
    enough = np.minimum(control.units, treatment.units) >= 2 * width + 8
    coefficients = solved(pooled[:, 1:, 1:], pooled[:, 1:, 0]) * enough[:, None]
    lost = (width - 1) * enough
    total = np.maximum(control.units + treatment.units, 1.0)
    sums = [each.units[:, None] * each.means[:, 1:] for each in known]
    both = (sums[0] + sums[1]) / total[:, None]
    contrast = np.concatenate([np.ones((len(total), 1)), -coefficients], axis=1)
    found = []
    for each, count in zip(known, counts, strict=True):
        freedom = np.maximum(each.units - 1.0 - lost, 1.0)
        left = np.maximum(np.einsum("ti,tij,tj->t", contrast, each.spread, contrast), 0.0)
        adjusted = each.means[:, 0] - ((each.means[:, 1:] - both) * coefficients).sum(axis=1)
        mean = np.where(each.units > 0.0, adjusted, 0.0)
        found.append(
            ArmOverTime(mean, left / freedom / count, each.units.astype(np.int64), freedom)
        )
    return found[0], found[1]


def one_after_another(moments: Sequence[ArmOverTime]) -> ArmOverTime:
    """An arm whose moments [1] were worked out one by one."""
    columns = ("mean", "variance", "units", "freedom")
    return ArmOverTime(*(np.concatenate([getattr(m, name) for m in moments]) for name in columns))


def clustered_over_time(
    values: ArrayLike,
    treated: ArrayLike,
    clusters: ArrayLike,
    arrived: ArrayLike,
    moments: int,
    *,
    denominators: ArrayLike | None = None,
) -> tuple[ArmOverTime, ArmOverTime]:
    """Both arms at each moment with CR2 variances by cluster (``clusters.cluster_robust``).

    Values, arms (bool), clusters and moments of arrival [units] of both arms; of ratios the
    ``denominators`` [units], too: at each moment values are linearised by what was known then.
    ``freedom`` is Bell & McCaffrey's of each arm. While an arm has fewer than two clusters its
    variance is 0. A cluster that has units of both arms (a block of slices) counts in each by
    itself: what it does to both alike is not taken off their difference, which errs to the wide
    side.
    """
    outcome = checked("values", values, least=0)
    below = np.ones(len(outcome))
    if denominators is not None:
        below = checked("denominators", denominators, least=0)
        same_length("denominators", below, outcome)
    arm = np.asarray(treated, dtype=np.bool_)
    labels = np.unique(np.asarray(clusters), return_inverse=True)[1]
    for name, array in (("treated", arm), ("clusters", labels)):
        if len(array) != len(outcome):
            raise InvalidArgument.field(name, f"has {len(array)} for {len(outcome)} units")
    came = _moments_of(arrived, len(outcome), moments)
    control, treatment = (
        _clustered(outcome[inside], below[inside], labels[inside], came[inside], moments)
        for inside in (~arm, arm)
    )
    return control, treatment


def _clustered(
    values: Values,
    denominators: Values,
    labels: NDArray[np.intp],
    came: NDArray[np.int64],
    moments: int,
) -> ArmOverTime:
    """``cluster_robust`` of a mean, at all moments at once: with one column its matrices are
    numbers, of which the leverage of a cluster is its share of the units. A mean is the ratio to
    denominators that are all 1."""
    own, index = np.unique(labels, return_inverse=True)
    cell, cells = index * moments + came, len(own) * moments
    whole = float(denominators.sum())
    middle = float(values.sum()) / whole if abs(whole) * MAX_MAGNITUDE >= 1.0 else 0.0
    sizes, below, sums = (
        np.cumsum(np.bincount(cell, weights=weights, minlength=cells).reshape(-1, moments), axis=1)
        for weights in (np.ones(len(values)), denominators, values - middle * denominators)
    )
    units = sizes.sum(axis=0)
    divisor = np.maximum(units, 1.0)
    total = below.sum(axis=0)
    there = np.abs(total) * MAX_MAGNITUDE >= 1.0
    mean = sums.sum(axis=0) / np.where(there, total, 1.0)
    share = sizes / divisor
    left = np.where(share < 1.0 - 1e-10, 1.0 - share, np.inf)
    residual = (sums - below * mean) * np.where(there, divisor / np.where(there, total, 1.0), 0.0)
    variance = (residual**2 / left).sum(axis=0) / divisor**2
    # a's and Q'a's lengths of cluster_robust, times the units.
    length, across = share / left, share**2 / left
    trace = (length - across).sum(axis=0)
    squared = (length**2 - 2.0 * length * across).sum(axis=0) + across.sum(axis=0) ** 2
    enough = (sizes > 0.0).sum(axis=0) >= 2
    return ArmOverTime(
        np.where(there, mean + middle, 0.0),
        np.where(enough, variance, 0.0),
        units.astype(np.int64),
        np.where(enough, trace**2 / np.where(enough, squared, 1.0), 1.0),
    )


def _moments_of(arrived: ArrayLike, units: int, moments: int) -> NDArray[np.int64]:
    came = np.asarray(arrived, dtype=np.int64)
    if came.shape != (units,):
        raise InvalidArgument.field("arrived", f"must have a moment for each of {units} units")
    if len(came) and (came.min() < 0 or came.max() >= moments):
        raise InvalidArgument.field("arrived", f"must lie in [0, {moments})")
    return came
