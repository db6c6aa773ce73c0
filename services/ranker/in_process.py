"""The pipeline of one surface, run in process over rows that the caller brings.

Everything between rows and slate is what serves. Left out is what only a running service has: time
budgets, shrinking under load, experiments, logs. What fails raises, so that nothing passes for a
worse slate. Pure: offline evaluation ranks with it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from services.common.assign.assign import Definitions
from services.common.bundle.loaded import LoadedBundle
from services.common.domain import Domain
from services.common.ids import seed_of
from services.ranker.arrays import BoolArray, Int64Array
from services.ranker.bundle_spec import USER, bundle_spec
from services.ranker.catalogue.table import DTYPES, EntityTable
from services.ranker.definitions.in_force import FixedDefinitions
from services.ranker.explain.trace import Trace
from services.ranker.explain.tracing import Tracing
from services.ranker.feature_rows import PRESENT, FeatureRows, View
from services.ranker.governor import candidates_at
from services.ranker.last_known import LastKnownRows
from services.ranker.pipeline import Pipeline
from services.ranker.sources.asking import SourceAsking
from services.ranker.sources.breaker import SourceLimits
from services.ranker.sources.merge import merge
from services.ranker.sources.nearby import nearest
from services.ranker.state import ServingState, Tables, prepare
from services.ranker.types import RankCommand, RankResult
from services.ranker.unobserved import Unobserved

ABSENT = 2
"""Status byte of a value that is not there."""


@dataclass(frozen=True)
class Column:
    """One feature of n entities: ``values`` are numbers, texts, lists of texts [n] or vectors
    [n, dim]; ``present`` bool [n] says which were told or computed, the others carry the default.
    """

    values: Sequence[Any] | npt.NDArray[Any]
    present: BoolArray


@dataclass(frozen=True)
class Rows:
    """Entities of one type, with every column of the view by name."""

    ids: Sequence[str]
    columns: Mapping[str, Column]


@dataclass(frozen=True)
class Answer:
    """What each stage left of one request, as ids, the best first where the stage orders.

    ``found``: by source, in the surface's order. ``merged``: the candidates, by the surface's
    quotas; ``merged_at`` those that there were if a smaller number had been wanted. ``nearest``:
    the nearest to the user's vector of all that may be shown. ``scored``: what the ranker got,
    after the filters and the first pass. ``slate``, and the source that each item counts for.
    """

    found: tuple[Sequence[str], ...]
    merged: Sequence[str]
    merged_at: Sequence[str]
    nearest: Sequence[str]
    scored: Sequence[str]
    slate: Sequence[str]
    sources: Sequence[str]


class InProcess:
    """Ranks on one surface of a bundle. ``exact_rows``: up to how many items are searched exactly;
    ``recall_at``: the length of ``Answer.merged_at`` and ``Answer.nearest``.

    Raises ``BundleError`` where the bundle does not fit the domain.
    """

    def __init__(
        self,
        bundle: LoadedBundle,
        domain: Domain,
        surface: str,
        *,
        exact_rows: int,
        recall_at: int,
    ) -> None:
        whole = bundle_spec(bundle, domain)
        self._spec = replace(whole, surfaces={surface: whole.surfaces[surface]})
        self._bundle = bundle
        self._surface = self._spec.surfaces[surface]
        self._exact_rows, self._recall_at = exact_rows, recall_at
        self._now_ms, self._number = 0, 0
        self.sources = tuple(source.name for source in self._surface.sources)
        self.candidates = self._surface.candidates
        self.quotas = tuple(source.quota for source in self._surface.sources)
        self.user_view = self._spec.views[USER]
        self.catalogue_views = self._spec.catalogue_views()
        # Sources and towers read the items of histories, where some surface ranks these.
        histories = self._spec.sequence_entity
        if histories in whole.catalogue_views():
            self.catalogue_views[histories] = self._spec.views[histories]
        self._replica = object()
        self._tables = {
            entity: EntityTable.empty(entity, view) for entity, view in self.catalogue_views.items()
        }
        self._state: ServingState | None = None
        self._given = _Given()
        self._traces: list[Trace] = []
        self._pipeline = Pipeline(
            self._in_force,
            self._given,
            FixedDefinitions(Definitions({}, "")),
            _Nowhere(),
            _Nowhere(),
            last_known=LastKnownRows(capacity=0, max_age_s=0.0, monotonic_s=lambda: 0.0),
            sources=SourceAsking(
                SourceLimits(budget_s=math.inf), ran=lambda _name, _s: None, log_error=_raise
            ),
            governor=_Everything(),
            feature_timeout_s=60.0,
            new_rank_id=lambda: "",
            log_error=_raise,
            tracing=Tracing(share=1.0, offer=self._traces.append),
            clock_ms=lambda: self._now_ms,
        )

    def take(self, catalogue: Mapping[str, Rows], now_ms: int) -> None:
        """Puts exactly these entities, by type, into force as of a time in epoch milliseconds."""
        self._now_ms = now_ms
        self._number += 1
        for entity, rows in catalogue.items():
            table, held = self._tables[entity], set(rows.ids)
            gone = [id_ for id_ in table.ids if table.has(id_) and id_ not in held]
            self._tables[entity] = table.changed(
                [feature_rows(rows, table.view)], gone, self._number
            )
        self._state = prepare(
            self._bundle,
            self._spec,
            Tables(self._replica, 1, self._number, dict(self._tables), lambda: None, lambda: 0),
            self._state,
            exact_rows=self._exact_rows,
            now_ms=now_ms,
        )

    def eligible(self) -> list[str]:
        """Ids of the items that may be shown to somebody now."""
        plan = self._in_force().plans[self._surface.name]
        return _ids(plan.table, np.flatnonzero(plan.ground.eligible))

    def rank(self, users: Rows, rank_ids: Sequence[str], k: int) -> list[Answer]:
        """Slates of ``k`` items for users, whose rows come in the order of ``rank_ids``: a rank_id
        decides whether its slate explores, and what is drawn then."""
        self._given.rows = feature_rows(users, self.user_view)
        self._traces.clear()
        commands = [
            RankCommand(self._surface.name, id_, "", k=k, rank_id=rank_id, seed=seed_of(rank_id))
            for id_, rank_id in zip(users.ids, rank_ids, strict=True)
        ]
        self._pipeline.finish(self._pipeline.begin(commands), range(len(commands)))
        vectors = self._traces[0].moment.vectors if self._traces else np.zeros((0, 0), np.float32)
        plan = self._in_force().plans[self._surface.name]
        close = nearest(self._bundle, plan.nearby, vectors, self._recall_at)
        return [
            self._answer(trace, slots)
            for trace, (slots, _) in zip(self._traces, close, strict=True)
        ]

    def _answer(self, trace: Trace, close: Int64Array) -> Answer:
        work = trace.work
        table, slate = work.plan.table, trace.result.slate
        at, _ = merge(work.found, self.quotas, len(table), self._recall_at)
        return Answer(
            found=tuple(_ids(table, slots) for slots in work.found),
            merged=_ids(table, work.retrieved),
            merged_at=_ids(table, at),
            nearest=_ids(table, close),
            scored=_ids(table, work.slots),
            slate=slate.ids,
            sources=slate.sources,
        )

    def _in_force(self) -> ServingState:
        if self._state is None:
            raise RuntimeError("no catalogue was taken")
        return self._state


class _Given:
    """User rows that are there already."""

    def __init__(self) -> None:
        self.rows: FeatureRows | None = None

    def start(
        self, view: View, ids: Sequence[str], timeout_s: float, sticky_ids: Sequence[str] = ()
    ) -> _Given:
        """See ``ports.UserFeatures``."""
        del view, ids, timeout_s, sticky_ids
        return self

    def ready(self, longest_s: float) -> bool:
        """See ``ports.PendingRows``."""
        del longest_s
        return True

    def result(self) -> FeatureRows:
        """See ``ports.PendingRows``."""
        if self.rows is None:
            raise RuntimeError("no rows were given")
        return self.rows


class _Everything:
    """Shrinks nothing; see ``governor.Governance``."""

    level = 1.0

    def candidates(self, configured: int, wanted: int) -> int:
        """All of them."""
        return candidates_at(self.level, configured, wanted)


class _Nowhere(Unobserved):
    """Keeps no slates and counts nothing."""

    def record(self, results: Sequence[RankResult]) -> None:
        del results


def feature_rows(rows: Rows, view: View) -> FeatureRows:
    """The rows with the view's columns, which follow one another by type."""
    names = {dtype: view.of(dtype) for dtype in DTYPES}
    count = len(rows.ids)
    present = [rows.columns[name].present for dtype in DTYPES for name in names[dtype]]
    statuses = np.full((count, len(present)), PRESENT, np.uint8)
    for at, there in enumerate(present):
        statuses[~there, at] = ABSENT
    lists = [
        [*values]
        for row in zip(*(rows.columns[name].values for name in names["list"]), strict=True)
        for values in row
    ]
    vectors = [np.asarray(rows.columns[name].values, np.float32) for name in view.of("vector")]
    floats = np.zeros((count, len(names["float32"])), np.float32)
    ints = np.zeros((count, len(names["int64"])), np.int64)
    for numbers, dtype in ((floats, "float32"), (ints, "int64")):
        for at, name in enumerate(names[dtype]):
            numbers[:, at] = rows.columns[name].values
    texts = zip(*(rows.columns[name].values for name in names["string"]), strict=True)
    return FeatureRows(
        ids=list(rows.ids),
        float_names=names["float32"],
        floats=floats,
        int_names=names["int64"],
        ints=ints,
        string_names=names["string"],
        strings=[text for row in texts for text in row],
        list_names=names["list"],
        list_offsets=np.cumsum([0, *map(len, lists)]).astype(np.int32),
        list_values=[text for values in lists for text in values],
        statuses=statuses,
        vector_names=view.of("vector"),
        vector_dims=tuple(vector.shape[1] for vector in vectors),
        vectors=np.concatenate([np.zeros((count, 0), np.float32), *vectors], axis=1),
    )


def _ids(table: EntityTable, slots: Int64Array) -> list[str]:
    ids = table.ids
    return [ids[slot] for slot in slots.tolist()]


def _raise(what: str, error: Exception) -> None:
    raise RuntimeError(what) from error
