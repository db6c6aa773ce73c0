"""An arm as it was known at each of several moments, units coming in one after another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline.analysis.statistics.arrays import Indices, Values, checked, checked_columns
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


def over_time(values: ArrayLike, arrived: ArrayLike, moments: int) -> ArmOverTime:
    """The arm at each of ``moments`` from unit values [units] and the moment each came in [units].

    A unit that came in at moment m is known at m and later. Raises InvalidArgument for moments
    outside [0, moments).
    """
    plain = checked("values", values, least=0)
    came = _moments_of(arrived, len(plain), moments)
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
) -> tuple[ArmOverTime, ArmOverTime]:
    """Both arms at each moment, adjusted (CUPED) with coefficients of the units there were then.

    Values [units], covariates [units, covariates], moments of arrival [units] of each arm. While
    units are fewer than twice the covariates and ten, values are taken as they are.
    """
    values = [checked("control", control, least=0), checked("treatment", treatment, least=0)]
    columns = [
        checked_columns("control_covariates", control_covariates, len(values[0])),
        checked_columns("treatment_covariates", treatment_covariates, len(values[1])),
    ]
    came = [
        _moments_of(control_arrived, len(values[0]), moments),
        _moments_of(treatment_arrived, len(values[1]), moments),
    ]
    width = 1 + columns[0].shape[1]
    tables = [np.column_stack([v, c]) for v, c in zip(values, columns, strict=True)]
    # About the middle: of large values that hardly differ the squares would keep nothing.
    middle = np.concatenate(tables).mean(axis=0) if sum(map(len, tables)) else np.zeros(width)
    known = [
        _products(table - middle, arrived, moments)
        for table, arrived in zip(tables, came, strict=True)
    ]
    return _adjusted(known[0], known[1], middle)


def _products(
    table: Values, came: NDArray[np.int64], moments: int
) -> tuple[Values, Values, Values]:
    """Cumulative counts [moments], sums [moments, columns] and sums of products [moments, columns,
    columns] of ``table`` [units, columns]."""
    width = table.shape[1]
    units = np.cumsum(np.bincount(came, minlength=moments)).astype(np.float64)
    sums, products = np.empty((moments, width)), np.empty((moments, width, width))
    for row in range(width):
        sums[:, row] = np.cumsum(np.bincount(came, weights=table[:, row], minlength=moments))
        for column in range(row, width):
            weights = table[:, row] * table[:, column]
            found = np.cumsum(np.bincount(came, weights=weights, minlength=moments))
            products[:, row, column] = products[:, column, row] = found
    return units, sums, products


def _adjusted(
    control: tuple[Values, Values, Values], treatment: tuple[Values, Values, Values], middle: Values
) -> tuple[ArmOverTime, ArmOverTime]:
    """Both arms from their ``_products`` about ``middle`` [columns], the value's column first."""
    known, width = (control, treatment), len(middle)
    counts = [np.maximum(units, 1.0) for units, _, _ in known]
    spreads = []
    for (_, sums, products), units in zip(known, counts, strict=True):
        spread = products - sums[:, :, None] * sums[:, None, :] / units[:, None, None]
        # What is left of a column that does not vary yet is rounding.
        varies = np.einsum("tii->ti", spread) > 1e-12 * np.einsum("tii->ti", products)
        spreads.append(np.where(varies[:, :, None] & varies[:, None, :], spread, 0.0))
    weights = [1.0 / (units * np.maximum(units - 1.0, 1.0)) for units in counts]
    pooled = weights[0][:, None, None] * spreads[0] + weights[1][:, None, None] * spreads[1]
    enough = np.minimum(control[0], treatment[0]) >= 2 * width + 8
    coefficients = solved(pooled[:, 1:, 1:], pooled[:, 1:, 0]) * enough[:, None]
    lost = (width - 1) * enough
    total = np.maximum(control[0] + treatment[0], 1.0)
    both = (control[1] + treatment[1])[:, 1:] / total[:, None]
    contrast = np.concatenate([np.ones((len(total), 1)), -coefficients], axis=1)
    found = []
    for (units, sums, _), count, spread in zip(known, counts, spreads, strict=True):
        mean = sums / count[:, None]
        freedom = np.maximum(units - 1.0 - lost, 1.0)
        left = np.maximum(np.einsum("ti,tij,tj->t", contrast, spread, contrast), 0.0)
        adjusted = mean[:, 0] - ((mean[:, 1:] - both) * coefficients).sum(axis=1)
        found.append(
            ArmOverTime(
                np.where(units > 0, adjusted + middle[0], 0.0),
                left / freedom / count,
                units.astype(np.int64),
                freedom,
            )
        )
    return found[0], found[1]


def clustered_over_time(
    values: ArrayLike,
    treated: ArrayLike,
    clusters: ArrayLike,
    arrived: ArrayLike,
    moments: int,
) -> tuple[ArmOverTime, ArmOverTime]:
    """Both arms at each moment with CR2 variances by cluster (``clusters.cluster_robust``).

    Values, arms (bool), clusters and moments of arrival [units] of both arms. ``freedom`` is Bell &
    McCaffrey's of each arm. While an arm has fewer than two clusters its variance is 0.
    """
    outcome = checked("values", values, least=0)
    arm = np.asarray(treated, dtype=np.bool_)
    labels = np.unique(np.asarray(clusters), return_inverse=True)[1]
    for name, array in (("treated", arm), ("clusters", labels)):
        if len(array) != len(outcome):
            raise InvalidArgument.field(name, f"has {len(array)} for {len(outcome)} units")
    came = _moments_of(arrived, len(outcome), moments)
    control, treatment = (
        _clustered(outcome[inside], labels[inside], came[inside], moments) for inside in (~arm, arm)
    )
    return control, treatment


def _clustered(
    values: Values, labels: NDArray[np.intp], came: NDArray[np.int64], moments: int
) -> ArmOverTime:
    """``cluster_robust`` of a mean, at all moments at once: with one column its matrices are
    numbers, of which the leverage of a cluster is its share of the units."""
    own, index = np.unique(labels, return_inverse=True)
    cell, cells = index * moments + came, len(own) * moments
    middle = float(values.mean()) if len(values) else 0.0
    sizes, sums = (
        np.cumsum(np.bincount(cell, weights=weights, minlength=cells).reshape(-1, moments), axis=1)
        for weights in (np.ones(len(values)), values - middle)
    )
    units = sizes.sum(axis=0)
    divisor = np.maximum(units, 1.0)
    mean = sums.sum(axis=0) / divisor
    share = sizes / divisor
    left = np.where(share < 1.0 - 1e-10, 1.0 - share, np.inf)
    variance = (((sums - sizes * mean) ** 2) / left).sum(axis=0) / divisor**2
    # a's and Q'a's lengths of cluster_robust, times the units.
    length, across = share / left, share**2 / left
    trace = (length - across).sum(axis=0)
    squared = (length**2 - 2.0 * length * across).sum(axis=0) + across.sum(axis=0) ** 2
    enough = (sizes > 0.0).sum(axis=0) >= 2
    return ArmOverTime(
        np.where(units > 0.0, mean + middle, 0.0),
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
