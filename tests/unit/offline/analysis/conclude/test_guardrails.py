"""How often a guardrail is said to hold, or to be harmed, by what is true of it."""

from __future__ import annotations

import numpy as np
import pytest

from offline.analysis.conclude.estimates import interval_of
from offline.analysis.conclude.verdicts import verdict_of_guardrail
from offline.analysis.model import Direction
from offline.analysis.statistics.means import welch
from offline.analysis.statistics.power import Baseline, Design, needed_to_hold

MEAN, DEVIATION, MARGIN, RUNS = 10.0, 4.0, 0.1, 2_000
WORSE: dict[Direction, float] = {"increase": -MARGIN, "decrease": MARGIN}


def _verdicts(direction: Direction, change: float, units: tuple[int, int], seed: int) -> list[str]:
    random = np.random.default_rng(seed)
    found = []
    for _ in range(RUNS):
        control = random.normal(MEAN, DEVIATION, units[0])
        treatment = random.normal(MEAN * (1 + change), DEVIATION, units[1])
        comparison = welch(control, treatment)
        verdict = verdict_of_guardrail(
            interval_of(comparison), comparison.p_value, direction, 0.05, MARGIN
        )
        found.append(verdict)
    return found


@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_a_loss_as_large_as_the_margin_is_let_through_by_half_of_alpha(
    direction: Direction,
) -> None:
    """A one-sided test at alpha / 2, as intervals are two-sided at alpha."""
    found = _verdicts(direction, WORSE[direction], (300, 300), seed=3)
    error = np.sqrt(0.025 * 0.975 / RUNS)
    assert np.mean([v == "held" for v in found]) == pytest.approx(0.025, abs=4 * error)
    assert np.mean([v == "broken" for v in found]) == pytest.approx(0.025, abs=4 * error)


@pytest.mark.parametrize("share", [0.5, 0.25])
@pytest.mark.parametrize("direction", ["increase", "decrease"])
def test_as_many_units_as_are_planned_show_that_it_holds(
    direction: Direction, share: float
) -> None:
    design = Design(treatment_share=share)
    units = needed_to_hold(
        Baseline(MEAN, DEVIATION**2), MARGIN, design, less_is_better=direction == "decrease"
    )
    found = _verdicts(direction, 0.0, (units.control_units, units.treatment_units), seed=4)
    error = np.sqrt(0.8 * 0.2 / RUNS)
    assert np.mean([v == "held" for v in found]) == pytest.approx(0.8, abs=4 * error)
