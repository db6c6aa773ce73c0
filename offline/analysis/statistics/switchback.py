"""Switchback experiments: slices of time take turns, everybody in a slice has its arm."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from offline.analysis.statistics.arrays import Flags, Indices, Values, checked, same_length
from offline.analysis.statistics.clusters import clustered
from offline.analysis.statistics.comparison import Comparison
from services.common.errors import InvalidArgument


def switchback(
    values: ArrayLike,
    treated: ArrayLike,
    slices: ArrayLike,
    elapsed_ms: ArrayLike,
    *,
    burn_in_ms: int = 0,
    block_slices: int = 1,
    alpha: float = 0.05,
) -> Comparison:
    """Difference of means of values [observations] between slices of both arms.

    ``slices`` [observations]: the number of the slice, counted through time; ``elapsed_ms`` since
    it began; ``treated`` its arm. Observations of the first ``burn_in_ms`` of a slice are left out
    where another arm ran before it, or nobody knows what: what the former arm did may last
    (Bojinov, Simchi-Levi & Zhao 2023, "Design and Analysis of Switchback Experiments", whose order
    of carry-over this is in units of time). Inference by blocks of ``block_slices`` neighbouring
    slices (``clustered``: CR2): 1 where slices were drawn one by one and hours do not resemble one
    another; a day of them where they do. For ratios give linearised values.
    Raises InvalidArgument for a slice of two arms, or fewer than two blocks an arm.
    """
    outcome = checked("values", values)
    arm = np.asarray(treated, dtype=np.bool_)
    number, since = (np.asarray(each, dtype=np.int64) for each in (slices, elapsed_ms))
    for name, array in (("treated", arm), ("slices", number), ("elapsed_ms", since)):
        if array.shape != outcome.shape:
            raise InvalidArgument.field(name, f"has {len(array)} for {len(outcome)} observations")
    if block_slices < 1 or burn_in_ms < 0:
        raise InvalidArgument.field("block_slices", "must be 1 or more, burn_in_ms not negative")
    kept = settled(arm, number, since, burn_in_ms=burn_in_ms)
    return clustered(
        outcome[kept],
        arm[kept],
        number[kept] // block_slices,
        alpha=alpha,
        method="switchback",
    )


def settled(
    treated: Flags, slices: Indices, elapsed_ms: Indices, *, burn_in_ms: int
) -> NDArray[np.bool_]:
    """Which observations [observations] are past the carry-over of another arm."""
    numbers, first, index = np.unique(slices, return_index=True, return_inverse=True)
    arms = treated[first]
    if (treated != arms[index]).any():
        raise InvalidArgument.field("treated", "a slice has two arms")
    same = np.zeros(len(numbers), dtype=np.bool_)
    same[1:] = (numbers[1:] == numbers[:-1] + 1) & (arms[1:] == arms[:-1])
    return np.asarray(same[index] | (elapsed_ms >= burn_in_ms))


def randomisation_p(
    values: ArrayLike,
    treated: ArrayLike,
    slices: ArrayLike,
    *,
    denominators: ArrayLike | None = None,
    draws: int = 1_999,
    seed: int = 0,
) -> float:
    """How often arms drawn anew differ as much: the p-value of "no arm changes any value".

    Values, ``denominators`` of ratios, arms and slices [observations]. The arms of all slices are
    shuffled ``draws`` times, and the differences of means or ratios counted that are as large; the
    drawn one counts, too (Fisher 1935; Phipson & Smyth 2010, equation 2). It rests on how arms were
    drawn, one by one, alone: hours may resemble one another. With a burn-in it is only near, since
    what was cut went by the arms that were. Raises InvalidArgument for a slice of two arms.
    """
    above = checked("values", values)
    below = np.ones(len(above)) if denominators is None else checked("denominators", denominators)
    same_length("denominators", below, above)
    arm, number = np.asarray(treated, dtype=np.bool_), np.asarray(slices, dtype=np.int64)
    _, first, index = np.unique(number, return_index=True, return_inverse=True)
    arms = arm[first]
    if (arm != arms[index]).any():
        raise InvalidArgument.field("treated", "a slice has two arms")
    sums = np.stack([np.bincount(index, weights=part) for part in (above, below)]).astype(float)
    random = np.random.default_rng(seed)
    drawn = abs(_difference(sums, arms))
    # Sums in another order differ by rounding.
    least = drawn * (1.0 - 1e-12)
    found = sum(abs(_difference(sums, random.permutation(arms))) >= least for _ in range(draws))
    return (1 + found) / (1 + draws)


def _difference(sums: Values, arms: Flags) -> float:
    """Of the arms' ratios; without end where a draw leaves an arm without a denominator."""
    treatment = sums[:, arms].sum(axis=1)
    control = sums[:, ~arms].sum(axis=1)
    if treatment[1] == 0.0 or control[1] == 0.0:
        return np.inf
    return float(treatment[0] / treatment[1] - control[0] / control[1])
