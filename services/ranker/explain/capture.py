"""A captured request: everything that ranking it read, and the slate it came to.

What was read of the catalogue are the rows of the items that its sources found, what was read of
the feature service is the user's row. Who asked is a pseudonym throughout.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from services.common.actor import actor_key
from services.common.assign.assign import Assignment
from services.common.pseudonym import Pseudonymiser
from services.ranker.arrays import Float32Array, Float64Array, Int64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.explain.rows import one_row
from services.ranker.explain.trace import Trace
from services.ranker.explain.versions import Origin, Versions, versions_of
from services.ranker.feature_rows import FeatureRows
from services.ranker.types import Degradation, Placement, RankCommand, RankResult
from services.ranker.work import Work


@dataclass(frozen=True)
class CapturedSlate:
    """The answer of P items, as it was. ``values`` float32 [P], ``predictions`` float32 [P, O],
    ``log_propensities`` float64 [P], empty where nothing was drawn."""

    policy: str
    ids: Sequence[str]
    sources: Sequence[str]
    values: Float32Array
    objectives: tuple[str, ...]
    predictions: Float32Array
    placements: Sequence[Placement]
    teams: Sequence[str]
    log_propensities: Float64Array


@dataclass(frozen=True)
class Capture:
    """One request. The ids in ``command`` are pseudonyms; its ``context`` is left out but for the
    circumstances.

    ``table`` holds the n candidates, and what earlier pages showed; ``vectors`` float32 [n, D] what
    the models read of them. ``found``: by source of the surface, in its order, the slots it
    yielded, int64; ``rows`` is the user's row alone. ``adjustments`` and ``shortfall`` float32 [n]
    are what pacing makes of the whole catalogue. ``item_logits`` float32 [n, O] are the first pass'
    of the candidates, None where all are scored; ``factors`` float32 [n] what variants of hosts and
    rooms multiply values by, None for nothing. ``weights`` float32 [O] and those of ``teams``
    follow from the assignments.
    ``now_ms`` is the time of ranking, epoch milliseconds; ``level`` the governor's; ``batch_size``
    how many requests were ranked together.
    """

    rank_id: str
    now_ms: int
    command: RankCommand
    seed: int
    versions: Versions
    level: float
    batch_size: int
    assignments: Sequence[Assignment]
    weights: Float32Array
    teams: Mapping[str, Float32Array]
    rows: FeatureRows
    table: EntityTable
    vectors: Float32Array
    found: Sequence[Int64Array]
    adjustments: Float32Array | None
    shortfall: Float32Array | None
    degraded: Sequence[Degradation]
    slate: CapturedSlate
    item_logits: Float32Array | None = None
    factors: Float32Array | None = None


def capture_of(trace: Trace, names: Pseudonymiser, origin: Origin) -> Capture:
    """The capture of a traced request."""
    moment, work, result = trace.moment, trace.work, trace.result
    plan, command = work.plan, work.command
    slots = np.unique(np.concatenate([*work.found, work.retrieved, work.slots, work.shown]))
    user, device = names.encrypt(command.user_id), names.encrypt(command.device_id)
    selection = plan.selection
    return Capture(
        rank_id=work.rank_id,
        now_ms=moment.now_ms,
        # A request to be explained is no live one, and does not explore.
        command=replace(
            command,
            user_id=user,
            device_id=device,
            context=None,
            deadline_s=None,
            debug=False,
            traffic=result.traffic,
        ),
        seed=work.seed,
        versions=versions_of(trace, origin),
        level=moment.level,
        batch_size=len(moment.rows.ids),
        assignments=work.assignments,
        weights=work.weights,
        teams=work.teams,
        rows=one_row(moment.rows, work.row, actor_key(user, device)),
        table=plan.table.only(slots),
        vectors=plan.items.vectors[slots],
        found=[np.searchsorted(slots, found) for found in work.found],
        adjustments=None if selection.adjustments is None else selection.adjustments[slots],
        shortfall=None if selection.shortfall is None else selection.shortfall[slots],
        degraded=result.degraded,
        slate=slate_of(result),
        item_logits=None if plan.first_pass is None else plan.first_pass.item_logits[slots],
        factors=_factors(work, slots),
    )


def _factors(work: Work, slots: Int64Array) -> Float32Array | None:
    """Factors of the items at ``slots``; 1 for those that were not valued."""
    valued, factors = work.slots, work.factors
    if work.cut is not None:
        valued, factors = work.cut.slots, work.cut.factors
    if factors is None:
        return None
    found = np.ones(len(slots), np.float32)
    found[np.searchsorted(slots, valued)] = factors
    return found


def slate_of(result: RankResult) -> CapturedSlate:
    """The slate of an answer."""
    slate = result.slate
    drawn = slate.drawn
    return CapturedSlate(
        policy=result.policy,
        ids=slate.ids,
        sources=slate.sources,
        values=slate.values,
        objectives=slate.objectives,
        predictions=slate.predictions,
        placements=slate.placements,
        teams=slate.teams,
        log_propensities=np.zeros(0) if drawn is None else drawn.log_propensities,
    )


def under_other_names(capture: Capture, user: str, device: str) -> Capture:
    """The capture with other pseudonyms of the same user and device."""
    return replace(
        capture,
        command=replace(capture.command, user_id=user, device_id=device),
        rows=replace(capture.rows, ids=[actor_key(user, device)]),
    )
