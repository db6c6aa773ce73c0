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
    width = max(sizes)
    inside: BoolArray = np.arange(width) < np.array(sizes)[:, None]
    worth = np.full(inside.shape, -np.inf)
    worth[inside] = np.concatenate([o.base[m] for o, m in zip(openings, members, strict=True)])
    losses = _losses(openings, members, width)
    beside = np.subtract(worth[:, None, :], losses, out=losses)
    # What is placed is not placed again.
    diagonal = np.arange(width)
    beside[:, diagonal, diagonal] = -np.inf
    positions: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for row, (opening, size) in enumerate(zip(openings, sizes, strict=True)):
        places = range(len(opening.head), size)
        worth[row, len(opening.head) :] = -np.inf
        for position, place in zip(opening.contest.fixed, places, strict=True):
            positions[position].append((row, place))
    caps = [_Cap(openings, members, at, worth) for at in range(len(openings[0].contest.found.caps))]
    # What is fixed counts from the start.
    for row, place in (pair for pairs in positions.values() for pair in pairs):
        for cap in caps:
            cap.take(row, place)
    picked, best = np.empty((k, count), np.int64), np.empty((k, count))
    worths, beside_each = worth.ravel(), beside.reshape(-1, width)
    begins, left = np.arange(count) * width, np.empty_like(worth)
    for position in range(k):
        now: Int64Array = worth.argmax(axis=1, out=picked[position])
        worths.take(begins + now, out=best[position], mode="clip")
        settled = dict(positions.get(position, ()))
        for row, place in settled.items():
            now[row], best[position, row] = place, np.inf
        beside_each.take(begins + now, axis=0, out=left, mode="clip")
        np.minimum(worth, left, out=worth)
        for cap in caps:
            for row, place in enumerate(now.tolist()):
                if row not in settled:
                    cap.take(row, place)
    outsides = np.array([opening.outside for opening in openings])
    undecided: BoolArray = np.logical_or.reduce(best < outsides, axis=0)
    full: BoolArray = best > -np.inf
    ends = np.where(full.all(axis=0), k, full.argmin(axis=0)).tolist()
    return [
        None if undecided[row] else _chosen(opening, members[row], places[: ends[row]])
        for row, (opening, places) in enumerate(zip(openings, picked.T.tolist(), strict=True))
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
    losses: Float64Array = in_steps(cosines).astype(np.float64)
    losses *= np.array(costs)[:, None, None]
    return losses


class _Cap:
    """How much each of B requests has taken of each code of the cap at a place among its caps.
    What of ``worth`` [B, C] has a code that is full is -inf."""

    def __init__(
        self,
        openings: Sequence[Opening],
        members: Sequence[Int64Array],
        at: int,
        worth: Float64Array,
    ) -> None:
        caps = [opening.contest.found.caps[at] for opening in openings]
        self._codes = [codes[of_one] for (codes, _), of_one in zip(caps, members, strict=True)]
        self._listed = [codes.tolist() for codes in self._codes]
        self._limit = caps[0][1]
        self._taken: list[dict[int, int]] = [{} for _ in openings]
        self._worth = worth

    def take(self, row: int, place: int) -> None:
        """Counts the member at a place of a request; what has no code is not limited."""
        code = self._listed[row][place]
        if not code:
            return
        taken = self._taken[row]
        taken[code] = count = taken.get(code, 0) + 1
        if count >= self._limit:
            codes = self._codes[row]
            self._worth[row, : len(codes)][codes == code] = -np.inf


def _chosen(opening: Opening, members: Int64Array, picked: list[int]) -> list[int]:
    """Of the members that were ``picked`` from the first position on, those of the open positions,
    as candidates."""
    fixed = opening.contest.fixed
    places = [place for at, place in enumerate(picked) if at not in fixed] if fixed else picked
    chosen: list[int] = members[places].tolist() if places else []
    return chosen
