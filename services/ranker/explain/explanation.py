"""What a debug request is told: how each item came into its slate, and how the request went."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from services.common.crosses import unknown
from services.common.exploration import SIMILARITY_STEPS
from services.ranker.arrays import Float32Array, Float64Array, Int64Array
from services.ranker.explain.attribution import Moved, Read, attributed
from services.ranker.explain.trace import Trace
from services.ranker.explain.versions import Origin, Versions, versions_of
from services.ranker.filters.apply import Filtered, apply_filters
from services.ranker.filters.asking import Asking
from services.ranker.filters.expression import REASON, CallerFilter
from services.ranker.scoring.crosses import cross_features
from services.ranker.scoring.value import SUNK, Scored, unscored, values_of, values_under
from services.ranker.selection.board import Similarity
from services.ranker.selection.candidates import likeness_of
from services.ranker.selection.select import similarity_weight
from services.ranker.selection.top_k import order
from services.ranker.types import Placement, Removed

MAX_ATTRIBUTED: Final = 20
"""Items, from the top, of which features are told."""

MAX_FEATURES: Final = 5
"""Features that are told of an item."""

MAX_REMOVED: Final = 100
"""Removed items that are named."""


@dataclass(frozen=True)
class FirstPassed:
    """A candidate in the eyes of the first pass. ``value`` is nan where it was not finite;
    ``place`` is by value among all candidates, from 0."""

    id: str
    value: float
    place: int


@dataclass(frozen=True)
class FirstPassTold:
    """The first pass of a request: ``candidates`` before it, and those it left out, best first.
    ``learned``: whether the bundle has one of the surface."""

    candidates: int
    learned: bool
    cut: Sequence[FirstPassed]


@dataclass(frozen=True)
class FoundBy:
    """A source that yielded an item, and at which place, from 0, among what it yielded."""

    source: str
    place: int


@dataclass(frozen=True)
class Item:
    """One item of a slate.

    ``probabilities`` float32 [O]; ``terms`` float32 [O] add up to the value: weight x probability,
    of money times ``margin`` (nan without margins), all times what variants of the item's host or
    room multiply by. ``value_place``: its place by value among the candidates, from 0. ``pacing``:
    what pacing added to the value. ``likeness`` to what stands above, as diversity counts it,
    ``like`` the item there that it is most like, ``likeness_cost`` what the value lost by it.
    ``first_pass``: None where all were scored.
    """

    id: str
    found_by: Sequence[FoundBy]
    value: float
    value_place: int
    probabilities: Float32Array
    terms: Float32Array
    margin: float
    pacing: float
    like: str
    likeness: float
    likeness_cost: float
    placement: Placement
    log_propensity: float
    features: Sequence[Moved]
    first_pass: FirstPassed | None = None


@dataclass(frozen=True)
class SourceCount:
    """How many items a source yielded, how many of them are candidates under its name, and how
    many are in the slate."""

    source: str
    found: int
    candidates: int
    shown: int


@dataclass(frozen=True)
class Explanation:
    """One answer explained. ``weights`` float32 [O] by ``objectives``. ``removed_by``: how many
    candidates each filter removed, in the order they were asked, ``removed`` the first of them.
    ``over_load``: how many the load cap left out; ``scored``: how many were left to score;
    ``first_pass``: None where that was all."""

    items: Sequence[Item]
    objectives: tuple[str, ...]
    weights: Float32Array
    policy: str
    sources: Sequence[SourceCount]
    removed_by: Sequence[tuple[str, int]]
    removed: Sequence[Removed]
    scored: int
    over_load: int
    level: float
    seed: int
    versions: Versions
    captured: bool
    first_pass: FirstPassTold | None = None


def explain(trace: Trace, origin: Origin) -> Explanation:
    """Explains a traced answer. Reads only what never changes, so any thread may."""
    moment, work, result = trace.moment, trace.work, trace.result
    plan = work.plan
    scored = _scored(trace)
    passed = _first_passed(trace)
    slots = np.array([plan.table.slot_of[id_] for id_ in result.slate.ids], np.int64)
    place_of = {slot: place for place, slot in enumerate(work.slots.tolist())}
    places = np.array([place_of[slot] for slot in slots.tolist()], np.int64)
    filtered = _filtered(trace)
    removed = [
        (plan.table.ids[slot], reason)
        for reason, gone in filtered.removed.items()
        for slot in gone.tolist()
    ]
    overloaded = plan.selection.overloaded
    return Explanation(
        items=_items(trace, scored, slots, places, passed),
        objectives=moment.state.spec.objectives if scored.terms.shape[1] else (),
        weights=work.weights[: scored.terms.shape[1]],
        policy=result.policy,
        sources=_sources(trace),
        removed_by=[(reason, len(filtered.removed.get(reason, ()))) for reason in _reasons(trace)],
        removed=removed[:MAX_REMOVED],
        scored=len(work.slots),
        over_load=0 if overloaded is None else int(overloaded[work.slots].sum()),
        level=moment.level,
        seed=work.seed,
        versions=versions_of(trace, origin),
        captured=trace.captured,
        first_pass=_first_pass(trace, passed),
    )


def _scored(trace: Trace) -> Scored:
    work = trace.work
    if work.predictions is None:
        vector = trace.moment.vectors[work.row]
        return unscored(work.plan.items.vectors[work.slots] @ vector)
    return values_of(work.predictions, work.weights, work.plan.margins, work.slots, work.factors)


def _first_passed(trace: Trace) -> dict[int, FirstPassed]:
    """All candidates by slot, the best first; nothing where all were scored."""
    cut, table = trace.work.cut, trace.work.plan.table
    if cut is None:
        return {}
    values = np.where(cut.scores == SUNK, np.float32(np.nan), cut.scores).tolist()
    ranked = order(cut.scores, table.tie[cut.slots]).tolist()
    slots = cut.slots.tolist()
    return {
        slots[at]: FirstPassed(table.ids[slots[at]], values[at], place)
        for place, at in enumerate(ranked)
    }


def _first_pass(trace: Trace, passed: Mapping[int, FirstPassed]) -> FirstPassTold | None:
    cut = trace.work.cut
    if cut is None:
        return None
    kept = frozenset(cut.slots[cut.kept].tolist())
    left_out = [told for slot, told in passed.items() if slot not in kept]
    return FirstPassTold(len(cut.slots), cut.learned, left_out)


def _reasons(trace: Trace) -> list[str]:
    """Of the filters that were asked, each once."""
    reasons = [reason for reason, _ in trace.work.plan.filters]
    if trace.work.command.filter is not None:
        reasons.append(REASON)
    return list(dict.fromkeys(reasons))


def _filtered(trace: Trace) -> Filtered:
    moment, work = trace.moment, trace.work
    filters, wanted = work.plan.filters, work.command.filter
    if wanted is not None:
        filters = (*filters, (REASON, CallerFilter(wanted, work.plan.table)))
    asking = Asking(moment.now_ms, work.command.circumstances, moment.rows, work.row)
    return apply_filters(filters, work.retrieved, asking)


def _sources(trace: Trace) -> list[SourceCount]:
    work, shown = trace.work, trace.result.slate.sources
    names = [source.name for source in work.plan.spec.sources]
    counts = np.bincount(work.origin, minlength=len(names)).tolist()
    return [
        SourceCount(name, len(found), count, sum(source == name for source in shown))
        for name, found, count in zip(names, work.found, counts, strict=False)
    ]


def _items(
    trace: Trace,
    scored: Scored,
    slots: Int64Array,
    places: Int64Array,
    passed: Mapping[int, FirstPassed],
) -> list[Item]:
    work, slate = trace.work, trace.result.slate
    plan = work.plan
    ranked = np.empty(len(work.slots), np.int64)
    ranked[order(scored.values, plan.table.tie[work.slots])] = np.arange(len(work.slots))
    found_by = _found_by(trace, slots)
    weights = [_weights(trace, team) for team in slate.teams or [""] * len(slots)]
    margins = None if plan.margins is None else plan.margins.amounts[slots]
    shares = plan.selection.adjustments
    nearest, likeness, cost = _likeness(trace, slots)
    moved = _moved(trace, slots[:MAX_ATTRIBUTED])
    drawn = slate.drawn
    return [
        Item(
            id=slate.ids[at],
            found_by=found_by[at],
            value=float(slate.values[at]),
            value_place=int(ranked[place]),
            probabilities=scored.predictions[place],
            terms=scored.terms[place] * weights[at][: scored.terms.shape[1]],
            margin=float("nan") if margins is None else float(margins[at]),
            pacing=(
                0.0
                if shares is None or scored.sunk[place]
                else float(shares[slots[at]] * abs(slate.values[at]))
            ),
            like=nearest[at],
            likeness=float(likeness[at]),
            likeness_cost=float(cost[at]),
            placement=slate.placements[at] if slate.placements else Placement.VALUE,
            log_propensity=0.0 if drawn is None else float(drawn.log_propensities[at]),
            features=moved[at] if at < len(moved) else (),
            first_pass=passed.get(int(slots[at])),
        )
        for at, place in enumerate(places.tolist())
    ]


def _weights(trace: Trace, team: str) -> Float32Array:
    return trace.work.teams.get(team, trace.work.weights)


def _found_by(trace: Trace, slots: Int64Array) -> list[list[FoundBy]]:
    names = [source.name for source in trace.work.plan.spec.sources]
    found: list[list[FoundBy]] = [[] for _ in slots]
    for name, yielded in zip(names, trace.work.found, strict=False):
        place_of = {slot: place for place, slot in enumerate(yielded.tolist())}
        for at, slot in enumerate(slots.tolist()):
            if slot in place_of:
                found[at].append(FoundBy(name, place_of[slot]))
    return found


def _likeness(trace: Trace, slots: Int64Array) -> tuple[list[str], Float64Array, Float64Array]:
    """Of each item the one above, or on an earlier page, that it is most like, its likeness to what
    stands above float64 [P], and what that cost, float64 [P]; nothing without diversity."""
    count = len(slots)
    nearest, lost = [""] * count, np.zeros(count)
    work, slate = trace.work, trace.result.slate
    diversity = work.plan.selection.spec.diversity
    weight = similarity_weight(diversity)
    if diversity is None or not weight or not work.spreads:
        return nearest, lost, np.zeros(count)
    vectors, shown = work.plan.items.vectors, work.shown
    ids = [*(work.plan.table.ids[slot] for slot in shown.tolist()), *slate.ids]
    one = Similarity(vectors[np.concatenate([shown, slots])])
    likeness = likeness_of(diversity.kind, vectors[slots], vectors[shown])
    highest = np.zeros(count) if likeness.first is None else likeness.first
    for at in range(count):
        above = len(shown) + at
        if highest[at] > 0:
            lost[at] = highest[at] / SIMILARITY_STEPS
            nearest[at] = ids[int(one.to(above)[:above].argmax())]
        likeness.losses(at, weight)
        highest = np.maximum(highest, likeness.to(at))
    teams = list(work.teams)
    spreads = [
        work.spreads[teams.index(team) if team and len(work.spreads) > 1 else 0]
        for team in slate.teams or [""] * count
    ]
    return nearest, lost, weight * lost * np.array(spreads)


def _moved(trace: Trace, slots: Int64Array) -> list[list[Moved]]:
    moment, work = trace.moment, trace.work
    if work.predictions is None or not len(slots):
        return []
    spec, plan = moment.state.spec, work.plan
    teams = trace.result.slate.teams
    weights = [_weights(trace, teams[at] if teams else "") for at in range(len(slots))]
    factors_of = work.factors_at(slots)

    def values(predictions: Float32Array, items: Int64Array) -> Float32Array:
        shown, factors = slots[items], None if factors_of is None else factors_of[items]
        scored = values_of(predictions, work.weights, plan.margins, shown, factors)
        if not teams:
            return scored.values
        rated = scored.values.copy()
        for item, own in enumerate(weights):
            rated[items == item] = values_under(scored, own)[items == item]
        return rated

    crosses = cross_features(spec, plan, slots, moment.rows, moment.inputs, work.row)
    read = Read(
        user_names=spec.user_features,
        user_defaults=spec.user_defaults,
        vector=moment.vectors[work.row],
        features=moment.inputs.features[work.row],
        item_names=(*spec.item_features, *spec.crosses),
        item_defaults=np.concatenate([spec.item_defaults, unknown(spec.crosses.values())]),
        item_vectors=plan.items.vectors[slots],
        item_features=np.hstack([plan.items.features[slots], crosses]),
        surface=plan.surface_index,
        crosses=len(spec.crosses),
    )
    return attributed(moment.state.model, read, values, MAX_FEATURES)
