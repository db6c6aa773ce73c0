"""What the pipeline leaves of a request that is captured or explained."""

from __future__ import annotations

from dataclasses import dataclass

from services.ranker.arrays import Float32Array
from services.ranker.feature_rows import FeatureRows
from services.ranker.state import ServingState
from services.ranker.types import RankResult
from services.ranker.users import UserInputs
from services.ranker.work import Work


@dataclass(frozen=True)
class Moment:
    """What a micro-batch of B requests read. ``vectors`` float32 [B, D] are the users', ``now_ms``
    is the time in epoch milliseconds that filters and selection went by, ``level`` the governor's.
    """

    state: ServingState
    rows: FeatureRows
    inputs: UserInputs
    vectors: Float32Array
    now_ms: int
    level: float


@dataclass(frozen=True)
class Trace:
    """One request of it, answered. ``captured``: whether a capture of it is written."""

    moment: Moment
    work: Work
    result: RankResult
    captured: bool
