"""Whether two experiments that share units change one another's effect."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import linalg, stats

from offline.analysis.health.comparing import Floats
from offline.analysis.model import Finding
from offline.analysis.statistics.multiple import holm
from offline.analysis.wording import readable

CHECK = "interaction"
# A mean of fewer units has no variance to speak of.
LEAST_UNITS = 20
NOTICE_BELOW = 0.01


@dataclass(frozen=True)
class Overlap:
    """Another experiment's arms of the same units: ``arm`` [units], -1 where it has not one."""

    experiment: str
    variants: tuple[str, ...]
    arm: NDArray[np.int64]


def interaction_p(
    values: Floats,
    first: NDArray[np.int64],
    second: NDArray[np.int64],
    arms: tuple[int, int],
) -> float | None:
    """The p-value of "the effect of ``first`` on ``values`` is the same in each arm of ``second``".

    A Wald test of all products of contrasts to the arms 0, from the means of the arms[0] × arms[1]
    cells and their variances, which may differ; chi-square with the product of (arms - 1) degrees
    of freedom. Units of -1 in either are left out. None where a cell has fewer than
    ``LEAST_UNITS`` units, or where nothing varies.
    """
    in_both = (first >= 0) & (second >= 0)
    cell = first[in_both] * arms[1] + second[in_both]
    inside = values[in_both]
    if not len(inside):
        return None
    inside = inside - inside.mean()
    cells = arms[0] * arms[1]
    counts = np.bincount(cell, minlength=cells)
    if counts.min() < LEAST_UNITS:
        return None
    means = np.bincount(cell, inside, cells) / counts
    squares = np.bincount(cell, np.square(inside - means[cell]), cells)
    variances = squares / (counts - 1) / counts
    contrasts = np.kron(_to_first(arms[0]), _to_first(arms[1]))
    gaps = contrasts @ means
    covariance = (contrasts * variances) @ contrasts.T
    if not variances.all():
        return None
    statistic = float(gaps @ linalg.solve(covariance, gaps, assume_a="pos"))
    return float(stats.chi2.sf(statistic, len(gaps)))


def check_interactions(
    values: Floats,
    arm: NDArray[np.int64],
    arms: int,
    overlaps: Sequence[Overlap],
    metric: str,
) -> tuple[Finding, ...]:
    """A finding for each of ``overlaps``, by Holm's rule over all that could be tested."""
    p_values = [
        interaction_p(values, arm, overlap.arm, (arms, len(overlap.variants)))
        for overlap in overlaps
    ]
    tested = [p for p in p_values if p is not None]
    adjusted = iter(holm(tested))
    findings, what = [], readable(metric)
    for overlap, p_value in zip(overlaps, p_values, strict=True):
        shared = int(((arm >= 0) & (overlap.arm >= 0)).sum())
        units = f"{shared:,} units in both"
        if p_value is None:
            text = f"Too few units in both experiments to compare ({shared:,})."
            findings.append(Finding(CHECK, "not_checked", text, overlap.experiment))
            continue
        corrected = next(adjusted)
        if corrected < NOTICE_BELOW:
            text = (
                f"The effect on {what} is not the same in all arms of {overlap.experiment}"
                f" ({units}): look at the two together before shipping either."
            )
            findings.append(Finding(CHECK, "notice", text, overlap.experiment, corrected))
        else:
            text = f"No sign that {overlap.experiment} changes the effect on {what} ({units})."
            findings.append(Finding(CHECK, "ok", text, overlap.experiment, corrected))
    return tuple(findings)


def _to_first(arms: int) -> Floats:
    return np.hstack([-np.ones((arms - 1, 1)), np.eye(arms - 1)])
