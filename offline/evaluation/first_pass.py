"""What the first pass keeps of the ranker's best slate, of all items a user may be shown."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offline.evaluation.fold import Fold
from offline.evaluation.shipped import BundleScorer

MOST_USERS = 200
KEPT = (2, 5, 10, 25)
"""How many items are kept, in slates."""


@dataclass(frozen=True)
class Kept:
    """Share of the ranker's best ``k`` items of ``users`` users that are among the ``kept`` best by
    the first pass, and by nearness to the user alone; ``items``: that a user has on average."""

    users: int
    items: float
    k: int
    kept: int
    recall: float
    nearness_recall: float


def first_pass_recall(scorer: BundleScorer, fold: Fold, k: int, sizes: Sequence[int]) -> list[Kept]:
    """Recall where ``sizes`` items are kept; nothing of a bundle without a first pass."""
    asked = fold.asked[:MOST_USERS]
    shares: dict[int, list[tuple[float, float]]] = {size: [] for size in sizes}
    counts: list[int] = []
    for user in range(len(asked)):
        items = np.flatnonzero(fold.available)
        items = items[~np.isin(items, fold.barred.row(user))]
        found = scorer.both(asked[user], items)
        if found is None:
            return []
        heavy, first, nearness = found
        best = np.argsort(-heavy, kind="stable")[:k]
        counts.append(len(items))
        for size, listed in shares.items():
            kept = [np.argsort(-values, kind="stable")[:size] for values in (first, nearness)]
            both = [float(np.isin(best, some).mean()) if len(best) else 1.0 for some in kept]
            listed.append((both[0], both[1]))
    return [
        Kept(len(asked), float(np.mean(counts)), k, size, *np.mean(listed, axis=0).tolist())
        for size, listed in shares.items()
        if listed and size < max(counts)
    ]
