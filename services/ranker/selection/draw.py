"""Exploration: every open position is drawn, and the draw logged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.domain_selection import ExplorationPolicy
from services.common.exploration import uniform
from services.ranker.arrays import BoolArray, Float32Array, Float64Array
from services.ranker.selection.board import NOTHING_LEFT, fill
from services.ranker.selection.candidates import Contest, SetBoard
from services.ranker.types import Drawn

POLICY = "softmax"


@dataclass(frozen=True, slots=True)
class Drawings:
    """Candidates drawn for the open positions, in order, with the log-probability of each draw and
    what was feasible, bool [C]."""

    chosen: list[int]
    log_propensities: list[float]
    feasible: list[BoolArray]
    laid: SetBoard


def draw(
    contest: Contest, base: Float64Array, spread: float, *, seed: int, temperature: float
) -> Drawings:
    """Draws the open positions from the top: softmax of what is feasible there, worth / spread over
    ``temperature``. ``base`` float64 [N]."""
    laid = contest.board(contest.competing, [base], [spread])
    worth = laid.rankings[0].worth[: len(contest.competing)]
    scale = 1 / (spread * temperature)
    log_propensities: list[float] = []
    feasible: list[BoolArray] = []

    def choose(position: int) -> int:
        logits = worth * scale
        highest = logits.max(initial=-np.inf)
        if highest == -np.inf:
            return NOTHING_LEFT
        logits -= highest
        parts = np.exp(logits)
        ends = np.cumsum(parts)
        total = float(ends[-1])
        member = int(np.searchsorted(ends, uniform(seed, "draw", position) * total, side="right"))
        if member >= len(parts) or not parts[member]:
            # Rounding pushed the number beyond the last part that is not empty.
            member = int(np.flatnonzero(parts)[-1])
        feasible.append(logits > -np.inf)
        log_propensities.append(min(0.0, float(logits[member]) - math.log(total)))
        return member

    chosen = fill(laid.board, contest.k, laid.fixed, choose) or []
    return Drawings(laid.candidates_of(chosen), log_propensities, feasible, laid)


def record(
    contest: Contest,
    drawings: Drawings,
    slate: Sequence[int],
    policy: ExplorationPolicy,
    shares: Float32Array | None,
    spread: float,
    seed: int,
) -> Drawn:
    """What is logged of the draws. ``slate``: candidates by position; ``shares`` float32 [N] is
    what pacing adds to values."""
    found, competing = contest.found, contest.competing
    count = len(competing)
    members = _members(drawings.laid, slate)
    feasible = np.zeros((len(slate), count), np.bool_)
    log_propensities = np.zeros(len(slate))
    position_of = {candidate: position for position, candidate in enumerate(slate)}
    for candidate, mask, log_propensity in zip(
        drawings.chosen, drawings.feasible, drawings.log_propensities, strict=True
    ):
        position = position_of[candidate]
        feasible[position], log_propensities[position] = mask, log_propensity
    similarities, earlier = None, None
    likeness = drawings.laid.likeness
    if likeness is not None:
        if likeness.first is not None:
            earlier = likeness.first[:count].astype(np.uint8)
        similarities = np.zeros((len(slate), count), np.uint8)
        for position, member in enumerate(members):
            if member >= 0:
                similarities[position] = likeness.to(member)[:count]
    return Drawn(
        seed=seed,
        share=policy.share,
        temperature=policy.temperature,
        similarity_weight=contest.similarity_weight,
        spread=spread,
        weights=found.weights,
        candidate_ids=[found.ids[slot] for slot in found.slots[competing].tolist()],
        considered_count=len(found.slots) - len(contest.fixed),
        terms=found.terms[competing],
        adjustments=None if shares is None else shares[competing],
        similarities=similarities,
        feasible=feasible,
        chosen=np.array([m if m < count else -1 for m in members], np.int64),
        log_propensities=log_propensities,
        earlier_similarities=earlier,
    )


def _members(laid: SetBoard, slate: Sequence[int]) -> list[int]:
    """The member behind each candidate of the slate, -1 for what is not on the board."""
    member_of = dict(zip(laid.candidates.tolist(), range(len(laid.candidates)), strict=True))
    return [member_of.get(candidate, -1) for candidate in slate]
