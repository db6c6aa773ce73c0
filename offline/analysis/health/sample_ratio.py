"""Whether the arms have the sizes that were planned, in all and day by day.

Units are drawn independently, so that counts are multinomial: Pearson's chi-square. See Fabijan et
al., "Diagnosing Sample Ratio Mismatch in Online Controlled Experiments", KDD 2019.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from offline.analysis.model import SAMPLE_RATIO, Finding
from offline.analysis.statistics.sample_ratio import ALARM_BELOW, sample_ratio
from offline.analysis.wording import probability

# The chi-square distribution fits counts of which at least so many are expected (Cochran 1954).
LEAST_EXPECTED = 5.0
# Sizes in all alarm at 0.001, and days add a tenth of that: arms without a fault alarm in 0.11 % of
# experiments, not in twice as many as by one check.
ALARM_BELOW_BY_DAY = 0.0001


def over_time_p(counts: NDArray[np.int64], shares: Sequence[float]) -> float | None:
    """The chance of ``counts`` [days × arms] at least so far from ``shares`` [arms].

    Chi-squares of days, added up; days are taken together until each arm is to expect
    ``LEAST_EXPECTED``. What is uneven one way on one day and the other way on another shows here
    alone. 0 where an arm without a share has units; None where units are too few, or there is one
    arm.
    """
    planned = np.asarray(shares, np.float64)
    with_share = planned > 0
    if counts[:, ~with_share].any():
        return 0.0
    if with_share.sum() < 2:
        return None
    least = LEAST_EXPECTED * planned.sum() / planned[with_share].min()
    blocks = _blocks(counts, float(least))
    if not blocks:
        return None
    statistic = sum(sample_ratio(block.tolist(), shares).statistic for block in blocks)
    return float(stats.chi2.sf(statistic, len(blocks) * (int(with_share.sum()) - 1)))


def check_sample_ratio(
    counts: Sequence[int], shares: Sequence[float], variants: Sequence[str], of: str = "units"
) -> Finding:
    """The finding of the arms' sizes; ``of`` says what was drawn."""
    p_value = over_time_p(np.asarray([counts], np.int64), shares)
    seen = ", ".join(f"{name} {count:,}" for name, count in zip(variants, counts, strict=True))
    planned = " : ".join(f"{100 * share:.4g}" for share in shares)
    if p_value is None:
        text = f"Too few {of} to tell whether the arms have the planned sizes ({seen})."
        return Finding(SAMPLE_RATIO, "not_checked", text, of)
    if p_value < ALARM_BELOW:
        text = (
            f"The arms have not the sizes that were planned: {seen}, planned {planned}. Chance"
            f" alone makes such a gap {probability(p_value)}. Some {of} are lost or counted twice"
            " in one arm more than in another, so the arms are not alike: nothing can be concluded."
        )
        return Finding(SAMPLE_RATIO, "alarm", text, of, p_value)
    text = f"The arms have the planned sizes: {seen}, planned {planned}."
    return Finding(SAMPLE_RATIO, "ok", text, of, p_value)


def check_over_time(
    counts: NDArray[np.int64], shares: Sequence[float], of: str = "units"
) -> Finding:
    """The finding of ``counts`` [days × arms] of first exposures. It alarms under the same name as
    the sizes in all: both say that the arms are not alike."""
    subject = f"{of} by day"
    p_value = over_time_p(counts, shares) if len(counts) > 1 else None
    if p_value is None:
        text = f"Too few days or {of} to compare the arms' sizes day by day."
        return Finding(SAMPLE_RATIO, "not_checked", text, subject)
    if p_value < ALARM_BELOW_BY_DAY:
        text = (
            f"Day by day the arms have not the sizes that were planned: chance alone makes such"
            f" swings {probability(p_value)}. Shares or targeting changed on the way, or {of} were"
            " lost on some days: nothing can be concluded."
        )
        return Finding(SAMPLE_RATIO, "alarm", text, subject, p_value)
    text = f"The arms have the planned sizes on each of {len(counts)} days, too."
    return Finding(SAMPLE_RATIO, "ok", text, subject, p_value)


def _blocks(counts: NDArray[np.int64], least: float) -> list[NDArray[np.int64]]:
    """Rows of ``counts`` added up until each has ``least`` units; what is left joins the last."""
    blocks: list[NDArray[np.int64]] = []
    open_block = np.zeros(counts.shape[1], np.int64)
    for day in counts:
        open_block = open_block + day
        if open_block.sum() >= least:
            blocks.append(open_block)
            open_block = np.zeros(counts.shape[1], np.int64)
    if blocks:
        blocks[-1] = blocks[-1] + open_block
    return blocks
