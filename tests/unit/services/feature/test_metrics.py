"""What operators see of applying."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.feature.metrics import OTHER_PAUSE, PAUSE_REASONS, FeatureMetrics


@pytest.mark.parametrize(
    ("reason", "label"),
    [
        ("", None),
        ("STORE_FULL", "STORE_FULL"),
        ("PSEUDONYM_KEY_MISSING", "PSEUDONYM_KEY_MISSING"),
        ("ANYTHING_ELSE", OTHER_PAUSE),
    ],
)
def test_a_pause_of_applying_shows_under_its_reason(reason: str, label: str | None) -> None:
    registry = CollectorRegistry()
    FeatureMetrics(registry).watch(lambda: 0, list, lambda: reason)

    shown = {
        known: registry.get_sample_value("podium_feature_apply_paused", {"reason": known})
        for known in (*PAUSE_REASONS, OTHER_PAUSE)
    }

    assert shown == {known: float(known == label) for known in shown}
