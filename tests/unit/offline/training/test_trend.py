"""The trend against counts written out."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from offline.training.inputs import read_trend
from offline.training.layout import layout_of
from offline.training.trend import STEPS, Trend
from services.common.domain import load_domain
from tests.support.tiny_dataset import make_tiny_dataset

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
    trend = Trend(times, rows, ITEMS, STEPS * STEP_MS, 0)
    first = min((time for time, _ in events), default=0)
    now = (asked_ms - first) // STEP_MS
    counts = [
        sum(row == item and now - STEPS <= (time - first) // STEP_MS < now for time, row in events)
        for item in range(ITEMS)
    ]
    found = trend.at(np.array([asked_ms]), np.arange(ITEMS))
    np.testing.assert_allclose(found, np.log1p(counts), rtol=1e-6)


def test_what_happens_now_or_later_is_not_in_it() -> None:
    trend = Trend(np.array([0, 70, 71]), np.array([0, 1, 1]), ITEMS, STEPS * STEP_MS, 0)
    assert trend.at(np.array([70, 71, 79]), np.array([1, 1, 1])).tolist() == [0.0, 0.0, 0.0]
    assert trend.at(np.array([80]), np.array([1])).tolist() == [np.float32(np.log1p(2))]


def test_it_reads_what_the_feature_counts_of_known_items() -> None:
    domain = load_domain(Path(__file__).parents[4] / "config" / "live_courses.yaml")
    layout = layout_of(domain)
    dataset = make_tiny_dataset(domain)
    trend = read_trend(domain, layout, dataset)
    assert trend is not None
    assert layout.item_features[trend.column] == "purchases_7d"
    ids = dataset.catalogue["course"]["id"].to_pylist()
    last_ms = dataset.meta.end_ms
    # The tiny dataset is longer than the window; half a day is a step.
    found = np.expm1(trend.at(np.array([last_ms]), np.arange(len(ids))))
    purchases = [
        (event["time_ms"], ids.index(event["item"]))
        for event in dataset.interactions.to_pylist()
        if event["action"] == "purchase" and event["item"] in ids
    ]
    step_ms = 7 * 86_400_000 // STEPS
    first = min(time for time, _ in purchases)
    now = (last_ms - first) // step_ms
    counts = np.zeros(len(ids))
    for time, row in purchases:
        counts[row] += now - STEPS <= (time - first) // step_ms < now
    assert counts.sum() > 0
    np.testing.assert_allclose(found, counts, atol=1e-4)
