"""Draws of an exploring slate: seeds, and the probability with which each position was drawn.

Shared by the ranker, which draws, and by off-policy estimates, which compute the propensities
again from the log, under its weights or under others. What is logged is described at
``Exploration`` in ``protos/podium/event/v1/event.proto``. C candidates, P positions, O objectives.
"""

from __future__ import annotations

import hashlib
import math

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Float32s = npt.NDArray[np.float32]
Integers = npt.NDArray[np.int64]
Mask = npt.NDArray[np.bool_]
Steps = npt.NDArray[np.uint8]

SIMILARITY_STEPS = 255
"""Similarities are multiples of 1 / 255, so that the log's bytes hold them exactly."""


def uniform(seed: int, purpose: str, index: int = 0) -> float:
    """A number in [0, 1) that depends on the arguments alone: each purpose has its own sequence.

    The upper 53 bits of BLAKE2b-64(seed uint64 LE + index uint64 LE, person = purpose) / 2**53.
    ``purpose`` is of at most 16 bytes.
    """
    digest = hashlib.blake2b(
        seed.to_bytes(8, "little") + index.to_bytes(8, "little"),
        digest_size=8,
        person=purpose.encode(),
    ).digest()
    return (int.from_bytes(digest, "little") >> 11) / (1 << 53)


def explores(seed: int, share: float) -> bool:
    """Whether the request of this seed is among the ``share`` that explores."""
    return share > 0 and uniform(seed, "explore") < share


def base_values(
    terms: Float32s | Floats, weights: Float32s | Floats, adjustments: Float32s | Floats | None
) -> Floats:
    """Values before diversity, float64 [C]: ``adjusted`` of terms [C, O] x weights [O].

    ``adjustments`` [C] is what pacing adds, None for nothing.
    """
    return adjusted((terms @ weights).astype(np.float64), adjustments)


def adjusted(values: Floats, adjustments: Float32s | Floats | None) -> Floats:
    """Values [C] raised or lowered by a share of their magnitude, float64 [C]."""
    return values if adjustments is None else values + adjustments * np.abs(values)


def spread_of(base: Floats) -> float:
    """Standard deviation of ``base`` [C], the unit of temperature and diversity; 1 if it is 0."""
    if not len(base):
        return 1.0
    centred = base - np.add.reduce(base) / len(base)
    spread = math.sqrt(float(centred @ centred) / len(base))
    return spread if spread > 0 and math.isfinite(spread) else 1.0


def nearest_before(similarities: Steps, earlier: Steps | None = None) -> Floats:
    """Largest similarity of each candidate to an item placed before, [P, C] in [0, 1].

    ``similarities`` uint8 [P, C] are those to the item at each position, ``earlier`` uint8 [C] to
    what earlier pages showed, in 255ths; None without any.
    """
    before = np.zeros(similarities.shape, np.uint8)
    if len(before):
        before[1:] = similarities[:-1]
        before[0] = 0 if earlier is None else earlier
    nearest: Floats = np.maximum.accumulate(before, axis=0) / SIMILARITY_STEPS
    return nearest


def draw_log_probabilities(scores: Floats, feasible: Mask, temperature: float) -> Floats:
    """Log-softmax of scores / temperature [..., C] over the feasible [..., C]; -inf for the others.

    Rows without a feasible candidate are -inf altogether.
    """
    logits = np.where(feasible, scores / temperature, -np.inf)
    highest = logits.max(axis=-1, keepdims=True, initial=-np.inf)
    shifted = logits - np.where(np.isfinite(highest), highest, 0.0)
    with np.errstate(divide="ignore"):
        total = np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return np.where(feasible, shifted - np.where(np.isfinite(total), total, 0.0), -np.inf)


def log_propensities(
    base: Floats,
    feasible: Mask,
    chosen: Integers,
    similarities: Steps | None,
    *,
    temperature: float,
    similarity_weight: float,
    earlier: Steps | None = None,
) -> Floats:
    """Log-probability of the item of each position given those before it, float64 [P].

    ``base`` [C] from ``base_values``, ``feasible`` bool [P, C], ``chosen`` int [P] places among the
    candidates, ``similarities`` uint8 [P, C] or None without diversity; ``temperature`` and
    ``similarity_weight`` in units of ``spread_of(base)``. A position at which nothing was feasible
    was not drawn: 0.
    """
    scores = np.broadcast_to(base / spread_of(base), feasible.shape)
    if similarities is not None:
        scores = scores - similarity_weight * nearest_before(similarities, earlier)
    table = draw_log_probabilities(scores, feasible, temperature)
    drawn = feasible.any(axis=1)
    found = np.zeros(len(feasible))
    found[drawn] = table[drawn, chosen[drawn]]
    return found
