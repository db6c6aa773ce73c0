"""Team-draft interleaving of two rankings (Radlinski, Kurup & Joachims 2008).

In every round a coin says which team picks first; each adds the best of its ranking that is left,
under the caps and beside what stands above, and is credited with it.
"""

from __future__ import annotations

from collections.abc import Sequence

from services.common.exploration import uniform
from services.ranker.arrays import Float64Array
from services.ranker.selection.board import Ranking, fill
from services.ranker.selection.candidates import Contest

POLICY = "team_draft"


class _Draft:
    def __init__(self, rankings: Sequence[Ranking], seed: int) -> None:
        self._rankings, self._seed = rankings, seed
        self._next: list[int] = []
        self._rounds = 0
        self.picked_by: list[int] = []

    def choose(self, position: int) -> int:
        del position
        if not self._next:
            first = int(uniform(self._seed, "team", self._rounds) >= 0.5)
            self._rounds += 1
            self._next = [first, 1 - first]
        team = self._next.pop(0)
        self.picked_by.append(team)
        return self._rankings[team].best()


def team_draft(
    contest: Contest, bases: Sequence[Float64Array], spreads: Sequence[float], *, seed: int
) -> tuple[list[int], list[int]]:
    """Candidates for the open positions, in order, and the team, 0 or 1, that picked each.

    ``bases``: float64 [N] of the two rankings, with the spread of each.
    """
    laid = contest.board(contest.competing, bases, spreads)
    draft = _Draft(laid.rankings, seed)
    chosen = fill(laid.board, contest.k, laid.fixed, draft.choose) or []
    return laid.candidates_of(chosen), draft.picked_by[: len(chosen)]
