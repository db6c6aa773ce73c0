"""Fills the slates of several requests by MMR, side by side: position by position, all in one step.

A step takes a few operations on arrays [B, C], whatever B is. A request gets what ``board.fill``
would give it alone, to the bit.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.exploration import SIMILARITY_STEPS
from services.ranker.arrays import BoolArray, Float64Array, Int64Array
from services.ranker.selection.board import in_steps, unit_vectors
from services.ranker.selection.candidates import Contest


@dataclass(frozen=True, slots=True)
class Opening:
    """A contest to be filled greedily.

    ``base`` float64 [N] is what candidates are worth, ``spread`` the unit of what likeness costs.
    ``head`` int64 [h] are the first of the competing; what is behind them is worth ``outside`` at
    most.
    """

    contest: Contest
    base: Float64Array
    spread: float
    head: Int64Array
    outside: float

    @property
    def stands_alone(self) -> bool:
        """Whether it can't go beside others: its likeness is another, or pages before count."""
        found = self.contest.found
        return self.contest.kind != "mmr" or bool(len(found.shown)) or bool(found.taken)

    @property
    def alike(self) -> tuple[object, ...]:
        """What those have in common that go side by side."""
        found = self.contest.found
        return self.contest.k, id(found.vectors), tuple(limit for _, limit in found.caps)


def fill_side_by_side(openings: Sequence[Opening]) -> list[list[int] | None]:
    """Candidates for the open positions of each of B openings that are ``alike``, in order; None
    where one behind the head might be better."""
    k, count = openings[0].contest.k, len(openings)
    fixed = [list(opening.contest.fixed.values()) for opening in openings]
    members = [
        np.concatenate([opening.head, np.array(candidates, np.int64)])
        for opening, candidates in zip(openings, fixed, strict=True)
    ]
    sizes = [len(of_one) for of_one in members]
    inside: BoolArray = np.arange(max(sizes)) < np.array(sizes)[:, None]
    worth = np.full(inside.shape, -np.inf)
    worth[inside] = np.concatenate([o.base[m] for o, m in zip(openings, members, strict=True)])
    beside = worth[:, None, :] - _losses(openings, members, max(sizes))
    caps = _caps(openings, members, inside)
    positions: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row, (opening, size) in enumerate(zip(openings, sizes, strict=True)):
        places = range(len(opening.head), size)
        worth[row, len(opening.head) :] = -np.inf
        for position, place in zip(opening.contest.fixed, places, strict=True):
            positions[position].append((row, place))
            for codes, _, taken in caps:
                taken[row] += codes[row] == codes[row, place]
    for _, limit, taken in caps:
        np.putmask(worth, taken >= limit, -np.inf)
    rows = np.arange(count)
    picked, best = np.empty((k, count), np.int64), np.empty((k, count))
    for position in range(k):
        now: Int64Array = worth.argmax(axis=1, out=picked[position])
        best[position] = worth[rows, now]
        settled = positions.get(position, ())
        for row, place in settled:
            now[row], best[position, row] = place, np.inf
        worth[rows, now] = -np.inf
        for codes, limit, taken in caps:
            same = codes == codes[rows, now][:, None]
            # What is fixed counts from the start.
            same[[row for row, _ in settled]] = False
            np.add(taken, same, out=taken)
            np.putmask(worth, taken >= limit, -np.inf)
        np.minimum(worth, beside[rows, now], out=worth)
    return [
        _chosen(opening, members[row], picked[:, row].tolist(), best[:, row])
        for row, opening in enumerate(openings)
    ]


def _losses(openings: Sequence[Opening], members: Sequence[Int64Array], width: int) -> Float64Array:
    """What each member loses beside each other one, float64 [B, width, width]."""
    found = [opening.contest.found for opening in openings]
    slots = np.concatenate([f.slots[of_one] for f, of_one in zip(found, members, strict=True)])
    unit = unit_vectors(found[0].vectors[slots])
    cosines = np.zeros((len(openings), width, width), np.float32)
    start = 0
    for row, of_one in enumerate(members):
        end = start + len(of_one)
        # Each on its own: a product's last bits depend on its size.
        cosines[row, : end - start, : end - start] = unit[start:end] @ unit[start:end].T
        start = end
    costs = [o.contest.similarity_weight * o.spread / SIMILARITY_STEPS for o in openings]
    losses: Float64Array = in_steps(cosines) * np.array(costs)[:, None, None]
    return losses


def _caps(
    openings: Sequence[Opening], members: Sequence[Int64Array], inside: BoolArray
) -> list[tuple[Int64Array, int, Int64Array]]:
    """Of every cap the codes of members [B, C], its limit, and zeros [B, C] to count in. What has
    no code, which no cap limits, has a negative one of its own."""
    found = []
    for at, (_, limit) in enumerate(openings[0].contest.found.caps):
        codes = np.zeros(inside.shape, np.int64)
        codes[inside] = np.concatenate(
            [o.contest.found.caps[at][0][m] for o, m in zip(openings, members, strict=True)]
        )
        codes = np.where(codes > 0, codes, -1 - np.arange(inside.shape[1]))
        found.append((codes, limit, np.zeros(inside.shape, np.int64)))
    return found


def _chosen(
    opening: Opening, members: Int64Array, picked: list[int], best: Float64Array
) -> list[int] | None:
    """Of the members that were ``picked`` for k positions, worth ``best`` float64 [k] there, those
    of the open positions, as candidates."""
    if (best < opening.outside).any():
        return None
    full = best > -np.inf
    end = len(picked) if full.all() else int(full.argmin())
    fixed = opening.contest.fixed
    places = [place for at, place in enumerate(picked[:end]) if at not in fixed]
    chosen: list[int] = members[places].tolist() if places else []
    return chosen
