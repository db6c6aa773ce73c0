"""The first pass over a surface's items: what is prepared of it, and how it values candidates."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.first_pass import first_pass_probabilities
from services.ranker.arrays import (
    BoolArray,
    ByteArray,
    Float32Array,
    Float64Array,
    Int64Array,
    UInt64Array,
)
from services.ranker.catalogue.table import EntityTable
from services.ranker.ports import Model
from services.ranker.scoring.value import Margins, Scored, values_of

_ROWS = 4096


@dataclass(frozen=True, slots=True)
class FirstPass:
    """The first pass of a surface over a table of n slots.

    ``scored``: how many candidates of a request the ranker gets. ``slopes`` float32 [O] and
    ``item_logits`` float32 [n, O] are as in ``services.common.first_pass``; [0] and [n, 0] where
    the bundle has none of the surface.
    """

    scored: int
    slopes: Float32Array
    item_logits: Float32Array

    @property
    def learned(self) -> bool:
        """Whether the bundle has one."""
        return len(self.slopes) > 0


@dataclass(frozen=True, slots=True)
class Cut:
    """What the first pass made of a request's N candidates: ``slots`` int64 [N], ``origin`` uint8
    [N] the place of the source that yielded each, ``scores`` float32 [N] and ``kept`` bool [N],
    what went on to the ranker. ``learned`` as of ``FirstPass``; ``factors`` float32 [N]: what
    variants of hosts and rooms multiply values by, None for nothing."""

    slots: Int64Array
    origin: ByteArray
    scores: Float32Array
    kept: BoolArray
    learned: bool
    factors: Float32Array | None = None

    @property
    def left_out(self) -> int:
        """How many candidates the ranker did not get."""
        return len(self.kept) - int(np.count_nonzero(self.kept))


def bind_first_pass(
    model: Model,
    scored: int | None,
    slopes: Float32Array | None,
    surface: int,
    table: EntityTable,
    features: Float32Array,
    before: FirstPass | None,
    since: int,
) -> FirstPass | None:
    """The first pass of a surface over ``table`` with the item features [n, I]; None where all
    candidates are scored.

    ``surface`` is its index in the models' inputs. ``before`` is that of the same bundle and
    surface over the same table after the change ``since``: only what changed later is computed.
    """
    if scored is None:
        return None
    size = len(table)
    if slopes is None:
        return FirstPass(scored, np.zeros(0, np.float32), np.zeros((size, 0), np.float32))
    logits, touched = np.zeros((size, len(slopes)), np.float32), np.arange(size)
    if before is not None:
        touched = np.flatnonzero(table.changed_at > since)
        if not len(touched) and len(before.item_logits) == size:
            return before
        logits[: len(before.item_logits)] = before.item_logits
    for start in range(0, len(touched), _ROWS):
        some = touched[start : start + _ROWS]
        logits[some] = model.item_logits(features[some], np.full(len(some), surface, np.int64))
    return FirstPass(scored, slopes, logits)


def learned_values(
    bound: FirstPass,
    nearness: Float32Array,
    slots: Int64Array,
    weights: Float32Array,
    margins: Margins | None,
    factors: Float32Array | None = None,
) -> Scored:
    """Values of candidates with inner products [N], under weights [O], times
    ``factors`` [N]; what is not finite sinks."""
    logits = bound.item_logits.take(slots, 0)
    predictions = first_pass_probabilities(nearness, logits, bound.slopes)
    return values_of(predictions, weights, margins, slots, factors)


def placed_values(origin: ByteArray, quotas: Sequence[int]) -> Scored:
    """Values of candidates [N] by retrieval alone: the share of its source's quota that a candidate
    leaves below it. Candidates of a source lie together, best first.

    The n best are then the best of each source, in proportion to the quotas.
    """
    values = np.zeros(len(origin), np.float32)
    for source, quota in enumerate(quotas):
        own = np.flatnonzero(origin == source)
        values[own] = 1 - (np.arange(len(own)) + 1) / quota
    nothing = np.zeros((len(origin), 0), np.float32)
    return Scored(values, nothing, nothing, np.zeros(len(origin), np.bool_))


def best(keys: Float64Array, tie: UInt64Array, count: int) -> BoolArray:
    """The ``count`` highest of keys [N], equals by the lowest ``tie`` [N]: bool [N]."""
    if count >= len(keys):
        return np.ones(len(keys), np.bool_)
    if count <= 0:
        return np.zeros(len(keys), np.bool_)
    least = np.partition(keys, len(keys) - count)[len(keys) - count]
    chosen: BoolArray = keys > least
    level = np.flatnonzero(keys == least)
    room = count - int(np.count_nonzero(chosen))
    if room < len(level):
        level = level[np.argsort(tie[level], kind="stable")[:room]]
    chosen[level] = True
    return chosen
