"""One request from end to end. ``Pipeline.finish`` is the page to read.

B requests of a micro-batch go through together: one call for their users' rows, one run of the
user tower, one search an entity type, chunked runs of the ranker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from services.common.actor import actor_key
from services.common.assign.assign import Definitions
from services.common.clock import system_clock_ms
from services.common.ids import seed_of
from services.ranker.arrays import BoolArray, Float32Array
from services.ranker.calls.arrange import arrange, of_another_bundle
from services.ranker.calls.candidates import call_candidates, unshown
from services.ranker.definitions.arms import EntityArms, ItemFactors
from services.ranker.definitions.assigning import sticky_ids
from services.ranker.definitions.deciding import decide, decide_as_kept
from services.ranker.definitions.in_force import DefinitionsInForce
from services.ranker.explain.trace import Moment
from services.ranker.explain.tracing import NO_TRACING, Tracing
from services.ranker.feature_rows import FeatureRows
from services.ranker.filters.apply import apply_filters, left_to_ask
from services.ranker.filters.asking import Asking
from services.ranker.filters.expression import REASON, CallerFilter
from services.ranker.filters.rules import BoundFilter
from services.ranker.governor import Governance
from services.ranker.last_known import LastKnownRows
from services.ranker.plan import SurfacePlan, SurfaceSpec
from services.ranker.ports import Observer, SlateLog, UserFeatures
from services.ranker.results import result_of
from services.ranker.scoring.chunks import chunks
from services.ranker.scoring.cut import REASON as CUT
from services.ranker.scoring.cut import cut
from services.ranker.scoring.inputs import score_inputs
from services.ranker.scoring.value import Scored, unscored, values_of
from services.ranker.selection.stage import select_slates
from services.ranker.sources.asking import Sources
from services.ranker.sources.base import Asked
from services.ranker.sources.fallback import fallback_slots
from services.ranker.sources.merge import merge
from services.ranker.state import ServingState
from services.ranker.stopwatch import Stopwatch
from services.ranker.types import Call, Part, RankCommand, RankResult, Reason, Traffic
from services.ranker.users import (
    Nobody,
    UserInputs,
    await_rows,
    time_left_s,
    user_inputs,
)
from services.ranker.work import NO_WEIGHTS, Started, Work, degrade


class Pipeline:
    """Ranks micro-batches. Used by one thread. ``clock_ms`` tells the moment that filters and
    selection go by, in epoch milliseconds."""

    def __init__(
        self,
        state: Callable[[], ServingState],
        users: UserFeatures,
        definitions: DefinitionsInForce,
        slates: SlateLog,
        observer: Observer,
        *,
        last_known: LastKnownRows,
        sources: Sources,
        governor: Governance,
        feature_timeout_s: float,
        new_rank_id: Callable[[], str],
        log_error: Callable[[str, Exception], None],
        tracing: Tracing = NO_TRACING,
        clock_ms: Callable[[], int] = system_clock_ms,
        factors: ItemFactors | None = None,
    ) -> None:
        self._state = state
        self._users = users
        self._definitions = definitions
        self._slates = slates
        self._observer = observer
        self._last_known = last_known
        self._sources = sources
        self._governor = governor
        self._feature_timeout_s = feature_timeout_s
        self._new_rank_id = new_rank_id
        self._log_error = log_error
        self._tracing = tracing
        self._clock_ms = clock_ms
        self._factors: ItemFactors = EntityArms() if factors is None else factors

    def begin(self, commands: Sequence[RankCommand]) -> Started:
        """Assigns variants and asks for the users' rows."""
        return self.begin_with(commands, self._state(), self._users)

    def ready(self, started: Started, longest_s: float) -> bool:
        """Whether ``finish`` has what it needs, for which this waits so many seconds at most."""
        return started.pending.ready(longest_s)

    def finish(self, started: Started, kept: Sequence[int]) -> list[RankResult]:
        """Answers the requests at the indices ``kept``, in that order."""
        state, clock = started.state, started.clock
        works = [started.works[index] for index in kept]
        rows = self._user_rows(started, works)
        decide_as_kept(state, works, rows, self._clock_ms())
        clock.lap("features")
        inputs = user_inputs(state.model, state.spec, rows)
        vectors = self._user_vectors(state, works, inputs)
        now_ms = self._clock_ms()
        ranked = [work for work in works if work.command.call is Call.RANK]
        self._retrieve(state, ranked, rows, vectors, now_ms)
        for work in works:
            call_candidates(state, work, self._log_error)
        clock.lap("retrieve")
        for plan, same in _by_plan(works):
            found = np.concatenate([work.slots for work in same])
            filters = left_to_ask(plan.spec.filters, plan.filters, found, now_ms)
            for work in same:
                self._filter(work, filters, rows, now_ms)
        clock.lap("filter")
        for work in works:
            self._cut(work, vectors[work.row], now_ms)
        clock.lap("first_pass")
        scored = [work for work in works if work.command.call is not Call.SIMILAR]
        self._score(state, scored, rows, inputs, vectors)
        clock.lap("score")
        self._select(state, works, [self._valued(w, vectors[w.row], now_ms) for w in works], now_ms)
        clock.lap("select")
        results = [
            result_of(state, work, rows, clock.stages, self._factors, now_ms) for work in works
        ]
        self._slates.record([result for result in results if not result.command.dry_run])
        clock.lap("log")
        self._observe(results, clock)
        moment = Moment(state, rows, inputs, vectors, now_ms, self._governor.level)
        return self._tracing.traced(moment, works, results)

    def warm(self, state: ServingState) -> list[RankResult]:
        """Ranks every surface of a state for a visitor nobody knows, writing nothing."""
        commands = [
            RankCommand(name, user_id="", device_id="warm-up", dry_run=True, traffic=Traffic.TEST)
            for name in state.plans
        ]
        results: list[RankResult] = []
        for batch in (commands[:1], commands):
            started = self.begin_with(batch, state, Nobody())
            results += self.finish(started, range(len(batch)))
        return results

    def begin_with(
        self, commands: Sequence[RankCommand], state: ServingState, users: UserFeatures
    ) -> Started:
        """The same with a bundle and rows of the caller's choice."""
        clock = Stopwatch()
        definitions = self._definitions.current()
        works = [self._work(state, command, definitions) for command in commands]
        stale = self._definitions.stale()
        if stale is not None:
            degrade(works, Part.EXPERIMENTS, stale, age_ms=self._definitions.age_ms())
        for row, work in enumerate(works):
            work.row = row
        clock.lap("assign")
        keys = [actor_key(command.user_id, command.device_id) for command in commands]
        timeout_s = time_left_s(commands, self._feature_timeout_s, time.monotonic())
        sticky: list[str] = []
        if definitions.has_sticky:
            sticky = [key for command in commands for key in sticky_ids(command)]
        pending = users.start(state.spec.views["user"], keys, timeout_s, sticky)
        return Started(state, works, keys, pending, clock)

    def _work(self, state: ServingState, command: RankCommand, definitions: Definitions) -> Work:
        retrieves = command.call in (Call.RANK, Call.SIMILAR)
        plan = state.plan_of(command.surface, command.filter if retrieves else None)
        rank_id = command.rank_id or self._new_rank_id()
        seed = seed_of(rank_id) if command.seed is None else command.seed
        work = Work(command, plan, (), NO_WEIGHTS, rank_id, seed, definitions=definitions)
        decide(state, work, self._clock_ms())
        stale = state.tables.stale()
        if stale is not None:
            degrade([work], Part.CATALOGUE, stale, age_ms=state.tables.age_ms())
        if of_another_bundle(command, state.spec.version):
            degrade([work], Part.SCORING, Reason.REPLACED)
        return work

    def _user_rows(self, started: Started, works: Sequence[Work]) -> FeatureRows:
        rows, failure = await_rows(started.pending, started.user_keys)
        view = started.state.spec.views["user"]
        if failure is None:
            self._last_known.remember(view, rows)
            return rows
        recalled, ages_ms = self._last_known.recall(view, started.user_keys)
        for work in works:
            age_ms = int(ages_ms[work.row])
            if age_ms < 0:
                degrade([work], Part.USER_FEATURES, failure)
            else:
                degrade([work], Part.USER_FEATURES, Reason.STALE, age_ms=age_ms)
        return recalled if (ages_ms >= 0).any() else rows

    def _user_vectors(
        self, state: ServingState, works: Sequence[Work], inputs: UserInputs
    ) -> Float32Array:
        """User vectors [rows of the batch, D]; a user whose vector is not usable has zeros."""
        surfaces = np.zeros(len(inputs.items), np.int64)
        for work in works:
            surfaces[work.row] = work.plan.surface_index
            if inputs.repaired[work.row]:
                self._observer.non_finite(Part.USER_FEATURES, 1)
                degrade([work], Part.USER_FEATURES, Reason.NON_FINITE)
        try:
            vectors = state.model.encode_users(
                inputs.items, inputs.actions, inputs.features, surfaces
            )
        except Exception as error:
            self._log_error("the user tower failed", error)
            degrade(works, Part.RETRIEVAL, Reason.FAILED)
            return np.zeros((len(inputs.items), state.spec.dim), np.float32)
        finite: BoolArray = np.logical_and.reduce(np.isfinite(vectors), axis=1)
        if not finite.all():
            broken = [work for work in works if not finite[work.row]]
            self._observer.non_finite(Part.RETRIEVAL, len(broken))
            degrade(broken, Part.RETRIEVAL, Reason.NON_FINITE)
            vectors = np.where(finite[:, None], vectors, np.float32(0))
        return vectors

    def _retrieve(
        self,
        state: ServingState,
        works: Sequence[Work],
        rows: FeatureRows,
        vectors: Float32Array,
        now_ms: int,
    ) -> None:
        for plan, same in _by_plan(works):
            surface, places = plan.spec, [work.row for work in same]
            asked = Asked(
                model=state.model,
                vectors=vectors[places],
                rows=rows,
                places=places,
                candidate_ids=[work.command.candidate_ids for work in same],
                count_unknown=partial(self._observer.unknown_candidates, surface.name),
                items=len(plan.table),
                seeds=[work.turn_seed for work in same],
                now_ms=now_ms,
            )
            answers = self._sources.ask(surface.name, plan.sources, asked, state.breaker)
            for left_out in answers.left_out:
                degrade(same, left_out.part, left_out.reason, left_out.name)
            quotas = [source.quota for source in surface.sources]
            for found, work in zip(zip(*answers.slots, strict=True), same, strict=True):
                limit = self._governor.candidates(
                    surface.candidates, _wanted(work.command, surface)
                )
                if limit < surface.candidates:
                    degrade([work], Part.RETRIEVAL, Reason.OVERLOADED)
                work.found = found
                work.slots, work.origin = merge(
                    found, quotas, len(plan.table), limit, state.scratch
                )

    def _filter(
        self,
        work: Work,
        filters: Sequence[tuple[str, BoundFilter]],
        rows: FeatureRows,
        now_ms: int,
    ) -> None:
        """``filters``: those of the plan that may remove something of what was found."""
        plan, command = work.plan, work.command
        own: list[tuple[str, BoundFilter]] = []
        if command.filter is not None:
            own.append((REASON, CallerFilter(command.filter, plan.table)))
        work.retrieved = work.slots
        asking = Asking(now_ms, command.circumstances, rows, work.row)
        filtered = apply_filters([*filters, *own], work.slots, asking)
        if filtered.removed:
            work.slots, work.origin = work.slots[filtered.kept], work.origin[filtered.kept]
            for reason, gone in filtered.removed.items():
                self._observer.removed(plan.spec.name, reason, len(gone))
                if work.command.call is not Call.RANK:
                    work.removed += [(plan.table.ids[slot], reason) for slot in gone.tolist()]
        if not len(work.slots) and command.call is Call.RANK:
            # One more than is shown tells of a next page.
            work.slots = fallback_slots(
                plan.ground,
                plan.spec.sources,
                (command.k or plan.spec.default_k) + 1,
                lambda slots: (
                    apply_filters([*plan.filters, *own], slots, asking).kept
                    & unshown(command, plan.table, slots)
                ),
            )
            work.origin = np.full(len(work.slots), len(plan.spec.sources), np.uint8)
        if plan.any_repaired and plan.table.repaired[work.slots].any():
            degrade([work], Part.CATALOGUE, Reason.NON_FINITE)

    def _cut(self, work: Work, vector: Float32Array, now_ms: int) -> None:
        sunk = cut(work, vector, self._governor, now_ms, self._factors)
        if sunk:
            self._observer.non_finite(Part.SCORING, sunk)
            degrade([work], Part.SCORING, Reason.NON_FINITE)
        if work.cut is not None:
            self._observer.removed(work.plan.spec.name, CUT, work.cut.left_out)

    def _score(
        self,
        state: ServingState,
        works: Sequence[Work],
        rows: FeatureRows,
        inputs: UserInputs,
        vectors: Float32Array,
    ) -> None:
        for group in chunks(works):
            try:
                scored = score_inputs(state, group, rows, inputs, vectors).score(state.model)
            except Exception as error:
                self._log_error("the ranker failed", error)
                degrade(group, Part.SCORING, Reason.FAILED)
                continue
            for work, predictions in zip(group, scored, strict=True):
                work.predictions = predictions

    def _valued(self, work: Work, vector: Float32Array, now_ms: int) -> Scored:
        if work.predictions is None:
            # Without a score, nearness to the user's vector is the best order there is.
            return unscored(work.plan.items.vectors[work.slots] @ vector)
        plan = work.plan
        work.factors = self._factors.of(
            work.definitions, plan.table, work.slots, work.assignments, now_ms
        )
        scored = values_of(work.predictions, work.weights, plan.margins, work.slots, work.factors)
        if scored.sunk.any():
            self._observer.non_finite(Part.SCORING, int(scored.sunk.sum()))
            degrade([work], Part.SCORING, Reason.NON_FINITE)
        return scored

    def _select(
        self, state: ServingState, works: Sequence[Work], valued: Sequence[Scored], now_ms: int
    ) -> None:
        selecting: list[Work] = []
        scored: list[Scored] = []
        for work, of_work in zip(works, valued, strict=True):
            if work.command.call in (Call.RANK, Call.REFRESH):
                selecting.append(work)
                scored.append(of_work)
            else:
                arrange(state, work, of_work.values, of_work.predictions)
        selected = select_slates(state, selecting, scored, now_ms)
        for work, slate in zip(selecting, selected, strict=True):
            if slate.left_out:
                self._observer.removed(work.plan.spec.name, "load_cap", slate.left_out)

    def _observe(self, results: Sequence[RankResult], clock: Stopwatch) -> None:
        self._observer.batch(len(results))
        for stage, duration_us in clock.stages:
            self._observer.stage(stage, duration_us)
        for result in results:
            for degradation in result.degraded:
                self._observer.degraded(degradation)


def _wanted(command: RankCommand, surface: SurfaceSpec) -> int:
    """How many candidates a request can't do without: its items, what the pages before it showed,
    which is found again and taken out only then, and one that tells of a next page."""
    shown = 0 if command.following is None else len(command.following.items)
    return shown + (command.k or surface.default_k) + 1


def _by_plan(works: Sequence[Work]) -> list[tuple[SurfacePlan, list[Work]]]:
    """Requests by the plan they go by, plans in the order of the first of each."""
    found: dict[int, tuple[SurfacePlan, list[Work]]] = {}
    for work in works:
        found.setdefault(id(work.plan), (work.plan, []))[1].append(work)
    return list(found.values())
