"""Requests over a small world, traced as they are ranked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from services.common.assign.assign import Assignment, Definitions, Experiment, Variant
from services.common.domain_selection import (
    Diversity,
    ExplorationPolicy,
    ImpressionFloor,
    LoadCap,
    Margin,
    NewItems,
    Pin,
    Selection,
)
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.ranker.arrays import Float32Array, Int64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.definitions.arms import ItemFactors
from services.ranker.definitions.in_force import FixedDefinitions
from services.ranker.explain.capture import Capture, capture_of
from services.ranker.explain.trace import Trace
from services.ranker.explain.tracing import Tracing
from services.ranker.explain.versions import Origin
from services.ranker.filters.rules import NotInList, OpenWindow, Positive, Require
from services.ranker.governor import Governor
from services.ranker.last_known import LastKnownRows
from services.ranker.pipeline import Pipeline
from services.ranker.plan import BundleSpec, SurfaceSpec
from services.ranker.sources.asking import SourceAsking
from services.ranker.sources.breaker import SourceLimits
from services.ranker.sources.caller import Caller
from services.ranker.sources.personal import Personal
from services.ranker.sources.shared import Pinned, Trending
from services.ranker.state import ServingState, prepare
from services.ranker.types import RankCommand, RankResult
from tests.unit.services.ranker.fakes import (
    UNLEARNED,
    FakeModel,
    FakeUsers,
    Recorder,
    spec_of,
    tables_of,
)

NOW_MS = 1_000
NAMES = Pseudonymiser.from_text(DEVELOPMENT_KEYS)
ORIGIN = Origin("domain", "experiments")
SOURCES = (
    Personal("personal", 5),
    Trending("trending", 3, "clicks"),
    Pinned("editorial", 2, ["i1", "i2"]),
    Caller("caller", 4),
)
FILTERS = (
    Require("live"),
    Positive("seats"),
    OpenWindow("opens", "closes"),
    NotInList("bought"),
    NotInList("blocked", "host"),
)
EVERYTHING = SurfaceSpec(
    name="everything",
    entity="item",
    default_k=5,
    candidates=9,
    sources=SOURCES,
    filters=FILTERS,
    caps={"host": 2},
    selling_attribute="sells",
    weights={"refund": -1.0},
    selection=Selection(
        diversity=Diversity.model_validate({"relevance": 0.7}),
        exploration=ExplorationPolicy(share=0.5, temperature=0.7, candidates=6),
        load_cap=LoadCap(load="clicks", capacity="seats", at=1.0, discount=0.3),
        impression_floor=ImpressionFloor(
            group="host", impressions="clicks", floor=0.5, boost=0.2, position=3
        ),
        pins=[Pin(position=0, source="editorial"), Pin(position=4, id="i5")],
        new_items=NewItems(position=2, impressions="clicks", until=3),
    ),
    margin=Margin(price="level", share=0.3),
)
FULL_ROOMS = replace(
    EVERYTHING,
    name="full_rooms",
    selection=Selection(load_cap=LoadCap(load="clicks", capacity="seats", at=1.0)),
)
VARIED = replace(
    FULL_ROOMS,
    name="varied",
    sources=SOURCES[:2],
    selection=Selection(
        diversity=Diversity.model_validate({"kind": "dpp", "relevance": 0.6}),
        exploration=ExplorationPolicy(share=0.5, temperature=0.7),
    ),
)
PLAIN = SurfaceSpec("plain", "item", 3, 10, (Personal("personal", 10),), (), {}, None, {})
CUT = replace(EVERYTHING, name="cut", candidates=12, default_k=2, scored=4)
CUT_UNLEARNED = replace(CUT, name=UNLEARNED, selection=VARIED.selection)
SURFACES = (EVERYTHING, FULL_ROOMS, VARIED, PLAIN, CUT, CUT_UNLEARNED)
VARIANTS = (
    Variant("a", 0.3),
    Variant("b", 0.3, {"buy": -1.0}),
    Variant("both", 0.4, interleave=("a", "b")),
)
DEFINITIONS = Definitions({"e": Experiment("e", "user", "s", VARIANTS)}, "experiments")


class NanModel(FakeModel):
    """A model that has no number for items of a high score."""

    def __init__(self) -> None:
        super().__init__()
        self.nan_logits = True

    def score(self, *, item_features: Float32Array, **inputs: Any) -> Float32Array:
        scores = super().score(item_features=item_features, **inputs)
        return np.where(item_features[:, :1] > 1.5, np.float32(np.nan), scores)


class SomeFactors:
    """Factors by slot, whatever the definitions say."""

    def of(
        self,
        definitions: Definitions,
        table: EntityTable,
        slots: Int64Array,
        assignments: Sequence[Assignment],
        now_ms: int,
    ) -> Float32Array:
        del definitions, table, assignments, now_ms
        return (0.5 + slots % 3).astype(np.float32)


@dataclass
class World:
    """A pipeline whose every answer is traced."""

    rows: Mapping[str, Mapping[str, Any]]
    users: FakeUsers = field(default_factory=lambda: FakeUsers({}))
    model: FakeModel = field(default_factory=NanModel)
    governor: Governor = field(default_factory=lambda: Governor(target_s=1, floor=0.5))
    surfaces: Sequence[SurfaceSpec] = SURFACES
    share: float = 1.0
    factors: ItemFactors | None = None
    traces: list[Trace] = field(default_factory=list)
    last_known: LastKnownRows = field(
        default_factory=lambda: LastKnownRows(capacity=10, max_age_s=60, monotonic_s=lambda: 0.0)
    )

    def __post_init__(self) -> None:
        self.spec: BundleSpec = replace(spec_of(self.model, *self.surfaces), money=("buy",))
        self.state: ServingState = prepare(
            self.model, self.spec, tables_of(self.rows), None, exact_rows=100, now_ms=NOW_MS
        )
        self.recorder = recorder = Recorder()
        self.pipeline = Pipeline(
            lambda: self.state,
            self.users,
            FixedDefinitions(DEFINITIONS),
            recorder,
            recorder,
            governor=self.governor,
            last_known=self.last_known,
            sources=SourceAsking(
                SourceLimits(), ran=recorder.source, log_error=_ignored, clock=lambda: 0.0
            ),
            feature_timeout_s=1.0,
            new_rank_id=map("RANK{}".format, range(10_000)).__next__,
            log_error=_ignored,
            tracing=Tracing(self.share, ORIGIN, self.traces.append),
            clock_ms=lambda: NOW_MS,
            factors=self.factors,
        )

    def rank(self, *commands: RankCommand) -> list[RankResult]:
        """Answers of one micro-batch."""
        return self.pipeline.finish(self.pipeline.begin(commands), range(len(commands)))

    def captures(self) -> list[Capture]:
        """What was offered, captured."""
        return [capture_of(trace, NAMES, ORIGIN) for trace in self.traces]


def _ignored(what: str, error: Exception) -> None:
    del what, error
