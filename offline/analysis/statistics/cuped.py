"""Means adjusted by what was known of units before the experiment (CUPED)."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offline.analysis.statistics.arrays import Values, checked, checked_columns
from offline.analysis.statistics.comparison import (
    Arm,
    Comparison,
    compared,
    welch_degrees_of_freedom,
)
from services.common.errors import InvalidArgument


@dataclass(frozen=True)
class Adjusted:
    """Values [units] of both arms less what covariates tell, on the metric's scale.

    ``coefficients`` [covariates]; ``explained`` is the share of the variance of the difference that
    the covariates took away.
    """

    control: Values
    treatment: Values
    coefficients: Values
    explained: float


def cuped(
    control: ArrayLike,
    treatment: ArrayLike,
    control_covariates: ArrayLike,
    treatment_covariates: ArrayLike,
    *,
    alpha: float = 0.05,
) -> Comparison:
    """Difference of means of values [units], adjusted by covariates [units] or [units, covariates].

    Deng, Xu, Kohavi & Walker 2013, "Improving the Sensitivity of Online Controlled Experiments by
    Utilizing Pre-Experiment Data", section 3.2, for a vector of covariates: one coefficient
    for both arms, that which makes the variance of the difference smallest. The variance is of what
    is left, with a degree of freedom less for each covariate. Covariates must be from before the
    exposure. Raises InvalidArgument for fewer units than covariates + 3.
    """
    first, second = checked("control", control), checked("treatment", treatment)
    before_first = checked_columns("control_covariates", control_covariates, len(first))
    before_second = checked_columns("treatment_covariates", treatment_covariates, len(second))
    found = adjusted(first, second, before_first, before_second)
    spare = len(first) + len(second) - 2
    inflation = spare / (spare - before_first.shape[1])
    arms = [
        Arm(float(v.mean()), float(v.var(ddof=1)) / len(v) * inflation, len(v))
        for v in (found.control, found.treatment)
    ]
    freedom = welch_degrees_of_freedom(*arms)
    if freedom is not None:
        freedom = max(freedom - before_first.shape[1], 1.0)
    return compared("cuped", *arms, alpha=alpha, degrees_of_freedom=freedom)


def adjusted(
    control: Values,
    treatment: Values,
    control_covariates: Values,
    treatment_covariates: Values,
) -> Adjusted:
    """Values [units] less coefficients · (covariates - their mean over both arms).

    Covariates [units, covariates]; constant or collinear ones take nothing away.
    """
    covariates = control_covariates.shape[1]
    if treatment_covariates.shape[1] != covariates:
        raise InvalidArgument.field(
            "treatment_covariates", f"has {treatment_covariates.shape[1]} for {covariates} columns"
        )
    if len(control) + len(treatment) < covariates + 5:
        raise InvalidArgument.field(
            "control_covariates", f"{covariates} are too many for {len(control)} units an arm"
        )
    middle = np.concatenate([control_covariates, treatment_covariates]).mean(axis=0)
    between, across = np.zeros((covariates, covariates)), np.zeros(covariates)
    plain = 0.0
    for values, columns in ((control, control_covariates), (treatment, treatment_covariates)):
        centred, deviations = columns - columns.mean(axis=0), values - values.mean()
        weight = 1.0 / (len(values) * (len(values) - 1))
        between += weight * centred.T @ centred
        across += weight * centred.T @ deviations
        plain += weight * float(deviations @ deviations)
    coefficients = solved(between, across)
    return Adjusted(
        control=control - (control_covariates - middle) @ coefficients,
        treatment=treatment - (treatment_covariates - middle) @ coefficients,
        coefficients=coefficients,
        explained=float(across @ coefficients) / plain if plain > 0.0 else 0.0,
    )


def solved(between: Values, across: Values) -> Values:
    """Coefficients [..., covariates] from covariances of covariates [..., covariates, covariates]
    and of these with the values [..., covariates].

    By least squares on covariates scaled to one: units of measurement do not decide the rank.
    """
    # Rounding may leave a little less than nothing of a covariate that hardly varies.
    scale = np.sqrt(np.maximum(np.einsum("...ii->...i", between), 0.0))
    scale = np.where(scale > 0.0, scale, 1.0)
    scaled = between / (scale[..., :, None] * scale[..., None, :])
    inverse = np.linalg.pinv(scaled, rcond=1e-10, hermitian=True)
    return np.asarray(np.einsum("...ij,...j->...i", inverse, across / scale) / scale)
