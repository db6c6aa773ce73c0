"""Small worlds to select slates from, and an oracle that enumerates what may come out."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from services.common.domain_selection import Diversity, ExplorationPolicy, Selection
from services.ranker.arrays import Float32Array
from services.ranker.selection.bound import BoundSelection
from services.ranker.selection.candidates import Candidates, Selected
from services.ranker.selection.select import select


@dataclass(frozen=True)
class World:
    """N items. ``terms`` [N, O] x ``weights`` [O] are their values; ``hosts`` [N], 0 for none, are
    capped at ``cap``; ``vectors`` [N, D]; ``shares`` [N] is what pacing adds, empty for nothing."""

    terms: Sequence[Sequence[float]]
    weights: Sequence[float]
    hosts: Sequence[int]
    vectors: Sequence[Sequence[float]]
    cap: int = 2
    shares: Sequence[float] = ()
    sunk: Sequence[int] = ()
    ties: Sequence[int] = ()
    yielded: Sequence[Sequence[int]] = ()

    def __len__(self) -> int:
        return len(self.terms)

    @property
    def values(self) -> Float32Array:
        """Value of each item, SUNK aside."""
        return self._terms @ np.array(self.weights, np.float32)

    @property
    def _terms(self) -> Float32Array:
        return np.array(self.terms, np.float32).reshape(len(self), len(self.weights))

    def candidates(self, order: Sequence[int] | None = None) -> Candidates:
        """The items as candidates, in ``order``; an item's number is its slot."""
        slots = np.array(range(len(self)) if order is None else order, np.int64)
        values, sunk = self.values, np.isin(slots, list(self.sunk))
        ties = np.array(self.ties or [n * 7 % 101 for n in range(len(self))], np.uint64)
        return Candidates(
            slots=slots,
            tie=ties[slots],
            values=np.where(sunk, np.finfo(np.float32).min, values[slots]).astype(np.float32),
            sunk=sunk,
            terms=self._terms[slots],
            weights=np.array(self.weights, np.float32),
            caps=[(np.array(self.hosts, np.int32)[slots], self.cap)],
            ids=[f"i{n}" for n in range(len(self))],
            vectors=np.array(self.vectors, np.float32).reshape(len(self), -1 if len(self) else 2),
            yielded=[np.array(numbers, np.int64) for numbers in self.yielded],
        )

    def adjustments(self) -> Float32Array | None:
        """What pacing adds, by slot."""
        return np.array(self.shares, np.float32) if self.shares else None


FIVE = World(
    terms=[[0.9, 0.1], [0.8, 0.3], [0.5, 0.9], [0.4, 0.2], [0.2, 0.8]],
    weights=[1.0, 0.2],
    hosts=[1, 1, 2, 2, 0],
    vectors=[[1, 0], [0.9, 0.4], [0, 1], [-1, 0.2], [0.5, 0.5]],
    cap=1,
)
"""Five items, of two hosts that may show one each and of none."""


def selection(
    *,
    lambda_: float | None = None,
    temperature: float | None = None,
    kind: str = "mmr",
    **parts: object,
) -> Selection:
    """A selection that always explores, where there is a temperature."""
    return Selection(
        diversity=(
            None
            if lambda_ is None
            else Diversity.model_validate({"kind": kind, "relevance": lambda_})
        ),
        exploration=(
            None if temperature is None else ExplorationPolicy(share=1.0, temperature=temperature)
        ),
        **parts,  # type: ignore[arg-type]
    )


def slate_ids(found: Candidates, selected: Selected) -> list[int]:
    """The items of a slate, by number."""
    slots: list[int] = found.slots[selected.picked].tolist()
    return slots


def picked(world: World, spec: Selection, k: int, seed: int = 0) -> list[int]:
    """The slate of a world."""
    found = world.candidates()
    plan = BoundSelection(spec, adjustments=world.adjustments())
    return slate_ids(found, select(plan, found, k=k, seed=seed, now_ms=0, explore=True))


def similarity(world: World, a: int, b: int) -> float:
    """Cosine of two items' vectors, at least 0, in 255ths."""
    one, other = world.vectors[a], world.vectors[b]
    lengths = math.hypot(*one) * math.hypot(*other)
    cosine = sum(x * y for x, y in zip(one, other, strict=True)) / lengths if lengths else 0.0
    return round(min(1.0, max(0.0, cosine)) * 255) / 255


def bases(world: World, weights: Sequence[float]) -> list[float]:
    """Values after pacing."""
    found = []
    for n, terms in enumerate(world.terms):
        value = sum(t * w for t, w in zip(terms, weights, strict=True))
        found.append(value + (world.shares[n] if world.shares else 0.0) * abs(value))
    return found


def feasible_after(world: World, prefix: Sequence[int]) -> list[int]:
    """Items that may follow a prefix: not in it, and within the cap."""
    taken = [world.hosts[n] for n in prefix]
    return [
        n
        for n in range(len(world))
        if n not in prefix and not (world.hosts[n] and taken.count(world.hosts[n]) >= world.cap)
    ]


def conditional(
    world: World,
    prefix: Sequence[int],
    weights: Sequence[float],
    *,
    lambda_: float,
    temperature: float,
) -> dict[int, float]:
    """Probability of each feasible item to come next."""
    base = bases(world, weights)
    mean = sum(base) / len(base)
    spread = math.sqrt(sum((b - mean) ** 2 for b in base) / len(base))
    logits = {
        n: (
            base[n] / spread
            - (1 - lambda_) / lambda_ * max((similarity(world, n, m) for m in prefix), default=0.0)
        )
        / temperature
        for n in feasible_after(world, prefix)
    }
    total = sum(math.exp(logit) for logit in logits.values())
    return {n: math.exp(logit) / total for n, logit in logits.items()}


def all_slates(
    world: World,
    k: int,
    weights: Sequence[float],
    *,
    lambda_: float,
    temperature: float,
    prefix: tuple[int, ...] = (),
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Every slate that can come out, and its probability."""
    options = (
        conditional(world, prefix, weights, lambda_=lambda_, temperature=temperature)
        if len(prefix) < k
        else {}
    )
    if not options:
        yield prefix, 1.0
        return
    for item, probability in options.items():
        for slate, rest in all_slates(
            world,
            k,
            weights,
            lambda_=lambda_,
            temperature=temperature,
            prefix=(*prefix, item),
        ):
            yield slate, probability * rest
