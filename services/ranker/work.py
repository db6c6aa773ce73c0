"""What a micro-batch and its requests carry from stage to stage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from services.common.assign.assign import Assignment, Definitions
from services.ranker.arrays import ByteArray, Float32Array, Int64Array
from services.ranker.plan import SurfacePlan
from services.ranker.ports import PendingRows
from services.ranker.scoring.first_pass import Cut
from services.ranker.selection.top_k import POLICY
from services.ranker.state import ServingState
from services.ranker.stopwatch import Stopwatch
from services.ranker.types import (
    Degradation,
    Part,
    RankCommand,
    Reason,
    Removed,
    Slate,
    StickyChange,
)

NO_WEIGHTS: Final[Float32Array] = np.zeros(0, np.float32)


@dataclass
class Work:
    """One request on its way through the stages. ``teams``: the weights of the two rankings to
    interleave, by the variant that is credited; empty where none are. ``found``: the slots that
    each source yielded; ``retrieved``: the candidates before they were filtered;
    ``cut``: what the first pass kept, None where all went on to the ranker;
    ``placed`` int64 [P]: slots of the slate's items; ``spreads``: as selection tells; ``shown``:
    slots of what earlier pages showed, where caps or diversity count it, the last at the end;
    ``definitions``: those that assigned; ``factors`` float32 [N]: what variants of hosts and rooms
    multiply values by; ``sticky``: what units keep from now on."""

    command: RankCommand
    plan: SurfacePlan
    assignments: Sequence[Assignment]
    weights: Float32Array
    rank_id: str
    seed: int
    teams: Mapping[str, Float32Array] = field(default_factory=dict)
    degraded: dict[Degradation, None] = field(default_factory=dict)
    row: int = 0
    found: Sequence[Int64Array] = ()
    retrieved: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    slots: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    origin: ByteArray = field(default_factory=lambda: np.zeros(0, np.uint8))
    cut: Cut | None = None
    predictions: Float32Array | None = None
    slate: Slate | None = None
    placed: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    policy: str = POLICY
    spreads: Sequence[float] = ()
    shown: Int64Array = field(default_factory=lambda: np.zeros(0, np.int64))
    removed: list[Removed] = field(default_factory=list)
    definitions: Definitions = field(default_factory=lambda: Definitions({}, ""))
    factors: Float32Array | None = None
    sticky: Sequence[StickyChange] = ()

    @property
    def turn_seed(self) -> int:
        """What the turns of new items are drawn by: the seed of the first page, so that what one
        page leaves is not lost to the next."""
        following = self.command.following
        known = None if following is None else following.session_seed
        return self.seed if known is None else known

    def factors_at(self, slots: Int64Array) -> Float32Array | None:
        """``factors`` of those of the candidates that are at ``slots``."""
        if self.factors is None:
            return None
        order = np.argsort(self.slots)
        return self.factors[order[np.searchsorted(self.slots, slots, sorter=order)]]


@dataclass
class Started:
    """A micro-batch whose users' rows are under way."""

    state: ServingState
    works: list[Work]
    user_keys: list[str]
    pending: PendingRows
    clock: Stopwatch


def degrade(
    works: Sequence[Work], part: Part, reason: Reason, name: str = "", *, age_ms: int = 0
) -> None:
    """Marks requests as answered without a part; ``name``: of a source, ``age_ms``: of what is
    STALE."""
    for work in works:
        work.degraded[Degradation(part, reason, name, age_ms)] = None
