"""Warms a bundle with requests as they came, and refuses one that fails at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.common.errors import BundleError
from services.ranker.bundles.faults import is_faulty, model_sources
from services.ranker.bundles.recent import KnownRows, Recorded
from services.ranker.pipeline import Pipeline
from services.ranker.state import ServingState
from services.ranker.types import RankResult


class Warming:
    """Ranks recorded requests, and made-up ones of every surface, writing nothing.

    ``share``: of how many answers a bundle may degrade at most. ``give_way`` is called before each
    recorded request: it may wait while others are answered.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        recorded: Callable[[], Sequence[Recorded]],
        *,
        share: float,
        give_way: Callable[[], object] = lambda: None,
    ) -> None:
        self._pipeline = pipeline
        self._recorded = recorded
        self._share = share
        self._give_way = give_way

    def __call__(self, state: ServingState) -> None:
        """Warms a state. Raises ``BundleError`` where too many answers are faulty."""
        results = self._pipeline.warm(state)
        for recorded in self._recorded():
            if recorded.command.surface in state.plans:
                self._give_way()
                results.append(self._ranked(state, recorded))
        sources = model_sources(state.spec)
        faulty = sum(is_faulty(result.degraded, sources) for result in results)
        if faulty > self._share * len(results):
            raise BundleError(
                f"bundle {state.spec.version} fails at {faulty} of {len(results)} requests that "
                "it was warmed with",
                reason="FAILS_WARM_UP",
            )

    def _ranked(self, state: ServingState, recorded: Recorded) -> RankResult:
        started = self._pipeline.begin_with([recorded.command], state, KnownRows(recorded))
        (result,) = self._pipeline.finish(started, [0])
        return result
