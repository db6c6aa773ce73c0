"""What selection reads, and what it answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from services.ranker.arrays import (
    BoolArray,
    Float32Array,
    Float64Array,
    Int64Array,
    UInt64Array,
)
from services.ranker.selection.board import Board, Likeness, Ranking, Similarity
from services.ranker.selection.caps import Caps, Taken
from services.ranker.selection.dpp import Determinant
from services.ranker.types import Drawn, Placement


@dataclass(frozen=True, slots=True)
class Candidates:
    """N scored candidates of one request, of a table with n slots.

    ``slots`` int64 [N], ``tie`` uint64 [N], ``values`` float32 [N]; ``sunk`` bool [N] marks what
    must come last. ``terms`` float32 [N, O] x ``weights`` float32 [O] are the values. ``ids`` [n]
    and ``vectors`` float32 [n, D] are the table's, by slot.

    ``shown`` int64 [E]: slots of what earlier pages showed, the last at the end; ``taken``: how
    much of each cap they used.

    ``yielded``: slots that each source yielded, best first, whether or not another one did too, and
    whether or not they are still candidates; empty where no source was asked.
    """

    slots: Int64Array
    tie: UInt64Array
    values: Float32Array
    sunk: BoolArray
    terms: Float32Array
    weights: Float32Array
    caps: Caps
    ids: Sequence[str]
    vectors: Float32Array
    shown: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    taken: Taken = ()
    yielded: Sequence[Int64Array] = ()

    def only(self, kept: Int64Array) -> Candidates:
        """The candidates at the indices ``kept``."""
        return replace(
            self,
            slots=self.slots[kept],
            tie=self.tie[kept],
            values=self.values[kept],
            sunk=self.sunk[kept],
            terms=self.terms[kept],
            caps=[(codes[kept], limit) for codes, limit in self.caps],
        )


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a request wants: ``k`` items. By ``turn_seed`` the turns of new items are drawn.
    ``first_position`` is that of the slate's first item
    among all that the pages up to this one show; fixed positions count from there."""

    k: int
    turn_seed: int
    now_ms: int
    first_position: int = 0

    def row(self, position: int) -> int | None:
        """Place in the slate of a position of all pages; None where it is not in this slate."""
        row = position - self.first_position
        return row if 0 <= row < self.k else None


@dataclass(frozen=True, slots=True)
class Selected:
    """A slate of P of N candidates: indices int64 [P] and values float32 [P], the first on top.

    ``placements`` is empty where all came by their value, ``teams`` where nothing was interleaved.
    ``left_out``: how many candidates the load cap took out. ``spreads``: of each ranking's values,
    the unit of what likeness costs; empty where nothing but values counted.
    """

    picked: Int64Array
    values: Float32Array
    policy: str
    placements: Sequence[Placement] = ()
    teams: Sequence[str] = ()
    drawn: Drawn | None = None
    left_out: int = 0
    spreads: Sequence[float] = ()


def likeness_of(
    kind: Literal["mmr", "dpp"], vectors: Float32Array, earlier: Float32Array
) -> Likeness:
    """The likeness of a kind, of members with these vectors [C, D] beside one another and beside
    what earlier pages showed [E, D]."""
    return Similarity(vectors, earlier) if kind == "mmr" else Determinant(vectors, earlier)


@dataclass(frozen=True, slots=True)
class Contest:
    """What the open positions of a request are filled from.

    ``competing`` int64 [C]: candidates, the best first. ``fixed``: candidates by position.
    ``similarity_weight``: what a likeness of 1 costs, in units of the spread of values; ``kind`` of
    likeness, as configured.
    """

    found: Candidates
    competing: Int64Array
    fixed: Mapping[int, int]
    k: int
    similarity_weight: float
    kind: Literal["mmr", "dpp"] = "mmr"

    def board(
        self, members: Int64Array, bases: Sequence[Float64Array], spreads: Sequence[float]
    ) -> SetBoard:
        """A board of ``members`` int64 [C], candidates, and of what is fixed after them.

        ``bases``: float64 [N] for each of T rankings, with the spread of each.
        """
        reserved = list(self.fixed.values())
        places = range(len(members), len(members) + len(reserved))
        everything = np.concatenate([members, np.array(reserved, np.int64)])
        found, likeness = self.found, None
        if self.similarity_weight:
            vectors, earlier = found.vectors[found.slots[everything]], found.vectors[found.shown]
            likeness = likeness_of(self.kind, vectors, earlier)
        rankings = [
            Ranking(base[everything], likeness, self.similarity_weight * spread)
            for base, spread in zip(bases, spreads, strict=True)
        ]
        caps = [(codes[everything], limit) for codes, limit in found.caps]
        fixed = dict(zip(self.fixed, places, strict=True))
        board = Board(rankings, caps, places, found.taken)
        return SetBoard(board, rankings, likeness, everything, fixed)


@dataclass(frozen=True, slots=True)
class SetBoard:
    """A board and its rankings, the candidate behind each of its members, and the fixed members by
    position."""

    board: Board
    rankings: Sequence[Ranking]
    likeness: Likeness | None
    candidates: Int64Array
    fixed: Mapping[int, int]

    def candidates_of(self, members: Sequence[int]) -> list[int]:
        """The candidates behind some members."""
        found: list[int] = self.candidates[list(members)].tolist() if members else []
        return found
