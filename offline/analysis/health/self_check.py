"""A/A checks on the experiment's own data: arms that can't differ must not be told apart.

Two of them. Before exposure nothing was done to anybody, so the arms must be alike there. And among
the control's units nothing was done to anybody either: drawn apart at random again and again, the
test that the experiment is decided by must find a difference as often as it says, in ``alpha`` of
the draws. Where it finds more, the metric has too heavy a tail for so few units.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from offline.analysis.health.comparing import Floats, welch_p
from offline.analysis.model import Finding
from offline.analysis.wording import probability, readable

CHECK = "self_check"
ALARM_BELOW = 0.001
DRAWS = 400
# Beyond so many units the mean's distribution is no question of the tail any more.
MOST_UNITS = 1_000_000
LEAST_GROUPS = 8

TestOf = Callable[[NDArray[np.bool_]], float]


def check_before_exposure(covariate: str, variant: str, p_value: float | None) -> Finding:
    """The finding of ``covariate``, measured before exposure, between the control and ``variant``;
    the p-value is that of the method by which metrics are compared, None where it had too few."""
    if p_value is None:
        return Finding(CHECK, "not_checked", "Too few units to compare.", covariate)
    if p_value < ALARM_BELOW:
        text = (
            f"Before anybody was exposed, {readable(covariate)} differed between the control and"
            f" “{variant}” already; chance alone makes such a gap {probability(p_value)}."
            " The arms may not be alike."
        )
        return Finding(CHECK, "alarm", text, covariate, p_value)
    text = f"Before exposure the control and “{variant}” were alike in {readable(covariate)}."
    return Finding(CHECK, "ok", text, covariate, p_value)


def check_control(
    metric: str, values: Floats, alpha: float, *, share: float, seed: int, draws: int = DRAWS
) -> Finding:
    """Draws the control's units apart ``draws`` times and compares by Welch's test.

    Args:
        metric: what ``values`` are.
        values: [units] of the control.
        alpha: the level that the experiment is decided at.
        share: of the units that stand for the treatment.
        seed: of the draws.
        draws: how many; 400 tell 5% from 8%.
    """
    random = np.random.default_rng(seed)
    if len(values) > MOST_UNITS:
        values = random.choice(values, MOST_UNITS, replace=False)
    if len(values) < LEAST_GROUPS:
        return _too_few(metric)
    centred = values - values.mean()
    columns = np.stack([centred, np.square(centred), np.ones_like(centred)])
    total = columns.sum(axis=1)
    drawn = np.stack([columns @ (random.random(len(values)) < share) for _ in range(draws)])
    of_both = np.stack([total - drawn, drawn], axis=-1)
    p_values = welch_p(of_both[:, 0], of_both[:, 1], of_both[:, 2])
    return _finding(metric, int((p_values < alpha).sum()), draws, alpha)


def check_control_clusters(
    metric: str,
    clusters: NDArray[np.int64],
    test_of: TestOf,
    alpha: float,
    *,
    share: float,
    seed: int,
    draws: int = DRAWS,
) -> Finding:
    """As ``check_control`` where whole ``clusters`` [units] are drawn: ``test_of`` gives the
    p-value of the units [units] that stand for the treatment against the others."""
    names, places = np.unique(clusters, return_inverse=True)
    if len(names) < LEAST_GROUPS:
        return _too_few(metric)
    random = np.random.default_rng(seed)
    treated = max(2, min(len(names) - 2, round(share * len(names))))
    rejected = 0
    for _ in range(draws):
        chosen = np.zeros(len(names), np.bool_)
        chosen[random.permutation(len(names))[:treated]] = True
        rejected += test_of(chosen[places]) < alpha
    return _finding(metric, rejected, draws, alpha)


def _too_few(metric: str) -> Finding:
    return Finding(CHECK, "not_checked", f"Too few units to draw {readable(metric)} apart.", metric)


def _finding(metric: str, rejected: int, draws: int, alpha: float) -> Finding:
    p_value = float(stats.binom.sf(rejected - 1, draws, alpha))
    seen = (
        f"The control drawn apart {draws} times at random differed in {readable(metric)}"
        f" {rejected / draws:.1%} of the time"
    )
    if p_value < ALARM_BELOW:
        text = (
            f"{seen}, more than the {alpha:.0%} that the test allows itself: it is too ready to"
            " find a difference here."
        )
        return Finding(CHECK, "notice", text, metric, p_value)
    return Finding(CHECK, "ok", f"{seen}; the test allows itself {alpha:.0%}.", metric, p_value)
