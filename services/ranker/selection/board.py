"""What may still be placed while a slate is filled from the top, and what it is worth by then."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

import numpy as np

from services.common.exploration import SIMILARITY_STEPS
from services.ranker.arrays import ByteArray, Float32Array, Float64Array
from services.ranker.selection.caps import Caps, Taken, counts_of

_ALL_PAIRS = 128
"""Members up to which the similarities of all pairs are computed at once."""

NOTHING_LEFT = -1
UNDECIDED = -2
"""An item that is not on the board might be better."""

Choose = Callable[[int], int]
"""The member for a position, or ``NOTHING_LEFT`` or ``UNDECIDED``."""


class Likeness(Protocol):
    """How like what stands above C members are, in 255ths."""

    first: Float64Array | None
    """Beside what earlier pages showed, float64 [C]; None without any."""

    def to(self, member: int) -> ByteArray:
        """What is logged of the position of a member, uint8 [C]: the highest of those above a
        position is what members lose there."""
        ...

    def losses(self, member: int, cost: float) -> Float64Array:
        """What every member loses as one is placed, float64 [C]; ``cost``: of a likeness of 1."""
        ...


class Similarity:
    """Cosine similarities of C vectors [C, D], negative ones as 0, in 255ths.

    ``earlier`` [E, D]: vectors of what earlier pages showed.
    """

    def __init__(self, vectors: Float32Array, earlier: Float32Array | None = None) -> None:
        self._unit = unit_vectors(vectors)
        self.first: Float64Array | None = None
        if earlier is not None and len(earlier):
            cosines = in_steps(self._unit @ unit_vectors(earlier).T)
            self.first = cosines.max(axis=1, initial=0).astype(np.float64)

    def to(self, member: int) -> ByteArray:
        """Similarity of every member to one, uint8 [C]."""
        return self._to(member).astype(np.uint8)

    def losses(self, member: int, cost: float) -> Float64Array:
        """What every member loses beside one, float64 [C], at ``cost`` for a similarity of 1."""
        return self._to(member) * np.float64(cost / SIMILARITY_STEPS)

    def _to(self, member: int) -> Float32Array:
        one: Float32Array = self._unit[member]
        return in_steps(self._unit @ one)

    def all_losses(self, cost: float) -> Float64Array:
        """What every member loses beside every other, float64 [C, C]."""
        return in_steps(self._unit @ self._unit.T) * np.float64(cost / SIMILARITY_STEPS)


def unit_vectors(vectors: Float32Array) -> Float32Array:
    norms: Float32Array = np.sqrt((vectors * vectors).sum(axis=1, keepdims=True))
    norms[norms == 0] = 1
    unit: Float32Array = vectors / norms
    return unit


def in_steps(cosines: Float32Array) -> Float32Array:
    """255ths as whole numbers. Rounding takes away what a cosine is above 1 by its own rounding."""
    cosines *= np.float32(SIMILARITY_STEPS)
    np.maximum(cosines, np.float32(0), out=cosines)
    return np.rint(cosines, out=cosines)


class Ranking:
    """What C members are worth to one ranking: ``base`` float64 [C] less ``cost`` x their likeness
    to what was placed, without diversity ``base`` alone."""

    def __init__(self, base: Float64Array, likeness: Likeness | None, cost: float) -> None:
        self.worth = base.copy()
        """Float64 [C]; -inf for what may not be chosen."""
        self._base, self._likeness, self._cost = base, likeness, cost
        if likeness is not None and likeness.first is not None:
            self.worth -= likeness.first * (cost / SIMILARITY_STEPS)
        # A likeness that grows only takes away: worth is the least of what is left beside each.
        self._beside: Float64Array | None = None
        if isinstance(likeness, Similarity) and len(base) <= _ALL_PAIRS:
            self._beside = base - likeness.all_losses(cost)

    def placed(self, member: int) -> None:
        """Takes in that a member now stands above."""
        if self._beside is not None:
            np.minimum(self.worth, self._beside[member], out=self.worth)
        elif self._likeness is not None:
            left = self._base - self._likeness.losses(member, self._cost)
            np.minimum(self.worth, left, out=self.worth)

    def best(self, outside: float = -np.inf) -> int:
        """The member worth most, the first of equals; ``outside`` is the most that anything off the
        board is worth, -inf where nothing is."""
        if not len(self.worth):
            return NOTHING_LEFT if outside == -np.inf else UNDECIDED
        member = int(self.worth.argmax())
        highest = self.worth[member]
        if highest == -np.inf:
            return NOTHING_LEFT if outside == -np.inf else UNDECIDED
        return UNDECIDED if highest < outside else member


class Board:
    """C members: candidates that compete for the open positions, and the fixed.

    ``caps`` are over the members; ``taken`` is what counts for them beforehand. ``reserved`` are
    the fixed: they count for the caps from the start and are not chosen.
    """

    def __init__(
        self, rankings: Sequence[Ranking], caps: Caps, reserved: Sequence[int], taken: Taken = ()
    ) -> None:
        self._rankings = rankings
        self._worths = [ranking.worth for ranking in rankings]
        self._caps = [
            (codes, codes.tolist(), limit, counts)
            for (codes, limit), counts in zip(caps, counts_of(caps, taken), strict=True)
        ]
        for codes, _, limit, counts in self._caps:
            full = [code for code, count in counts.items() if count >= limit]
            if full:
                closed = np.isin(codes, full)
                for worth in self._worths:
                    worth[closed] = -np.inf
        self._reserved = frozenset(reserved)
        for member in reserved:
            self._close(member)

    def place(self, member: int) -> None:
        """Puts a member at the next position."""
        if member not in self._reserved:
            self._close(member)
        for ranking in self._rankings:
            ranking.placed(member)

    def _close(self, member: int) -> None:
        for worth in self._worths:
            worth[member] = -np.inf
        for codes, listed, limit, taken in self._caps:
            code = listed[member]
            if not code:
                continue
            count = taken.get(code, 0) + 1
            taken[code] = count
            if count >= limit:
                full = codes == code
                for worth in self._worths:
                    worth[full] = -np.inf


def fill(board: Board, k: int, fixed: Mapping[int, int], choose: Choose) -> list[int] | None:
    """Members for the open ones of ``k`` positions, from the top; fewer where nothing is left.

    ``fixed``: members by position. None where ``choose`` could not decide.
    """
    chosen: list[int] = []
    for position in range(k):
        member = fixed.get(position)
        if member is None:
            member = choose(position)
            if member == UNDECIDED:
                return None
            if member == NOTHING_LEFT:
                break
            chosen.append(member)
        board.place(member)
    return chosen
