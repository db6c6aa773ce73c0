"""Warms a bundle with requests as they came, and refuses one that fails at them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from services.common.errors import BundleError
from services.ranker.bundles.faults import is_faulty, model_sources
from services.ranker.bundles.recent import KnownRows, Recorded
from services.ranker.pipeline import Pipeline
from services.ranker.state import ServingState
from services.ranker.types import RankResult

_TOGETHER = 4


class Warming:
    """Ranks recorded requests, and made-up ones of every surface, writing nothing.

    ``share``: of how many answers a bundle may degrade at most. ``give_way`` is called before each
    micro-batch of recorded requests: it may wait while others are answered.
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
        recorded = [one for one in self._recorded() if one.command.surface in state.plans]
        by_view = {one.view_hash for one in recorded}
        for view_hash in sorted(by_view):
            same = [one for one in recorded if one.view_hash == view_hash]
            for start in range(0, len(same), _TOGETHER):
                self._give_way()
                results += self._ranked(state, same[start : start + _TOGETHER])
        sources = model_sources(state.spec)
        faulty = sum(is_faulty(result.degraded, sources) for result in results)
        if faulty > self._share * len(results):
            raise BundleError(
                f"bundle {state.spec.version} fails at {faulty} of {len(results)} requests that "
                "it was warmed with",
                reason="FAILS_WARM_UP",
            )

    def _ranked(self, state: ServingState, recorded: Sequence[Recorded]) -> list[RankResult]:
        commands = [one.command for one in recorded]
        started = self._pipeline.begin_with(commands, state, KnownRows(recorded))
        return self._pipeline.finish(started, range(len(commands)))
