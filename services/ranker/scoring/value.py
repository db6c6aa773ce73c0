"""One value an item: the sum over objectives of weight x probability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from services.ranker.types import BoolArray, Float32Array

SUNK = np.float32(np.finfo(np.float32).min)
"""Value of an item whose prediction was not finite: below every other."""


def weights_of(
    objectives: Sequence[str], *layers: Mapping[str, float], default: Sequence[float]
) -> Float32Array:
    """Weights float32 [O]; each later layer overrides the earlier ones, objective by objective."""
    merged: dict[str, float] = dict(zip(objectives, default, strict=True))
    for layer in layers:
        merged |= {name: weight for name, weight in layer.items() if name in merged}
    return np.array([merged[name] for name in objectives], np.float32)


def values_of(
    predictions: Float32Array, weights: Float32Array
) -> tuple[Float32Array, Float32Array, BoolArray]:
    """Values of predictions [N, O] under weights [O].

    Returns (values float32 [N], predictions float32 [N, O], sunk bool [N]): a row with a prediction
    that is not finite gets the value ``SUNK`` and predictions of 0.
    """
    values = predictions @ weights
    sunk = ~np.isfinite(values)
    if predictions.size and not np.isfinite(predictions.sum()):
        sunk |= ~np.isfinite(predictions).all(axis=1)
    if sunk.any():
        values = np.where(sunk, SUNK, values).astype(np.float32)
        predictions = np.where(sunk[:, None], np.float32(0), predictions)
    return values, predictions, sunk
