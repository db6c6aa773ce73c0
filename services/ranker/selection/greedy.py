"""The best slate, position by position: value less likeness to what stands above."""

from __future__ import annotations

from collections.abc import Sequence

from services.ranker.arrays import Float64Array
from services.ranker.selection.board import fill
from services.ranker.selection.candidates import Contest
from services.ranker.selection.side_by_side import Opening, fill_side_by_side


def opening_of(contest: Contest, base: Float64Array, spread: float, window: int = 0) -> Opening:
    """A contest, of whose competing the first ``window`` are looked at: by default so many that the
    slate is nearly always among them."""
    competing = contest.competing
    window = window or 2 * contest.k + 8
    outside = float(base[competing[window]]) if window < len(competing) else -float("inf")
    return Opening(contest, base, spread, competing[:window], outside)


def greedy(openings: Sequence[Opening]) -> list[list[int]]:
    """Candidates for the open positions of each, in order, greedily.

    Equal ones: the one of the higher base, then the one that competes first. What one gets does not
    depend on the others.
    """
    found: dict[int, list[int] | None] = {}
    groups: dict[object, list[int]] = {}
    for at, opening in enumerate(openings):
        if not opening.stands_alone and len(opening.head):
            groups.setdefault(opening.alike, []).append(at)
    for places in groups.values():
        filled = fill_side_by_side([openings[at] for at in places])
        found |= zip(places, filled, strict=True)
    return [
        _alone(opening) if (chosen := found.get(at)) is None else chosen
        for at, opening in enumerate(openings)
    ]


def _alone(opening: Opening) -> list[int]:
    """Looks at more and more of the competing, until what they hold is sure to be better than the
    rest."""
    while (chosen := _chosen(opening)) is None:
        window = 4 * len(opening.head)
        opening = opening_of(opening.contest, opening.base, opening.spread, window)
    return chosen


def _chosen(opening: Opening) -> list[int] | None:
    contest, outside = opening.contest, opening.outside
    laid = contest.board(opening.head, [opening.base], [opening.spread])
    (ranking,) = laid.rankings
    chosen = fill(laid.board, contest.k, laid.fixed, lambda _: ranking.best(outside))
    return None if chosen is None else laid.candidates_of(chosen)
