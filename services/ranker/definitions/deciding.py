"""What follows from the variants of a request: weights, rankings to interleave, what is kept."""

from __future__ import annotations

from collections.abc import Sequence

from services.common.assign.assign import (
    Assignment,
    Evaluation,
    interleaved,
    objective_weights,
)
from services.common.assign.model import VISITOR_UNITS
from services.ranker.arrays import Float32Array
from services.ranker.calls.arrange import held
from services.ranker.definitions.assigning import (
    NOTHING_KEPT,
    Kept,
    assigned_to,
    documents_of,
    sticky_ids,
)
from services.ranker.feature_rows import FeatureRows
from services.ranker.scoring.value import weights_of
from services.ranker.state import ServingState
from services.ranker.types import Call, StickyChange, Traffic
from services.ranker.work import Work


def decide(state: ServingState, work: Work, now_ms: int, kept: Kept = NOTHING_KEPT) -> None:
    """Gives a request its variants and what follows from them; ``kept`` is what its user and device
    keep."""
    command, definitions = work.command, work.definitions
    evaluation = assigned_to(command, definitions, now_ms, kept=kept)
    assignments: Sequence[Assignment] = evaluation.assignments
    if command.call is Call.SIMILAR:
        assignments = []
    if command.following is not None:
        assignments = held(assignments, definitions, command.following.variants)
    work.assignments = assignments
    work.weights = _weights(state, work, assignments)
    work.teams = {
        team: _weights(state, work, assigned)
        for team, assigned in interleaved(definitions, assignments).items()
    }
    work.sticky = _changes(work, evaluation, kept) if evaluation.sticky_changes else ()


def decide_as_kept(
    state: ServingState, works: Sequence[Work], rows: FeatureRows, now_ms: int
) -> None:
    """Once the users' rows are there: gives requests whose user or device keeps variants those, and
    tells which news are to be stored.

    Where nobody could tell what is kept nothing is stored: it would replace what is there.
    """
    for work in works:
        if not work.definitions.has_sticky:
            continue
        if rows.kept and not rows.kept.keys().isdisjoint(sticky_ids(work.command)):
            decide(state, work, now_ms, rows.kept)
        is_told = rows.kept_is_told and work.command.traffic is Traffic.LIVE
        if work.sticky and not (is_told and not work.command.forced_variants):
            work.sticky = [change._replace(is_stored=False) for change in work.sticky]


def _changes(work: Work, evaluation: Evaluation, kept: Kept) -> list[StickyChange]:
    if work.command.call is Call.SIMILAR:
        return []
    before = documents_of(work.command, kept)
    found = []
    for key, document in evaluation.sticky_changes.items():
        old = before[key].assignments if key in before else {}
        news = {e: v for e, v in document.assignments.items() if old.get(e) != v}
        is_stored = document.unit in VISITOR_UNITS
        found.append(StickyChange(document, news, is_stored))
    return found


def _weights(state: ServingState, work: Work, assignments: Sequence[Assignment]) -> Float32Array:
    spec = state.spec
    replaced = objective_weights(work.definitions, assignments)
    if not replaced:
        return work.plan.weights
    return weights_of(spec.objectives, work.plan.spec.weights, replaced, default=spec.weights)
