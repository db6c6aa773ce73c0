"""Whether exposures are whole."""

from __future__ import annotations

import numpy as np
import pytest

from offline.analysis.health.exposures import (
    check_crossover,
    check_days,
    check_lost,
    days_of_exposures,
)
from offline.analysis.units.daily import day_starts_ms
from offline.analysis.wording import probability

HOUR_MS = 3_600_000
DAY_MS = 24 * HOUR_MS
# Noon of 8 March 2026 in UTC, the day on which New York's clocks go forward.
NOON_MS = 20_520 * DAY_MS + 12 * HOUR_MS


def test_days_are_counted_by_arm_without_gaps() -> None:
    """In a zone whose days begin at another hour, and change their length."""
    zone = "America/New_York"
    exposed_ms = np.array([5, 10, 2 * DAY_MS + 1, 2 * DAY_MS]) + NOON_MS
    starts = day_starts_ms(int(exposed_ms.min()), int(exposed_ms.max()), zone)
    assert np.diff(starts).tolist() == [DAY_MS - HOUR_MS, DAY_MS]
    days = days_of_exposures(exposed_ms, np.array([0, 1, 1, 1]), 2, starts)
    assert [d.units for d in days] == [(1, 1), (0, 0), (0, 2)]
    found = check_days(days, zone)
    assert found.level == "notice"
    assert "9 March 2026" in found.text
    assert check_days(days[:1], zone).level == "ok"
    assert check_days((), zone).level == "not_checked"


def test_what_was_lost_is_told() -> None:
    assert check_lost(0, 10).level == "ok"
    assert check_lost(3, 10).level == "notice"


@pytest.mark.parametrize(("crossed", "level"), [(0, "ok"), (5, "notice"), (50, "alarm")])
def test_units_in_two_arms_are_told_by_their_share(crossed: int, level: str) -> None:
    assert check_crossover(crossed, 1_000).level == level


@pytest.mark.parametrize(
    ("p_value", "text"),
    [
        (0.2, "20% of the time"),
        (0.0004, "about once in 2,000 times"),
        (1.8e-6, "about once in 600,000 times"),
        (0.0, "less than once in 1,000,000,000 times"),
    ],
)
def test_probabilities_in_words(p_value: float, text: str) -> None:
    assert probability(p_value) == text
