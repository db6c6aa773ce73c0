"""Diversity by a determinantal point process (DPP): what a set of items says together.

Greedy MAP inference by Chen, Zhang & Zhou, "Fast Greedy MAP Inference for Determinantal Point
Process to Improve Recommendation Diversity", NeurIPS 2018. Where their trade-off (section 5) is
theta x relevance + (1 - theta) x log det S, an item i adds to a set Y

    theta x r_i + (1 - theta) x log d_i^2        with d_i^2 = det S_(Y + i) / det S_Y,

and what their Algorithm 1 (section 3) keeps of every item is updated when j joins:

    e_i = (S_ji - <c_j, c_i>) / d_j,    c_i = [c_i, e_i],    d_i^2 = d_i^2 - e_i^2.

S_ij = (1 + cosine) / 2 (section 5: similarities between 0, opposite, and 1), and 1 on the diagonal.
Theta is called relevance here. An item is worth its value less (1 - theta) / theta x spread x
-log d_i^2: the same order, in the unit of values.
"""

from __future__ import annotations

import math

import numpy as np

from services.common.exploration import SIMILARITY_STEPS
from services.ranker.arrays import ByteArray, Float32Array, Float64Array

LEAST_LEFT = 0.01
"""d^2 below which an item counts as said already: what is lost is bounded, and logged in a byte."""

MOST_LOST = -math.log(LEAST_LEFT)
"""What such an item loses, in nats."""

REMEMBERED = 20
"""Items of earlier pages that count. The rank of S is the vectors' dimension and one: beside
hundreds everything would be said (the paper's section 4 has a window for that, too)."""

_NOTHING_NEW = 1e-5
"""d^2 of an item that, but for rounding, adds nothing to what stands above."""

_PARTS = 32


class Determinant:
    """What is left to say of C members beside those placed; vectors [C, D], and [E, D] of what
    earlier pages showed, the last shown at the end.

    -log d^2 of a member, as a share of ``MOST_LOST`` in 255ths, plays the part that the largest
    similarity has with MMR: it never falls as more is placed.
    """

    def __init__(self, vectors: Float32Array, earlier: Float32Array) -> None:
        self._count = len(vectors)
        remembered = earlier[-REMEMBERED:]
        both: Float32Array = np.concatenate([vectors, remembered])
        norms: Float32Array = np.sqrt((both * both).sum(axis=1, keepdims=True))
        norms[norms == 0] = 1
        self._unit: Float32Array = both / norms
        self._left: Float64Array = np.ones(len(both))
        # c of every member, a column each, of which the rows so far joined are filled.
        self._parts: Float64Array = np.empty((_PARTS, len(both)))
        self._joined = 0
        self._lost_after: dict[int, Float64Array] = {}
        for row in range(self._count, len(both)):
            self._join(row)
        self.first = self._lost() if len(remembered) else None
        """What members lose beside earlier pages, float64 [C] in 255ths; None without any."""

    def to(self, member: int) -> ByteArray:
        """What members lose once ``member`` is placed, uint8 [C] in 255ths; 0 if it never was."""
        if member not in self._lost_after:
            return np.zeros(self._count, np.uint8)
        return self._lost_after[member].astype(np.uint8)

    def losses(self, member: int, cost: float) -> Float64Array:
        """Places ``member``, unless it is, and tells what that costs every member, float64 [C], at
        ``cost`` for ``MOST_LOST``."""
        if member not in self._lost_after:
            self._join(member)
            self._lost_after[member] = self._lost()
        return self._lost_after[member] * (cost / SIMILARITY_STEPS)

    def _join(self, row: int) -> None:
        left = float(self._left[row])
        if left <= _NOTHING_NEW:
            return
        if self._joined == len(self._parts):
            self._parts = np.concatenate([self._parts, np.empty_like(self._parts)])
        alike = (1.0 + (self._unit @ self._unit[row]).astype(np.float64)) / 2.0
        alike[row] = 1.0
        known = self._parts[: self._joined]
        part: Float64Array = (alike - known[:, row] @ known) / math.sqrt(left)
        self._parts[self._joined] = part
        self._joined += 1
        self._left = np.maximum(self._left - part * part, 0.0)

    def _lost(self) -> Float64Array:
        left = np.maximum(self._left[: self._count], LEAST_LEFT)
        lost: Float64Array = np.rint(-np.log(left) * (SIMILARITY_STEPS / MOST_LOST))
        return np.maximum(lost, 0.0)
