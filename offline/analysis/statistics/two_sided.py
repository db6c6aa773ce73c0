"""Two-sided experiments: viewers and hosts are drawn apart, a pair is of four kinds."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from offline.analysis.statistics.arrays import Values, checked
from offline.analysis.statistics.clusters import Regression, cluster_robust
from offline.analysis.statistics.comparison import Arm, Comparison, compared
from services.common.errors import InvalidArgument

# Columns: both in control, the viewer alone treated, the host alone treated, both treated.
_CONTROL = np.array([1.0, 0.0, 0.0, 0.0])
_VIEWER = np.array([0.0, 1.0, 0.0, 0.0])
_HOST = np.array([0.0, 0.0, 1.0, 0.0])
_BOTH = np.array([0.0, 0.0, 0.0, 1.0])


@dataclass(frozen=True)
class TwoSided:
    """Contrasts of the four kinds of pairs.

    ``total``: both sides treated against neither. ``viewer_spillover``: treated viewers with hosts
    in control against neither; what treated viewers do elsewhere because of the treatment.
    ``host_spillover``: treated hosts with viewers in control against neither. ``direct``: both
    treated, less what either side alone makes of it (both - viewer - host + neither).
    """

    total: Comparison
    viewer_spillover: Comparison
    host_spillover: Comparison
    direct: Comparison


def two_sided(
    values: ArrayLike,
    viewer_treated: ArrayLike,
    host_treated: ArrayLike,
    viewers: ArrayLike,
    hosts: ArrayLike,
    *,
    alpha: float = 0.05,
) -> TwoSided:
    """Contrasts of values [pairs] of a viewer and a host, arms and identities [pairs].

    Simple multiple randomisation design: Bajari, Burdick, Imbens, Masoero, McQueen, Richardson &
    Rosen 2023, "Experimental Design in Marketplaces", Statistical Science 38(3); on both-sided
    randomisation in markets also Johari, Li, Liskovich & Weintraub 2022. Variances clustered by
    viewer and by host: V_viewers + V_hosts - V_pairs (Cameron, Gelbach & Miller 2011, equation
    2.12), each CR2, and no less than either alone; the smaller degrees of freedom of both.
    Raises InvalidArgument where one of the four kinds has no pairs, or a side less than two an arm.
    """
    outcome = checked("values", values)
    sides = [np.asarray(each, dtype=np.bool_) for each in (viewer_treated, host_treated)]
    index = [np.unique(np.asarray(each), return_inverse=True)[1] for each in (viewers, hosts)]
    for name, array in zip(
        ("viewer_treated", "host_treated", "viewers", "hosts"), (*sides, *index), strict=True
    ):
        if len(array) != len(outcome):
            raise InvalidArgument.field(name, f"has {len(array)} for {len(outcome)} pairs")
    for name, side, labels in zip(("viewers", "hosts"), sides, index, strict=True):
        for arm in (side, ~side):
            there = len(np.unique(labels[arm]))
            if there < 2:
                raise InvalidArgument.field(name, f"needs at least 2 an arm, has {there}")
    kind = sides[0] + 2 * sides[1]
    design = (kind[:, None] == np.arange(4)).astype(np.float64)
    if not design.any(axis=0).all():
        raise InvalidArgument.field("viewer_treated", "one of the four kinds of pairs is empty")
    pair = index[0].astype(np.int64) * (int(index[1].max()) + 1) + index[1]
    fits = [cluster_robust(outcome, design, labels) for labels in (*index, pair)]
    counts = design.sum(axis=0)

    def contrast(name: str, before: Values, after: Values) -> Comparison:
        return _contrast(f"two_sided_{name}", fits, counts, before, after, alpha=alpha)

    return TwoSided(
        total=contrast("total", _CONTROL, _BOTH),
        viewer_spillover=contrast("viewer_spillover", _CONTROL, _VIEWER),
        host_spillover=contrast("host_spillover", _CONTROL, _HOST),
        direct=contrast("direct", _VIEWER + _HOST - _CONTROL, _BOTH),
    )


def _contrast(
    method: str,
    fits: list[Regression],
    counts: Values,
    before: Values,
    after: Values,
    *,
    alpha: float,
) -> Comparison:
    by_viewer, by_host, by_pair = fits
    difference = after - before
    candidates = [
        by_viewer.covariance + by_host.covariance - by_pair.covariance,
        by_viewer.covariance,
        by_host.covariance,
    ]
    covariance = max(candidates, key=lambda each: float(difference @ each @ difference))
    coefficients = by_viewer.coefficients
    freedom = min(fit.degrees_of_freedom(difference) for fit in (by_viewer, by_host))
    return compared(
        method,
        Arm(
            float(before @ coefficients),
            max(float(before @ covariance @ before), 0.0),
            int(counts[before != 0.0].sum()),
        ),
        Arm(
            float(after @ coefficients),
            max(float(after @ covariance @ after), 0.0),
            int(counts[after != 0.0].sum()),
        ),
        alpha=alpha,
        degrees_of_freedom=freedom,
        covariance=float(before @ covariance @ after),
    )
