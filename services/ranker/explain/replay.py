"""Ranks a captured request again, by the very pipeline, and holds the slate to the one it had.

What sources yielded, the user's row, assignments, clock and level are the capture's; towers,
merging, filters, scoring, values and selection run anew, over a catalogue of the captured rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import numpy as np

from services.common.assign.assign import Assignment, Definitions
from services.common.errors import FailedPrecondition
from services.common.exploration import base_values
from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.definitions.arms import ShownArm
from services.ranker.definitions.in_force import FixedDefinitions
from services.ranker.explain.capture import Capture, CapturedSlate, slate_of
from services.ranker.explain.rows import repeated
from services.ranker.explain.trace import Trace
from services.ranker.explain.tracing import Tracing
from services.ranker.feature_rows import FeatureRows, View
from services.ranker.governor import candidates_at
from services.ranker.last_known import LastKnownRows
from services.ranker.pipeline import Pipeline
from services.ranker.plan import BundleSpec
from services.ranker.ports import Model
from services.ranker.sources.asking import Answers
from services.ranker.sources.base import Asked, BoundSource
from services.ranker.sources.breaker import Breaker
from services.ranker.state import ServingState, Tables, prepare
from services.ranker.stopwatch import Stopwatch
from services.ranker.types import Call, Degradation, Drawn, Part, RankResult, Reason
from services.ranker.unobserved import Unobserved
from services.ranker.work import Started, Work

TOLERANCE: Final = 1e-6
"""How far a score may be from the captured one: absolutely, of more than 1 relatively. A
log-propensity may be as far as values so far apart can make it."""


@dataclass(frozen=True)
class Difference:
    """What a replay has otherwise than the capture, as text. ``position`` is -1 of the whole."""

    position: int
    what: str
    captured: str
    replayed: str


def replay(capture: Capture, model: Model, spec: BundleSpec) -> RankResult:
    """The answer to a captured request under the bundle that ranked it.

    Raises ``FailedPrecondition`` where bundle or surface are not those of the capture.
    """
    return replayed(capture, model, spec).result


def replayed(capture: Capture, model: Model, spec: BundleSpec) -> Trace:
    """The same, traced: ready to be explained. Raises the same."""
    state = _state(capture, model, spec)
    traces: list[Trace] = []
    answering = _Answers(capture)
    pipeline = Pipeline(
        lambda: state,
        answering,
        FixedDefinitions(Definitions({}, "")),
        answering,
        answering,
        governor=answering,
        last_known=LastKnownRows(capacity=0, max_age_s=1, monotonic_s=lambda: 0.0),
        sources=answering,
        feature_timeout_s=0,
        new_rank_id=lambda: capture.rank_id,
        log_error=lambda _, __: None,
        tracing=Tracing(1.0, capture.versions.origin, traces.append),
        clock_ms=lambda: capture.now_ms,
        factors=_Factors(capture),
    )
    # As many as were ranked together: graphs that run on one row may round otherwise.
    keys = list(capture.rows.ids) * capture.batch_size
    works = [_work(capture, state, row) for row in range(capture.batch_size)]
    pending = _Rows(repeated(capture.rows, keys))
    started = Started(state, works, keys, pending, Stopwatch())
    pipeline.finish(started, [0])
    return traces[0]


def differences(before: CapturedSlate, result: RankResult) -> list[Difference]:
    """In what an answer differs from the captured slate; nothing where it is the same."""
    after = slate_of(result)
    found = []
    for what, one, other in (
        ("policy", before.policy, after.policy),
        ("objectives", ", ".join(before.objectives), ", ".join(after.objectives)),
        ("items", str(len(before.ids)), str(len(after.ids))),
    ):
        if one != other:
            found.append(Difference(-1, what, one, other))
    if found:
        return found
    drawn = result.slate.drawn
    steepness = 1.0 if drawn is None else _steepness(drawn)
    for at in range(len(before.ids)):
        found += _differences_at(at, before, after, steepness)
    return found


def _steepness(drawn: Drawn) -> float:
    """By how much log-propensities may differ for each 1 that values may, at least 1.

    Values v are drawn by softmax(v / (temperature x spread)). Where none is off by more than d, no
    log-probability is by more than 2 d / (temperature x spread); d is relative where |v| > 1.
    """
    base = base_values(drawn.terms, drawn.weights, drawn.adjustments)
    largest = max(1.0, float(np.abs(base).max(initial=0.0)))
    return max(1.0, 2.0 * largest / (drawn.temperature * drawn.spread))


def _differences_at(
    at: int, before: CapturedSlate, after: CapturedSlate, steepness: float
) -> list[Difference]:
    pairs: list[tuple[str, object, object]] = [
        (what, one[at] if one else "", other[at] if other else "")
        for what, one, other in (
            ("item", before.ids, after.ids),
            ("source", before.sources, after.sources),
            ("placement", before.placements, after.placements),
            ("team", before.teams, after.teams),
        )
    ]
    found = [Difference(at, what, str(a), str(b)) for what, a, b in pairs if a != b]
    scores = [("value", float(before.values[at]), float(after.values[at]), 1.0)]
    scores += [
        (name, float(before.predictions[at, column]), float(after.predictions[at, column]), 1.0)
        for column, name in enumerate(before.objectives)
    ]
    if len(before.log_propensities) == len(after.log_propensities) > at:
        drawn = float(before.log_propensities[at]), float(after.log_propensities[at])
        scores.append(("log-propensity", *drawn, steepness))
    elif len(before.log_propensities) != len(after.log_propensities) and not at:
        found.append(Difference(at, "drawn", *(_drawn(s) for s in (before, after))))
    return found + [
        Difference(at, what, f"{a:.9g}", f"{b:.9g}")
        for what, a, b, times in scores
        if not abs(a - b) <= TOLERANCE * max(times, abs(a))
    ]


def _drawn(slate: CapturedSlate) -> str:
    return "yes" if len(slate.log_propensities) else "no"


def _state(capture: Capture, model: Model, spec: BundleSpec) -> ServingState:
    """A state over the captured rows alone, with what was made of the whole catalogue."""
    name, table = capture.command.surface, capture.table
    surface = spec.surfaces.get(name)
    if spec.version != capture.versions.bundle:
        raise FailedPrecondition(
            f"{capture.rank_id} was ranked by bundle {capture.versions.bundle}, not {spec.version}",
            reason="ANOTHER_BUNDLE",
        )
    if surface is None or surface.entity != table.entity:
        raise FailedPrecondition(
            f"{capture.rank_id}: the domain has no surface {name!r} of {table.entity}",
            reason="ANOTHER_DOMAIN",
        )
    if len(surface.sources) != len(capture.found) and capture.command.call is Call.RANK:
        raise FailedPrecondition(
            f"{capture.rank_id}: surface {name!r} had {len(capture.found)} sources, "
            f"the domain gives it {len(surface.sources)}",
            reason="ANOTHER_DOMAIN",
        )
    by_entity = {table.entity: table}
    number = capture.versions.catalogue
    tables = Tables(object(), 1, number, by_entity, stale=lambda: None, age_ms=lambda: 0)
    failing = _failing(capture)
    state = prepare(
        cast(Model, _Failing(model, failing)) if failing else model,
        replace(spec, surfaces={name: surface}),
        tables,
        None,
        exact_rows=len(table),
        now_ms=capture.now_ms,
    )
    plan = state.plans[name]
    parts = model.item_parts(capture.vectors, plan.items.features)
    items = replace(plan.items, vectors=capture.vectors, parts=np.nan_to_num(parts))
    selection = replace(
        plan.selection, adjustments=capture.adjustments, shortfall=capture.shortfall
    )
    first_pass = plan.first_pass
    if first_pass is not None and capture.item_logits is not None:
        first_pass = replace(first_pass, item_logits=capture.item_logits)
    plan = replace(plan, items=items, selection=selection, first_pass=first_pass)
    return replace(state, items={table.entity: items}, plans={name: plan})


def _work(capture: Capture, state: ServingState, row: int) -> Work:
    command = capture.command
    wanted = command.filter if command.call is Call.RANK else None
    work = Work(
        command,
        state.plan_of(command.surface, wanted),
        capture.assignments,
        capture.weights,
        capture.rank_id,
        capture.seed,
        capture.teams,
        row=row,
    )
    work.degraded |= dict.fromkeys(filter(_is_given, capture.degraded))
    return work


_READ_BEFORE = (Part.USER_FEATURES, Part.CATALOGUE, Part.EXPERIMENTS)


def _is_given(degradation: Degradation) -> bool:
    """Whether it happened before what is run anew."""
    if degradation.part is Part.SCORING:
        return degradation.reason is Reason.REPLACED
    is_earlier = degradation.part in _READ_BEFORE
    return is_earlier and degradation.reason is not Reason.NON_FINITE


def _failing(capture: Capture) -> frozenset[str]:
    """What of the model failed."""
    failed = {
        Degradation(Part.RETRIEVAL, Reason.FAILED): "encode_users",
        Degradation(Part.SCORING, Reason.FAILED): "score",
    }
    return frozenset(failed[d] for d in capture.degraded if d in failed)


class _Factors:
    """Implements ``ItemFactors`` with what was captured."""

    def __init__(self, capture: Capture) -> None:
        self._captured = capture.factors

    def of(
        self,
        definitions: Definitions,  # noqa: ARG002 - the capture has what followed from them
        table: EntityTable,  # noqa: ARG002
        slots: Int64Array,
        assignments: Sequence[Assignment],  # noqa: ARG002
        now_ms: int,  # noqa: ARG002
    ) -> Float32Array | None:
        """Factors of the items at ``slots``."""
        return None if self._captured is None else self._captured[slots]

    def shown(self, *_: object) -> Sequence[ShownArm]:
        """None: a replay exposes nobody."""
        return ()


class _Failing:
    """A model of which some calls fail, as they did."""

    def __init__(self, model: Model, failing: frozenset[str]) -> None:
        self._model = model
        self._failing = failing

    def __getattr__(self, name: str) -> Any:
        if name in self._failing:
            return self._fail
        return getattr(self._model, name)

    def _fail(self, *_: object, **__: object) -> None:
        raise RuntimeError("failed when it was captured")


class _Rows:
    """Rows that are there."""

    def __init__(self, rows: FeatureRows) -> None:
        self._rows = rows

    def ready(self, longest_s: float) -> bool:
        del longest_s
        return True

    def result(self) -> FeatureRows:
        return self._rows


class _Answers(Unobserved):
    """Stands for everything around the pipeline: answers as it did then, and writes nothing."""

    def __init__(self, capture: Capture) -> None:
        self._capture = capture

    @property
    def level(self) -> float:
        return self._capture.level

    def candidates(self, configured: int, wanted: int) -> int:
        return candidates_at(self._capture.level, configured, wanted)

    def ask(
        self,
        surface: str,
        sources: Sequence[tuple[str, BoundSource]],
        asked: Asked,
        breaker: Breaker,
    ) -> Answers:
        del surface, breaker
        names = {name for name, _ in sources}
        left_out = [
            d for d in self._capture.degraded if d.part is Part.RETRIEVAL and d.name in names
        ]
        return Answers([[slots] * len(asked) for slots in self._capture.found], left_out)

    def start(
        self, view: View, ids: Sequence[str], timeout_s: float, sticky_ids: Sequence[str] = ()
    ) -> _Rows:
        del view, timeout_s, sticky_ids
        return _Rows(repeated(self._capture.rows, list(ids)))

    def record(self, results: Sequence[RankResult]) -> None:
        del results
