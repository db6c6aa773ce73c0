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


def order(
    hot: Floats,
    categories: NDArray[np.integer],
    followed: NDArray[np.bool_],
    seen_category: Floats,
    allowed: NDArray[np.bool_],
    k: int,
    personal_weight: float,
    variant: str,
    rng: np.random.Generator,
) -> tuple[NDArray[np.intp], Floats, list[str]]:
    """Rows of the ``k`` best allowed items, their values and the part that brought each in.

    ``hot`` float32 [N] standardised popularity; ``categories`` int [N]; ``followed`` bool [N]
    (the item's host is followed); ``seen_category`` float32 [K] faded counts of what the person
    looked at; ``personal_weight`` 0 leaves popularity and noise.
    """
    weight = CATEGORY_WEIGHT + (VARIANT_CATEGORY_WEIGHT if variant == VARIANTS[1] else 0.0)
    popular = HOT_WEIGHT * hot
    personal = personal_weight * (
        weight * np.log1p(seen_category)[categories] + HOST_WEIGHT * followed
    )
    noise = NOISE * rng.gumbel(size=len(hot))
    score = np.where(allowed, popular + personal + noise, -np.inf)
    k = min(k, int(allowed.sum()))
    top = np.argpartition(-score, k - 1)[:k] if k < len(score) and k else np.arange(len(score))
    top = top[np.argsort(-score[top], kind="stable")][:k]
    parts = np.stack([popular[top], personal[top], noise[top]])
    names = ("popular", "personal", "explore")
    sources = [names[int(i)] for i in parts.argmax(axis=0)] if k else []
    return top, score[top].astype(np.float32), sources
