"""The trend against counts written out."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.training.data import Histories
from offline.training.trend import STEPS, Trend, trend_of

ITEMS = 3
STEP_MS = 10


@settings(deadline=None)
@given(
    st.lists(st.tuples(st.integers(0, 500), st.integers(0, ITEMS - 1)), max_size=30),
    st.integers(-50, 800),
)
def test_it_counts_the_window_before_the_running_step(
    events: list[tuple[int, int]], asked_ms: int
) -> None:
    times = np.array([time for time, _ in events], np.int64)
    rows = np.array([row for _, row in events], np.int64)
    trend = Trend(times, rows, ITEMS, STEPS * STEP_MS)
    first = min((time for time, _ in events), default=0)
    now = (asked_ms - first) // STEP_MS
    counts = [
        sum(row == item and now - STEPS <= (time - first) // STEP_MS < now for time, row in events)
        for item in range(ITEMS)
    ]
    found = trend.at(np.array([asked_ms]), np.arange(ITEMS))
    np.testing.assert_allclose(found, np.log1p(counts), rtol=1e-6)


def test_what_happens_now_or_later_is_not_in_it() -> None:
    trend = Trend(np.array([0, 70, 71]), np.array([0, 1, 1]), ITEMS, STEPS * STEP_MS)
    assert trend.at(np.array([70, 71, 79]), np.array([1, 1, 1])).tolist() == [0.0, 0.0, 0.0]
    assert trend.at(np.array([80]), np.array([1])).tolist() == [np.float32(np.log1p(2))]


def test_only_chosen_events_on_known_items_count() -> None:
    ones = np.ones(4, np.int64)
    histories = Histories(
        items=ones,
        targets=np.array([0, 1, -1, 1]),
        actions=np.array([1, 2, 2, 2]),
        surfaces=ones,
        times_ms=np.array([0, 1, 2, 3]),
        split=np.full(4, "train", object),
        offsets=np.array([0, 4]),
    )
    trend = trend_of(histories, histories.actions == 2, ITEMS, STEPS * STEP_MS)
    assert trend.at(np.array([50]), np.arange(ITEMS)).tolist() == [
        0.0,
        np.float32(np.log1p(2)),
        0.0,
    ]
