"""One slate from the scored candidates of one request.

In this order: what is overloaded leaves, pacing moves values, pins and slots take their positions,
and the open positions are filled from the top, each beside what stands above it: by value, by value
and unlikeness, drawn, or by two rankings in turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from services.common.domain_selection import Diversity
from services.common.exploration import adjusted, explores, spread_of
from services.ranker.arrays import Float32Array, Float64Array, Int64Array
from services.ranker.selection.bound import BoundSelection
from services.ranker.selection.candidates import Candidates, Contest, Selected, Wanted
from services.ranker.selection.dpp import MOST_LOST
from services.ranker.selection.draw import POLICY as DRAWN_POLICY
from services.ranker.selection.draw import draw, record
from services.ranker.selection.fixed import Fixed, fixed_positions
from services.ranker.selection.greedy import greedy, opening_of
from services.ranker.selection.team_draft import POLICY as DRAFT_POLICY
from services.ranker.selection.team_draft import team_draft
from services.ranker.selection.top_k import POLICY, order, placed, top_k
from services.ranker.types import Placement


@dataclass(frozen=True, slots=True)
class Opened:
    """A request whose fixed positions are taken, and whose open ones are to be filled.

    ``shares`` float32 [N] is what pacing adds, None for nothing; ``base`` float64 [N] what
    candidates are worth with it. ``kept`` int64 [N]: the places of ``found`` among all candidates,
    None where all are left; ``left_out``: how many are not.
    """

    plan: BoundSelection
    found: Candidates
    seed: int
    rivals: Mapping[str, Float32Array]
    drawing: bool
    shares: Float32Array | None
    base: Float64Array
    fixed: Fixed
    contest: Contest
    spread: float
    kept: Int64Array | None
    left_out: int

    @property
    def is_greedy(self) -> bool:
        """Whether the best are taken beside what stands above them."""
        return bool(self.contest.similarity_weight) and not self.rivals and not self.drawing


def select(
    plan: BoundSelection,
    found: Candidates,
    *,
    k: int,
    seed: int,
    now_ms: int,
    turn_seed: int | None = None,
    first_position: int = 0,
    explore: bool = False,
    rivals: Mapping[str, Float32Array] | None = None,
) -> Selected:
    """At most ``k`` items; see ``opened``."""
    (selected,) = settled(
        [
            opened(
                plan,
                found,
                k=k,
                seed=seed,
                now_ms=now_ms,
                turn_seed=turn_seed,
                first_position=first_position,
                explore=explore,
                rivals=rivals,
            )
        ]
    )
    return selected


def opened(
    plan: BoundSelection,
    found: Candidates,
    *,
    k: int,
    seed: int,
    now_ms: int,
    turn_seed: int | None = None,
    first_position: int = 0,
    explore: bool = False,
    rivals: Mapping[str, Float32Array] | None = None,
) -> Opened | Selected:
    """The selection of at most ``k`` items, or what it begins with. The same arguments give the
    same slate, whatever the candidates' order is.

    ``first_position``: that of the slate's first item among all that the pages up to this one
    show, by which fixed positions count. ``explore``: the request may; ``seed`` decides.
    ``turn_seed``: what the turns of new items are drawn by, ``seed`` where it is None.
    ``rivals``: values float32 [N] of two rankings by the variant they are credited to, the first
    being the candidates' own; they are interleaved, and nothing is drawn.
    """
    spec = plan.spec
    kept, left_out = not_overloaded(plan, found.slots)
    if kept is not None:
        found = found.only(kept)
        rivals = rivals and {team: values[kept] for team, values in rivals.items()}
    exploration = spec.exploration
    drawing = (
        exploration is not None and explore and not rivals and explores(seed, exploration.share)
    )
    if not (drawing or rivals or spec.diversity or plan.adjustments is not None or plan.fixes):
        best = top_k(found.values, found.tie, k, found.caps, taken=found.taken)
        picked = best if kept is None else kept[best]
        return Selected(picked, found.values[best], POLICY, left_out=left_out)
    shares = None
    if plan.adjustments is not None:
        # What is sunk stays where it is.
        shares = np.where(found.sunk, np.float32(0), plan.adjustments[found.slots])
    base = adjusted(found.values.astype(np.float64), shares)
    turn_seed = seed if turn_seed is None else turn_seed
    fixed = fixed_positions(plan, found, base, Wanted(k, turn_seed, now_ms, first_position))
    competing = _competing(found, base, fixed)
    if rivals:
        # Neither ranking's order: what is worth the same to one must not follow the other's.
        competing = competing[np.argsort(found.tie[competing])]
    elif exploration is not None:
        competing = competing[: exploration.candidates]
    kind = spec.diversity.kind if spec.diversity is not None else "mmr"
    weight = similarity_weight(spec.diversity)
    contest = Contest(found, competing, fixed.candidates, k, weight, kind)
    return Opened(
        plan=plan,
        found=found,
        seed=seed,
        rivals=rivals or {},
        drawing=drawing,
        shares=shares,
        base=base,
        fixed=fixed,
        contest=contest,
        spread=spread_of(base[competing]),
        kept=kept,
        left_out=left_out,
    )


def settled(requests: Sequence[Opened | Selected]) -> list[Selected]:
    """The selections of requests that were ``opened``. What one gets does not depend on the
    others."""
    greedily = [one for one in requests if isinstance(one, Opened) and one.is_greedy]
    chosen = iter(greedy([opening_of(one.contest, one.base, one.spread) for one in greedily]))
    return [
        one if isinstance(one, Selected) else _settled(one, next(chosen) if one.is_greedy else [])
        for one in requests
    ]


def not_overloaded(plan: BoundSelection, slots: Int64Array) -> tuple[Int64Array | None, int]:
    """Candidates, of slots [N], that the load cap leaves, None for all, and how many it takes out;
    it never leaves none."""
    if plan.overloaded is None:
        return None, 0
    kept = np.flatnonzero(~plan.overloaded[slots])
    left_out = len(slots) - len(kept)
    return (kept, left_out) if left_out and len(kept) else (None, 0)


def _settled(one: Opened, chosen: list[int]) -> Selected:
    """``chosen``: candidates for the open positions, where they are taken greedily."""
    found, contest, seed = one.found, one.contest, one.seed
    exploration = one.plan.spec.exploration
    spreads = [one.spread]
    teams: list[str] = []
    values, drawings, policy = found.values, None, POLICY
    if one.rivals:
        policy = DRAFT_POLICY
        bases = [adjusted(v.astype(np.float64), one.shares) for v in one.rivals.values()]
        spreads = [spread_of(b[contest.competing]) for b in bases]
        chosen, picked_by = team_draft(contest, bases, spreads, seed=seed)
        names = list(one.rivals)
        teams = [names[team] for team in picked_by]
        values = _credited(one.rivals, chosen, teams)
    elif one.drawing and exploration is not None:
        policy = DRAWN_POLICY
        temperature = exploration.temperature
        drawings = draw(contest, one.base, one.spread, seed=seed, temperature=temperature)
        chosen = drawings.chosen
    elif one.is_greedy:
        policy = contest.kind
    slate, placements = _completed(
        found, one.base, one.fixed, chosen, contest.k, drawn=drawings is not None
    )
    drawn = None
    if drawings is not None and exploration is not None:
        drawn = record(contest, drawings, slate, exploration, one.shares, one.spread, seed)
    credited = dict(zip(chosen, teams, strict=True)) if teams else {}
    picked = np.array(slate, np.int64)
    return Selected(
        picked if one.kept is None else one.kept[picked],
        values[picked],
        policy,
        placements,
        [credited.get(index, "") for index in slate] if one.rivals else (),
        drawn,
        one.left_out,
        spreads,
    )


def similarity_weight(diversity: Diversity | None) -> float:
    """What a likeness of 1 costs, in units of the spread of values."""
    if diversity is None:
        return 0.0
    weight = (1 - diversity.relevance) / diversity.relevance
    return weight * MOST_LOST if diversity.kind == "dpp" else weight


def _competing(found: Candidates, base: Float64Array, fixed: Fixed) -> Int64Array:
    """Candidates for the open positions, best first."""
    free = ~found.sunk
    free[list(fixed.candidates.values())] = False
    ranked = order(base, found.tie)
    return ranked[free[ranked]]


def _completed(
    found: Candidates,
    base: Float64Array,
    fixed: Fixed,
    chosen: Sequence[int],
    k: int,
    *,
    drawn: bool,
) -> tuple[list[int], Sequence[Placement]]:
    """The slate, and how each item came to its position, nothing where all did by value; by value
    where ``chosen`` runs out."""
    slate = placed(chosen, fixed.candidates, k)
    if len(slate) < min(k, len(base)):
        open_positions = [p for p in range(k) if p not in fixed.candidates]
        settled = fixed.candidates | dict(zip(open_positions, chosen, strict=False))
        slate = top_k(base, found.tie, k, found.caps, settled, found.taken).tolist()
    reasons = {fixed.candidates[at]: reason for at, reason in fixed.reasons.items()}
    if drawn:
        reasons |= dict.fromkeys(chosen, Placement.DRAWN)
    if reasons.keys().isdisjoint(slate):
        return slate, ()
    return slate, [reasons.get(index, Placement.VALUE) for index in slate]


def _credited(
    rivals: Mapping[str, Float32Array], chosen: Sequence[int], teams: Sequence[str]
) -> Float32Array:
    """Values [N]: of what a team picked its own, of the rest the first's."""
    values = next(iter(rivals.values())).copy()
    for index, team in zip(chosen, teams, strict=True):
        values[index] = rivals[team][index]
    return values
