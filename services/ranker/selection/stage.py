"""Selection for the requests of a micro-batch: from their scored candidates to their slates."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from services.ranker.arrays import Float64Array, Int64Array
from services.ranker.calls.candidates import slots_of_hashes
from services.ranker.results import REFRESH, slate_of
from services.ranker.scoring.value import Scored, values_under
from services.ranker.selection.candidates import Candidates, Selected, Wanted
from services.ranker.selection.fixed import fixed_positions
from services.ranker.selection.select import Opened, not_overloaded, opened, settled
from services.ranker.sources.fallback import FALLBACK
from services.ranker.state import ServingState
from services.ranker.tokens.format import SHOWN_MASK
from services.ranker.types import Call, Drawn, RankCommand, Traffic
from services.ranker.work import Work


def select_slates(
    state: ServingState, works: Sequence[Work], scored: Sequence[Scored], now_ms: int
) -> list[Selected]:
    """Gives the requests of a micro-batch their slates and policies."""
    pairs = list(zip(works, scored, strict=True))
    selected = settled([_opened(work, of_work, now_ms) for work, of_work in pairs])
    for (work, of_work), slate in zip(pairs, selected, strict=True):
        _take(state, work, of_work, slate)
    return selected


def _opened(work: Work, scored: Scored, now_ms: int) -> Opened | Selected:
    """Who looks at what is served (dry runs, TEST traffic), and a slate that is scored anew, get no
    draws; without predictions there is neither a draw nor a second ranking."""
    plan, command = work.plan, work.command
    is_scored = work.predictions is not None
    teams = work.teams if is_scored else {}
    if work.cut is None:
        work.shown = shown_before(work)
    return opened(
        plan.selection,
        candidates_of(work, scored),
        k=command.k or plan.spec.default_k,
        seed=work.seed,
        turn_seed=work.turn_seed,
        now_ms=now_ms,
        first_position=_first_position(command),
        explore=is_scored and _may_explore(command),
        rivals={team: values_under(scored, weights) for team, weights in teams.items()},
    )


def _take(state: ServingState, work: Work, scored: Scored, selected: Selected) -> None:
    plan = work.plan
    names = [*(source.name for source in plan.spec.sources), FALLBACK]
    sources = [names[place] for place in work.origin[selected.picked].tolist()]
    if work.command.call is Call.REFRESH:
        sources = [REFRESH] * len(selected.picked)
    work.policy, work.spreads = selected.policy, selected.spreads
    work.slate = slate_of(
        state,
        work,
        selected.picked,
        selected.values,
        scored.predictions,
        sources,
        placements=selected.placements,
        teams=selected.teams,
        drawn=_of_all(work, selected),
    )


def _of_all(work: Work, selected: Selected) -> Drawn | None:
    """The draws, with what the first pass left out counted: how many there were to choose from does
    not depend on the weights that it went by."""
    drawn = selected.drawn
    if drawn is None or work.cut is None:
        return drawn
    left, _ = not_overloaded(work.plan.selection, work.cut.slots)
    among_all = len(work.cut.slots) if left is None else len(left)
    beyond = among_all - (len(work.slots) - selected.left_out)
    return replace(drawn, considered_count=drawn.considered_count + beyond)


def promised(work: Work, scored: Scored, base: Float64Array, k: int, now_ms: int) -> Int64Array:
    """Candidates that fixed positions go to, int64: what may not be lost before they are scored.

    Pins and new items are told by no value. Of a group below its floor of impressions it is the
    best by ``base`` [N].
    """
    selection = work.plan.selection
    if not selection.fixes:
        return np.zeros(0, np.int64)
    found = candidates_of(work, scored)
    left, _ = not_overloaded(selection, work.slots)
    if left is None:
        left = np.arange(len(work.slots))
    else:
        found = found.only(left)
    wanted = Wanted(k, work.turn_seed, now_ms, _first_position(work.command))
    fixed = fixed_positions(selection, found, base[left], wanted)
    return left[list(fixed.candidates.values())]


def _first_position(command: RankCommand) -> int:
    return 0 if command.following is None else command.following.first_position


def _may_explore(command: RankCommand) -> bool:
    return (
        command.call is Call.RANK
        and not command.dry_run
        and not command.forced_variants
        and not command.debug
        and command.traffic is not Traffic.TEST
    )


def candidates_of(work: Work, scored: Scored) -> Candidates:
    """What selection reads of a request's candidates; ``work.shown`` is set."""
    plan, slots = work.plan, work.slots
    return Candidates(
        slots=slots,
        tie=plan.table.tie[slots],
        values=scored.values,
        sunk=scored.sunk,
        terms=scored.terms,
        weights=work.weights,
        caps=[(codes[slots], limit) for codes, limit in plan.caps],
        ids=plan.table.ids,
        vectors=plan.items.vectors,
        shown=work.shown,
        taken=_taken(work) if len(work.shown) else (),
        # Of a refreshed slate nobody knows any more which source yielded what.
        yielded=work.found,
    )


def shown_before(work: Work) -> Int64Array:
    """Slots of what earlier pages showed and the catalogue still has, where anything counts it."""
    command, plan = work.command, work.plan
    if command.call is not Call.RANK or command.following is None:
        return np.zeros(0, np.int64)
    if not plan.caps and plan.selection.spec.diversity is None:
        return np.zeros(0, np.int64)
    return slots_of_hashes(plan.table, command.following.items, SHOWN_MASK)


def _taken(work: Work) -> list[dict[int, int]]:
    """Items shown by code, for every cap of the surface."""
    counted = (Counter(codes[work.shown].tolist()) for codes, _ in work.plan.caps)
    return [{code: n for code, n in found.items() if code} for found in counted]
