"""Slates that are filled side by side, against each filled alone on a board."""

from __future__ import annotations

import numpy as np
import pytest

from services.ranker.selection.board import fill
from services.ranker.selection.candidates import Candidates, Contest
from services.ranker.selection.greedy import greedy, opening_of
from services.ranker.selection.side_by_side import Opening


def contest_of(
    seed: int, candidates: int, k: int, *, cap: int, fixed: dict[int, int], vectors: np.ndarray
) -> Opening:
    random = np.random.default_rng(seed)
    # Few different values, so that there are equal ones.
    values = (random.integers(0, 12, candidates) / 4).astype(np.float32)
    found = Candidates(
        slots=random.permutation(len(vectors))[:candidates],
        tie=np.arange(candidates, dtype=np.uint64),
        values=values,
        sunk=np.zeros(candidates, np.bool_),
        terms=values[:, None],
        weights=np.ones(1, np.float32),
        caps=[(random.integers(0, 9, candidates).astype(np.int32), cap)],
        ids=[],
        vectors=vectors,
    )
    ranked = np.argsort(-values, kind="stable")
    competing = ranked[~np.isin(ranked, list(fixed.values()))]
    contest = Contest(found, competing, fixed, k, 0.4)
    return opening_of(contest, values.astype(np.float64), 0.7)


def alone(opening: Opening) -> list[int]:
    """By the board, with all that compete on it."""
    contest = opening.contest
    laid = contest.board(contest.competing, [opening.base], [opening.spread])
    (ranking,) = laid.rankings
    chosen = fill(laid.board, contest.k, laid.fixed, lambda _: ranking.best())
    return laid.candidates_of(chosen or [])


@pytest.mark.parametrize("cap", [1, 2, 50])
def test_what_one_gets_does_not_depend_on_those_beside_it(cap: int) -> None:
    vectors = np.random.default_rng(9).normal(size=(300, 6)).astype(np.float32)
    fixed = [{}, {2: 0}, {0: 3, 4: 1}, {1: 5}, {}]
    sizes = [5, 40, 120, 250, 0]
    openings = [
        contest_of(seed, size, 10, cap=cap, fixed=places, vectors=vectors)
        for seed, (size, places) in enumerate(zip(sizes, fixed, strict=True))
    ]
    # Another length of slate, another catalogue: not side by side with the rest.
    openings.append(contest_of(7, 60, 4, cap=cap, fixed={}, vectors=vectors))
    openings.append(contest_of(8, 60, 10, cap=cap, fixed={}, vectors=vectors[:80]))
    together = greedy(openings)
    assert together == [alone(opening) for opening in openings]
    assert together == [greedy([opening])[0] for opening in openings]


def test_what_is_behind_the_head_is_found() -> None:
    """All of the head is of one code: the cap sends the slate on to the rest."""
    vectors = np.ones((200, 3), np.float32)
    opening = contest_of(1, 200, 5, cap=1, fixed={}, vectors=vectors)
    codes = opening.contest.found.caps[0][0]
    codes[opening.contest.competing[:60]] = 1
    assert len(opening.head) < 60
    (chosen,) = greedy([opening])
    assert chosen == alone(opening)
    assert len(chosen) == 5
