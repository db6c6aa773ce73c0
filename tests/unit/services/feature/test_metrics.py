"""What operators see of applying."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from services.feature.metrics import PAUSE_REASONS, FeatureMetrics


@pytest.mark.parametrize("reason", ["", "STORE_FULL", "PSEUDONYM_KEY_MISSING"])
def test_a_pause_of_applying_shows_under_its_reason(reason: str) -> None:
    registry = CollectorRegistry()
    FeatureMetrics(registry).watch(lambda: 0, list, lambda: reason)

    shown = {
        known: registry.get_sample_value("podium_feature_apply_paused", {"reason": known})
        for known in PAUSE_REASONS
    }

    assert shown == {known: float(known == reason) for known in PAUSE_REASONS}
    assert sum(filter(None, shown.values())) == bool(reason)
