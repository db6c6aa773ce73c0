"""Which of a request's candidates the ranker gets, where a surface gathers more than it scores."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from services.common.exploration import adjusted
from services.ranker.arrays import BoolArray, Float32Array, Float64Array, Int64Array
from services.ranker.definitions.arms import ItemFactors
from services.ranker.governor import Governance
from services.ranker.scoring.first_pass import (
    Cut,
    FirstPass,
    best,
    learned_values,
    placed_values,
)
from services.ranker.scoring.value import SUNK, Scored, values_under
from services.ranker.selection.select import not_overloaded
from services.ranker.selection.stage import candidates_of, promised, shown_before
from services.ranker.selection.top_k import top_k
from services.ranker.sources.caller import Caller
from services.ranker.sources.shared import Pinned
from services.ranker.types import Call
from services.ranker.work import Work

REASON = "first_pass"
"""Reason under which what is left out is counted and named."""


def cut(
    work: Work, vector: Float32Array, governor: Governance, now_ms: int, factors: ItemFactors
) -> int:
    """Leaves a request the candidates that the ranker gets; ``work.cut`` says what became of them.

    As many as the surface names and the governor allows, never fewer than the request wants items:
    what is named by pinned sources and by the caller, what fixed positions go to, then the best by
    the first pass. Where caps would leave the slate short, what the first pass shows under them
    comes on top, and so does what a second ranking keeps, where two are interleaved. Returns how
    many first-pass values were not finite.
    """
    plan, bound = work.plan, work.plan.first_pass
    if bound is None or work.command.call is not Call.RANK:
        return 0
    k = work.command.k or plan.spec.default_k
    count = max(k, governor.candidates(bound.scored, k))
    if len(work.slots) <= count:
        return 0
    multiplied = factors.of(work.definitions, plan.table, work.slots, work.assignments, now_ms)
    valued = _valued(work, bound, vector, multiplied)
    rankings = [valued.values]
    if bound.learned and work.teams:
        rankings = [values_under(valued, weights) for weights in work.teams.values()]
    bases = [_base(work, values) for values in rankings]
    work.shown = shown_before(work)
    first = _named(work)
    first[promised(work, valued, bases[0], k, now_ms)] = True
    kept = first.copy()
    for base in bases:
        kept |= _kept(work, base, first, count)
    if plan.caps:
        kept[_under_caps(work, valued, bases[0], kept, k)] = True
    work.cut = Cut(work.slots, work.origin, valued.values, kept, bound.learned, multiplied)
    work.slots, work.origin = work.slots[kept], work.origin[kept]
    return int(valued.sunk.sum())


def _valued(
    work: Work, bound: FirstPass, vector: Float32Array, factors: Float32Array | None
) -> Scored:
    plan = work.plan
    if not bound.learned:
        return placed_values(work.origin, [source.quota for source in plan.spec.sources])
    nearness = plan.items.vectors.take(work.slots, 0) @ vector
    return learned_values(bound, nearness, work.slots, work.weights, plan.margins, factors)


def _base(work: Work, values: Float32Array) -> Float64Array:
    """What candidates are worth with what pacing does to them, float64 [N]; what sank is last."""
    base, adjustments = values.astype(np.float64), work.plan.selection.adjustments
    if adjustments is not None:
        base = adjusted(base, adjustments[work.slots])
    base[values == SUNK] = -np.inf
    return base


def _named(work: Work) -> BoolArray:
    """Which candidates somebody named: those that a pinned source or the caller's own brought."""
    sources: Sequence[object] = work.plan.spec.sources
    found = [
        slots
        for source, slots in zip(sources, work.found, strict=False)
        if isinstance(source, Caller | Pinned) and len(slots)
    ]
    if not found:
        return np.zeros(len(work.slots), np.bool_)
    return np.isin(work.slots, np.concatenate(found))


def _kept(work: Work, base: Float64Array, first: BoolArray, count: int) -> BoolArray:
    """The best ``count`` by base [N], those that are ``first`` [N] before all others."""
    keys = base.copy()
    left, left_out = not_overloaded(work.plan.selection, work.slots)
    if left is not None and left_out:
        # They take no place from what selection may show.
        overloaded = np.ones(len(keys), np.bool_)
        overloaded[left] = False
        keys[overloaded] = np.minimum(keys[overloaded], np.finfo(np.float64).min)
    keys[first] = np.inf
    return best(keys, work.plan.table.tie[work.slots], max(count, int(np.count_nonzero(first))))


def _under_caps(
    work: Work, valued: Scored, base: Float64Array, kept: BoolArray, k: int
) -> Int64Array:
    """Candidates that fill a slate of ``k`` under the caps, where those kept can't."""
    found = candidates_of(work, valued)
    among = np.flatnonzero(kept)
    of_kept = found.only(among)
    if len(top_k(base[among], of_kept.tie, k, of_kept.caps, taken=found.taken)) >= k:
        return among[:0]
    return top_k(base, found.tie, k, found.caps, taken=found.taken)
