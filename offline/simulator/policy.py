"""The policy that was in place while the log was written: what is hot, what resembles what a
person looked at, and noise that explores. It sees only what a real system would: no latent state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

HOT_WEIGHT = 0.8
CATEGORY_WEIGHT = 1.0
HOST_WEIGHT = 0.8
NOISE = 0.9
# What the second arm of the logged experiment adds to the weight of a person's categories.
VARIANT_CATEGORY_WEIGHT = 0.6
VARIANTS = ("control", "personal")


@dataclass(slots=True, frozen=True)
class Slate:
    """What is shown. ``items`` are row numbers (rooms: numbers of rooms), best first."""

    entity_type: str
    items: list[int]
    selling: list[int]
    values: list[float]
    sources: list[str]


def variant_of(bucket: float) -> str:
    """Arm of a person's bucket in [0, 1)."""
    return VARIANTS[0] if bucket < 0.5 else VARIANTS[1]


@dataclass(slots=True, frozen=True)
class Candidates:
    """Columns over N items: ``hot`` float32 standardised popularity, ``category`` int, ``followed``
    bool (the person follows the item's host), ``allowed`` bool."""

    hot: Floats
    category: NDArray[np.integer]
    followed: NDArray[np.bool_]
    allowed: NDArray[np.bool_]


def order(
    candidates: Candidates,
    seen_category: Floats,
    *,
    k: int,
    personal_weight: float,
    variant: str,
    rng: np.random.Generator,
) -> tuple[list[int], list[float], list[str]]:
    """Rows of the ``k`` best allowed items, their values and the part that brought each in.

    ``seen_category`` float32 [categories] counts what the person looked at, fading;
    ``personal_weight`` 0 leaves popularity and noise.
    """
    weight = CATEGORY_WEIGHT + (VARIANT_CATEGORY_WEIGHT if variant == VARIANTS[1] else 0.0)
    rows = np.flatnonzero(candidates.allowed)
    popular = HOT_WEIGHT * candidates.hot[rows]
    personal = np.log1p(seen_category).take(candidates.category[rows]) * weight
    personal += HOST_WEIGHT * candidates.followed[rows]
    personal *= personal_weight
    noise = NOISE * rng.gumbel(size=len(rows))
    score = popular + personal + noise
    top = np.arange(len(rows))
    if k < len(rows):
        top = np.argpartition(-score, k - 1)[:k]
    top = top[np.argsort(-score[top], kind="stable")]
    names = ("popular", "personal", "explore")
    parts = np.stack([popular[top], personal[top], noise[top]]).argmax(axis=0).tolist()
    return rows[top].tolist(), score[top].tolist(), [names[part] for part in parts]
