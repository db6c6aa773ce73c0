"""Makes predicted probabilities as frequent as they say: a line over each objective's logits.

Platt scaling (Platt 1999), held to the line that changes nothing by a normal prior, so that few
positives move little. The exported graph has it as its last step before the sigmoid.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from offline.training.data import FloatArray

PRIOR = 10.0
"""Inverse variance of the prior around slope 1 and intercept 0: the weight of some 40 rows of even
odds."""

LEAST_SLOPE = 0.1
_STEPS = 50


def fit_calibration(logits: FloatArray, labels: FloatArray) -> tuple[float, float]:
    """(slope, intercept) of the line over ``logits [N]`` that explains ``labels [N]`` best.

    Maximum a posteriori, by Newton's method; the slope is at least ``LEAST_SLOPE``, so that no
    order is turned round.
    """
    inputs = np.stack([logits.astype(np.float64), np.ones(len(logits))], axis=1)
    start = line = np.array([1.0, 0.0])
    loss = _loss(inputs, labels, line)
    for _ in range(_STEPS):
        probabilities = 1.0 / (1.0 + np.exp(-inputs @ line))
        gradient = inputs.T @ (probabilities - labels) + PRIOR * (line - start)
        weights = probabilities * (1.0 - probabilities)
        curvature = (inputs * weights[:, None]).T @ inputs + PRIOR * np.eye(2)
        step = np.linalg.solve(curvature, gradient)
        # Far from the optimum a whole step may overshoot: halve it until it helps.
        while (further := _loss(inputs, labels, line - step)) > loss and np.abs(step).max() > 1e-9:
            step = step / 2
        line, loss = line - step, min(loss, further)
        if np.abs(step).max() < 1e-7:
            break
    if line[0] < LEAST_SLOPE:
        return LEAST_SLOPE, _intercept(LEAST_SLOPE * inputs[:, 0], labels)
    return float(line[0]), float(line[1])


def _intercept(logits: NDArray[np.float64], labels: FloatArray) -> float:
    """The intercept alone, by the same method and prior."""
    found = 0.0
    for _ in range(_STEPS):
        probabilities = 1.0 / (1.0 + np.exp(-(logits + found)))
        gradient = float((probabilities - labels).sum()) + PRIOR * found
        curvature = float((probabilities * (1.0 - probabilities)).sum()) + PRIOR
        # At most one a step: where all is nearly certain, a whole step would overshoot.
        step = float(np.clip(gradient / curvature, -1.0, 1.0))
        found -= step
        if abs(step) < 1e-7:
            break
    return found


def calibrated_by_others(
    logits: FloatArray, labels: FloatArray, users: NDArray[np.object_]
) -> FloatArray:
    """Logits ``[N]`` of each half of the users, under the line fitted on the other half.

    What they say of calibration is not flattered by the rows it was fitted on.
    """
    half = np.unique(users, return_inverse=True)[1] % 2
    found = logits.copy()
    for part in (0, 1):
        slope, intercept = fit_calibration(logits[half != part], labels[half != part])
        found[half == part] = slope * logits[half == part] + intercept
    return found


def _loss(inputs: NDArray[np.float64], labels: FloatArray, line: NDArray[np.float64]) -> float:
    logits = inputs @ line
    prior = PRIOR / 2 * float(((line - np.array([1.0, 0.0])) ** 2).sum())
    return float((np.logaddexp(0.0, logits) - labels * logits).sum()) + prior
