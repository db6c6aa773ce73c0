"""The best slate, position by position: value less likeness to what stands above."""

from __future__ import annotations

from services.ranker.arrays import Float64Array, Int64Array
from services.ranker.selection.board import fill
from services.ranker.selection.candidates import Contest


def greedy(contest: Contest, base: Float64Array, spread: float) -> list[int]:
    """Candidates for the open positions, in order, greedily; ``base`` float64 [N].

    Equal ones: the one of the higher base, then the one that competes first. Only the head of the
    competing is looked at, as long as what it holds is sure to be better than the rest.
    """
    competing = contest.competing
    window = 2 * contest.k + 8
    while True:
        head = competing[:window]
        outside = float(base[competing[window]]) if window < len(competing) else -float("inf")
        chosen = _chosen(contest, head, base, spread, outside)
        if chosen is not None:
            return chosen
        window *= 4


def _chosen(
    contest: Contest, head: Int64Array, base: Float64Array, spread: float, outside: float
) -> list[int] | None:
    laid = contest.board(head, [base], [spread])
    (ranking,) = laid.rankings
    chosen = fill(laid.board, contest.k, laid.fixed, lambda _: ranking.best(outside))
    return None if chosen is None else laid.candidates_of(chosen)
