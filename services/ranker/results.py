"""Slates, and answers, of what the stages left in a request's work."""

from __future__ import annotations

from collections.abc import Sequence

from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.definitions.arms import ItemFactors, ShownArm
from services.ranker.feature_rows import FeatureRows
from services.ranker.plan import SurfacePlan
from services.ranker.state import ServingState
from services.ranker.types import Call, Drawn, Placement, RankResult, Removed, Slate, Traffic
from services.ranker.work import Work

REFRESH = "refresh"
"""Source of the items of a refreshed slate."""

NOT_SELECTED = "not_selected"
"""Reason of what may be shown, but has no place in a refreshed slate."""

SIMILAR = "similar"
"""Source, and policy, of a slate of similar items."""


def result_of(
    state: ServingState,
    work: Work,
    rows: FeatureRows,
    timings: Sequence[tuple[str, int]],
    factors: ItemFactors,
    now_ms: int,
) -> RankResult:
    """The answer to a request whose slate is there."""
    command, slate, table = work.command, work.slate, work.plan.table
    assert slate is not None  # noqa: S101 - every work has its slate before
    arms: Sequence[ShownArm] = ()
    if work.definitions.of_entities and command.call in (Call.RANK, Call.REFRESH):
        arms = factors.shown(work.definitions, table, work.placed, work.assignments, now_ms)
    return RankResult(
        rank_id=work.rank_id,
        command=command,
        slate=slate,
        assignments=work.assignments,
        bundle_version=state.spec.version,
        policy=SIMILAR if command.call is Call.SIMILAR else work.policy,
        degraded=tuple(work.degraded),
        timings=timings,
        traffic=Traffic.TEST if command.forced_variants or command.debug else command.traffic,
        view_hash=state.spec.views["user"].hash,
        log_position=rows.log_position,
        rows=rows,
        row=work.row,
        seed=work.seed,
        hashes=table.tie[work.placed],
        more=len(work.slots) + _cut(work) > len(slate.ids),
        prices_minor=state.prices.of(table.entity, work.placed, slate.selling_course_ids),
        removed=[*work.removed, *_unselected(work)],
        definitions=work.definitions,
        arms=arms,
        sticky=work.sticky,
    )


def _cut(work: Work) -> int:
    """Candidates that were not scored; a next page may show them."""
    return 0 if work.cut is None else work.cut.left_out


def _unselected(work: Work) -> list[Removed]:
    """What caps and pacing left out of a refreshed slate, of which callers expect every item."""
    if work.command.call is not Call.REFRESH or work.slate is None:
        return []
    ids, shown = work.plan.table.ids, set(work.slate.ids)
    return [(ids[s], NOT_SELECTED) for s in work.slots.tolist() if ids[s] not in shown]


def slate_of(
    state: ServingState,
    work: Work,
    best: Int64Array,
    values: Float32Array,
    predictions: Float32Array,
    sources: Sequence[str],
    *,
    placements: Sequence[Placement] = (),
    teams: Sequence[str] = (),
    drawn: Drawn | None = None,
) -> Slate:
    """The slate of the candidates at ``best`` [n], with their values [n], of predictions [N, O];
    ``sources``, ``placements`` and ``teams`` are those of the n items. Their slots are the work's
    ``placed`` from then on."""
    work.placed = work.slots[best]
    plan, slots = work.plan, work.placed.tolist()
    ids = [plan.table.ids[slot] for slot in slots]
    return Slate(
        entity_type=plan.table.entity,
        ids=ids,
        selling_course_ids=ids if plan.spec.selling_attribute == "id" else selling(plan, slots),
        sources=sources,
        values=values,
        objectives=state.spec.objectives if predictions.shape[1] else (),
        predictions=predictions[best],
        placements=placements,
        teams=teams,
        drawn=drawn,
    )


def selling(plan: SurfacePlan, slots: Sequence[int]) -> list[str]:
    """The course that each item sells now; empty where the surface's items sell none."""
    attribute, table = plan.spec.selling_attribute, plan.table
    if attribute is None:
        return []
    if attribute == "id":
        return [table.ids[slot] for slot in slots]
    column = table.strings(attribute)
    if column is None:
        return ["" for _ in slots]
    codes, pool = column
    return [pool.values[codes[slot]] for slot in slots]
