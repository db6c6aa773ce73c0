"""How alike two slates of one request are. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.ranker.types import RankResult

Ids = Sequence[str]


@dataclass(frozen=True, slots=True)
class Comparison:
    """``overlap`` in [0, 1]; ``correlation`` in [-1, 1], None where fewer than two items are in
    both; ``value_difference`` is that of the mean values, over the larger one's size: in [-2, 2],
    above 0 where the shadow's are greater."""

    overlap: float
    correlation: float | None
    value_difference: float


def compared(live: RankResult, shadow: RankResult) -> Comparison:
    """The shadow's slate against the one that was answered."""
    return Comparison(
        overlap_at_k(live.slate.ids, shadow.slate.ids),
        kendall_tau(live.slate.ids, shadow.slate.ids),
        _difference(_mean(live.slate.values), _mean(shadow.slate.values)),
    )


def overlap_at_k(first: Ids, second: Ids) -> float:
    """Share of the longer slate that is in both; 1 where both are empty."""
    k = max(len(first), len(second))
    return len(set(first) & set(second)) / k if k else 1.0


def kendall_tau(first: Ids, second: Ids) -> float | None:
    """Kendall's tau over the items of both slates: of their pairs, the share in the same order
    less the share in the other (Kendall, 1938); None where there is no pair."""
    place = {id_: at for at, id_ in enumerate(second)}
    places = np.array([place[id_] for id_ in first if id_ in place])
    n = len(places)
    if n < 2:
        return None
    signs = np.sign(places[None, :] - places[:, None])
    return float(np.triu(signs, 1).sum() / (n * (n - 1) / 2))


def _mean(values: np.ndarray[tuple[int, ...], np.dtype[np.float32]]) -> float:
    finite = values[np.isfinite(values)]
    return float(finite.mean()) if len(finite) else 0.0


def _difference(live: float, shadow: float) -> float:
    size = max(abs(live), abs(shadow))
    return (shadow - live) / size if size else 0.0
