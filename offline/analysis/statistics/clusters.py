"""Units that come in clusters: CR2 variances, Bell and McCaffrey's degrees of freedom."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offline.analysis.statistics.arrays import Flags, Indices, Values, checked, checked_columns
from offline.analysis.statistics.comparison import Arm, Comparison, compared
from services.common.errors import InvalidArgument

LEAST_CLUSTERS = 2


@dataclass(frozen=True)
class Regression:
    """Least squares of ``cluster_robust``: ``coefficients`` [columns], their CR2 ``covariance``
    [columns, columns] and the number of ``clusters``."""

    coefficients: Values
    covariance: Values
    clusters: int
    _bases: Values
    _leverages: Values
    _root: Values

    def degrees_of_freedom(self, contrast: ArrayLike) -> float:
        """Satterthwaite's, of the variance of ``contrast`` · coefficients; contrast [columns].

        Bell & McCaffrey 2002: trace(G'G)² / trace((G'G)²) for independent errors of one variance;
        G'G from matrices of columns x columns as in Imbens & Kolesár 2016, "Robust Standard Errors
        in Small Samples: Some Practical Advice". Raises InvalidArgument where no cluster varies
        beside another.
        """
        direction = self._root @ np.asarray(contrast, dtype=np.float64)
        # Row s of ``across`` is a_s' Q_s; ``own`` is a_s' a_s, where a_s = Q_s D_s direction.
        turned = self._leverages @ direction
        across = np.einsum("sij,sj->si", self._bases, turned)
        own = np.einsum("si,si->s", turned, across)
        # G'G = diag(own) - across across': its traces, without clusters x clusters.
        lengths = (across**2).sum(axis=1)
        squared = (own**2).sum() - 2.0 * (own * lengths).sum() + ((across.T @ across) ** 2).sum()
        if not squared > 0.0:
            raise InvalidArgument.field("clusters", "decide every coefficient alone: none is left")
        return float((own.sum() - lengths.sum()) ** 2 / squared)


def cluster_robust(values: ArrayLike, design: ArrayLike, clusters: ArrayLike) -> Regression:
    """Least squares of values [units] on ``design`` [units, columns], CR2 by ``clusters`` [units].

    CR2 (bias-reduced linearisation): Bell & McCaffrey 2002; Pustejovsky & Tipton 2018. Square roots
    are taken of columns x columns matrices, whatever the sizes of clusters: of Q_s' Q_s where Q is
    the orthonormal basis of the design. Raises InvalidArgument for a design without full rank.
    """
    outcome = checked("values", values)
    columns = checked_columns("design", design, len(outcome))
    _, index = np.unique(np.asarray(clusters), return_inverse=True)
    if len(index) != len(outcome):
        raise InvalidArgument.field(
            "clusters", f"must have one for each of {len(outcome)} units, has {len(index)}"
        )
    basis, triangle = np.linalg.qr(columns)
    diagonal = np.abs(np.diag(triangle))
    if len(columns) < columns.shape[1] or diagonal.min() <= 1e-10 * diagonal.max():
        raise InvalidArgument.field("design", "columns depend on one another")
    count = int(index.max()) + 1
    width = columns.shape[1]
    rotated = basis.T @ outcome
    residual = outcome - basis @ rotated
    bases = np.empty((count, width, width))
    for row in range(width):
        for column in range(row, width):
            products = np.bincount(index, weights=basis[:, row] * basis[:, column], minlength=count)
            bases[:, row, column] = bases[:, column, row] = products
    leverages = _adjustments(bases)
    scores = np.stack(
        [np.bincount(index, weights=basis[:, c] * residual, minlength=count) for c in range(width)],
        axis=1,
    )
    adjusted = np.einsum("sij,sj->si", leverages, scores)
    inverse = np.linalg.inv(triangle)
    return Regression(
        coefficients=inverse @ rotated,
        covariance=inverse @ (adjusted.T @ adjusted) @ inverse.T,
        clusters=count,
        _bases=bases,
        _leverages=leverages,
        _root=inverse.T,
    )


def _adjustments(bases: Values) -> Values:
    """D_s [clusters, columns, columns] with Q_s D_s = (I - Q_s Q_s')^(-1/2) Q_s.

    By the eigenvalues of Q_s' Q_s, since those of I - Q_s Q_s' are 1 less them; directions which a
    cluster decides alone (eigenvalue 1) are left out, as by a pseudo-inverse.
    """
    width = bases.shape[1]
    if np.abs(bases[:, ~np.eye(width, dtype=np.bool_)]).max(initial=0.0) <= 1e-14:
        # Nothing but arms: a hundred thousand decompositions would find the diagonal.
        left = 1.0 - np.einsum("sii->si", bases)
        scaled = np.where(left > 1e-10, np.maximum(left, 1e-10) ** -0.5, 0.0)
        return np.asarray(scaled[:, :, None] * np.eye(width))
    eigenvalues, vectors = np.linalg.eigh(bases)
    left = 1.0 - eigenvalues
    scaled = np.where(left > 1e-10, np.maximum(left, 1e-10) ** -0.5, 0.0)
    return np.asarray(np.einsum("sij,sj,skj->sik", vectors, scaled, vectors))


def clustered(
    values: ArrayLike,
    treated: ArrayLike,
    clusters: ArrayLike,
    *,
    covariates: ArrayLike | None = None,
    alpha: float = 0.05,
    method: str = "clustered",
) -> Comparison:
    """Difference of the means of units when clusters of them (hosts, rooms) were drawn.

    Values, ``treated`` (bool) and ``clusters`` (anything that sorts) [units]; covariates [units,
    columns] from before the exposure. CR2 and Bell & McCaffrey's degrees of freedom of a regression
    on both arms (and centred covariates): each unit counts the same, so large clusters count more.
    For ratios give ``means.linearised`` values of each arm. Raises InvalidArgument for fewer than
    two clusters an arm.
    """
    outcome = checked("values", values)
    arm = np.asarray(treated, dtype=np.bool_)
    labels = np.unique(np.asarray(clusters), return_inverse=True)[1].astype(np.int64)
    _check_arms(outcome, arm, labels)
    design = np.column_stack([~arm, arm]).astype(np.float64)
    if covariates is not None:
        before = checked_columns("covariates", covariates, len(outcome))
        design = np.column_stack([design, before - before.mean(axis=0)])
    found = cluster_robust(outcome, design, labels)
    contrast = np.zeros(design.shape[1])
    contrast[:2] = -1.0, 1.0
    return compared(
        method,
        Arm(float(found.coefficients[0]), float(found.covariance[0, 0]), int((~arm).sum())),
        Arm(float(found.coefficients[1]), float(found.covariance[1, 1]), int(arm.sum())),
        alpha=alpha,
        degrees_of_freedom=found.degrees_of_freedom(contrast),
        covariance=float(found.covariance[0, 1]),
    )


def _check_arms(outcome: Values, arm: Flags, labels: Indices) -> None:
    for name, array in (("treated", arm), ("clusters", labels)):
        if len(array) != len(outcome):
            raise InvalidArgument.field(name, f"has {len(array)} for {len(outcome)} units")
    for name, inside in (("control", ~arm), ("treatment", arm)):
        there = len(np.unique(labels[inside]))
        if there < LEAST_CLUSTERS:
            raise InvalidArgument.field(
                "clusters", f"{name} needs at least {LEAST_CLUSTERS}, has {there}"
            )


def intraclass_correlation(values: ArrayLike, clusters: ArrayLike) -> float:
    """The share of the variance of values [units] that lies between ``clusters`` [units].

    Analysis of variance with unequal sizes: Donner & Koval 1980, equation 1; at least 0. Raises
    InvalidArgument where there is one cluster, or no cluster of two.
    """
    outcome = checked("values", values)
    index = np.unique(np.asarray(clusters), return_inverse=True)[1]
    sizes = np.bincount(index).astype(np.float64)
    if len(sizes) < 2 or len(outcome) == len(sizes):
        raise InvalidArgument.field("clusters", "needs two clusters, and one of two units")
    means = np.bincount(index, weights=outcome) / sizes
    between = (sizes * (means - outcome.mean()) ** 2).sum() / (len(sizes) - 1)
    within = ((outcome - means[index]) ** 2).sum() / (len(outcome) - len(sizes))
    typical = (len(outcome) - (sizes**2).sum() / len(outcome)) / (len(sizes) - 1)
    total = between + (typical - 1.0) * within
    return max(float((between - within) / total), 0.0) if total > 0.0 else 0.0
