"""Calibration and reliability against numbers written out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from offline.training.calibration import LEAST_SLOPE, calibrated_by_others, fit_calibration
from offline.training.measures import reliability


def test_reliability_by_hand() -> None:
    # Two bins: 0.1, 0.2, 0.3 with one of three met; 0.6, 0.8 with both.
    probabilities = np.array([0.8, 0.1, 0.6, 0.3, 0.2])
    labels = np.array([1.0, 0.0, 1.0, 1.0, 0.0])
    found = reliability(probabilities, labels, bins=2)
    assert found.rows.tolist() == [3, 2]
    np.testing.assert_allclose(found.predicted, [0.2, 0.7])
    np.testing.assert_allclose(found.observed, [1 / 3, 1.0])
    assert found.expected_calibration_error == pytest.approx((3 * (1 / 3 - 0.2) + 2 * 0.3) / 5)
    assert found.brier == pytest.approx((0.04 + 0.01 + 0.16 + 0.49 + 0.04) / 5)


def test_more_bins_than_rows_are_as_many_as_rows() -> None:
    found = reliability(np.array([0.5, 0.25]), np.array([1.0, 0.0]), bins=10)
    assert found.rows.tolist() == [1, 1]
    assert found.expected_calibration_error == pytest.approx((0.5 + 0.25) / 2)


def test_a_line_over_the_logits_is_found_again() -> None:
    random = np.random.default_rng(0)
    said = random.normal(size=40_000).astype(np.float32) * 2
    meant = 0.5 * said - 1.0
    labels = (random.random(len(said)) < 1 / (1 + np.exp(-meant))).astype(np.float32)
    slope, intercept = fit_calibration(said, labels)
    assert slope == pytest.approx(0.5, abs=0.03)
    assert intercept == pytest.approx(-1.0, abs=0.03)
    users = np.array([f"u{n % 500}" for n in range(len(said))], object)
    after = calibrated_by_others(said, labels, users)
    before_error, after_error = (
        reliability(1 / (1 + np.exp(-x)), labels).expected_calibration_error for x in (said, after)
    )
    assert after_error < 0.2 * before_error


def test_few_rows_move_little_and_no_order_is_turned_round() -> None:
    few = np.array([0.3, -0.2], np.float32)
    slope, intercept = fit_calibration(few, np.array([0.0, 1.0], np.float32))
    assert slope == pytest.approx(1.0, abs=0.1)
    assert intercept == pytest.approx(0.0, abs=0.1)
    turned = np.linspace(-4, 4, 500).astype(np.float32)
    assert fit_calibration(turned, (turned < 0).astype(np.float32))[0] > 0
    nothing = np.zeros(0, np.float32)
    assert fit_calibration(nothing, nothing) == (1.0, 0.0)


def test_where_the_order_says_nothing_the_mean_is_kept() -> None:
    random = np.random.default_rng(5)
    logits = random.normal(-3.0, 1.0, 4_000).astype(np.float32)
    # The higher the logit, the rarer the label.
    labels = (random.random(4_000) < 0.5 / (1 + np.exp(4 * (logits + 3.0)))).astype(np.float32)
    slope, intercept = fit_calibration(logits, labels)
    assert slope == LEAST_SLOPE
    predicted = 1 / (1 + np.exp(-(slope * logits.astype(np.float64) + intercept)))
    assert predicted.mean() == pytest.approx(labels.mean(), rel=0.05)
