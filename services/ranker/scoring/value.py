"""One value an item: the sum over objectives of weight x probability, of money times the margin."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.ranker.arrays import BoolArray, Float32Array, Float64Array, Int64Array

SUNK = np.float32(np.finfo(np.float32).min)
"""Value of an item whose prediction was not finite: below every other."""


@dataclass(frozen=True, slots=True)
class Margins:
    """What money objectives are multiplied by.

    ``columns`` int64 [M] are their places among the objectives; ``amounts`` float32 [n], by slot of
    a table, what an item earns, in minor units of the domain's currency.
    """

    columns: Int64Array
    amounts: Float32Array


@dataclass(frozen=True, slots=True)
class Scored:
    """N candidates: ``values`` float32 [N] = ``terms`` float32 [N, O] x weights, ``predictions``
    float32 [N, O]. Where ``sunk`` bool [N], the value is ``SUNK`` and the rest 0."""

    values: Float32Array
    predictions: Float32Array
    terms: Float32Array
    sunk: BoolArray


def weights_of(
    objectives: Sequence[str], *layers: Mapping[str, float], default: Sequence[float]
) -> Float32Array:
    """Weights float32 [O]; each later layer overrides the earlier ones, objective by objective."""
    merged: dict[str, float] = dict(zip(objectives, default, strict=True))
    for layer in layers:
        merged |= {name: weight for name, weight in layer.items() if name in merged}
    return np.array([merged[name] for name in objectives], np.float32)


def margin_amounts(
    prices_minor: Float32Array | Int64Array,
    shares: Float32Array | Int64Array | float,
    rates: Float64Array | float,
) -> Float32Array:
    """What items earn, float32 [n]: price x share x rate.

    ``rates``: minor units of the domain's currency that one of the price's is worth; 0 where it is
    not known. A product below 0 or not finite counts as 0: a price is missing or wrong.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        amounts = (prices_minor.astype(np.float64) * shares * rates).astype(np.float32)
    return np.where(np.isfinite(amounts) & (amounts > 0), amounts, np.float32(0))


def values_of(
    predictions: Float32Array,
    weights: Float32Array,
    margins: Margins | None = None,
    slots: Int64Array | None = None,
    factors: Float32Array | None = None,
) -> Scored:
    """Values of predictions [N, O] under weights [O].

    ``slots`` int64 [N]: rows of ``margins``; ``factors`` float32 [N] multiply the values. A row
    with a prediction or a value that is not finite sinks.
    """
    terms = predictions
    if margins is not None and slots is not None:
        terms = predictions.copy()
        terms[:, margins.columns] *= margins.amounts[slots][:, None]
    if factors is not None:
        terms = terms * factors[:, None]
    values = terms @ weights
    # A sum is finite only where every part of it is.
    if math.isfinite(values.sum()) and math.isfinite(predictions.sum()):
        return Scored(values, predictions, terms, np.zeros(len(values), np.bool_))
    sunk: BoolArray = ~np.isfinite(values) | ~np.isfinite(predictions).all(axis=1)
    if sunk.any():
        values = np.where(sunk, SUNK, values).astype(np.float32)
        terms = np.where(sunk[:, None], np.float32(0), terms)
        predictions = np.where(sunk[:, None], np.float32(0), predictions)
    return Scored(values, predictions, terms, sunk)


def values_under(scored: Scored, weights: Float32Array) -> Float32Array:
    """Values float32 [N] of what was scored, under other weights [O]."""
    values = scored.terms @ weights
    return np.where(scored.sunk | ~np.isfinite(values), SUNK, values).astype(np.float32)


def unscored(nearness: Float32Array) -> Scored:
    """Candidates without predictions, ordered by ``nearness`` [N] to the user's vector."""
    nothing = np.zeros((len(nearness), 0), np.float32)
    return Scored(nearness, nothing, nothing, np.zeros(len(nearness), np.bool_))
