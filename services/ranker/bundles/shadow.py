"""Shadow scoring: another bundle ranks a share of the live requests once they are answered.

It has a thread and a pipeline of its own and works while no micro-batch is under way; what waits
too long, or finds the queue full, is dropped and counted. Its slates are logged as traffic SHADOW
under the answer's rank_id, and compared with the answer.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from services.common.errors import PodiumError
from services.ranker.bundles.comparison import Comparison, compared
from services.ranker.bundles.mixed import Answers
from services.ranker.bundles.recent import KnownRows, Recorded
from services.ranker.bundles.routing import in_shadow
from services.ranker.pipeline import Pipeline
from services.ranker.ports import UserFeatures
from services.ranker.state import InForce
from services.ranker.types import Call, RankCommand, RankResult, Traffic

_IDLE_LOOK_S = 0.05


@dataclass(frozen=True)
class ShadowLimits:
    """At most ``waiting`` requests wait, each at most ``wait_s``: the catalogue goes on. What is
    being ranked when the shadow is to end has ``closing_s`` for it."""

    waiting: int = 64
    wait_s: float = 2.0
    closing_s: float = 5.0


class ShadowObserver(Protocol):
    """Counts what the shadow does."""

    def shadow_dropped(self, reason: str) -> None:
        """A request was not ranked by the shadow."""

    def shadow_compared(self, comparison: Comparison, shadow_s: float, live_s: float) -> None:
        """The shadow ranked a request; how long both took, in seconds."""


class ShadowScoring:
    """Ranks what it is offered with the shadow in force. ``offer`` is for the ranking thread."""

    def __init__(
        self,
        in_force: Callable[[], InForce],
        pipeline: Pipeline,
        users: UserFeatures,
        answers: Answers,
        observer: ShadowObserver,
        *,
        idle: threading.Event,
        log_error: Callable[[str, Exception], None],
        limits: ShadowLimits = ShadowLimits(),
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._in_force = in_force
        self._pipeline = pipeline
        self._users = users
        self._answers = answers
        self._observer = observer
        self._idle = idle
        self._log_error = log_error
        self._limits = limits
        self._monotonic_s = monotonic_s
        self._queue: deque[tuple[RankResult, float]] = deque()
        self._offered = threading.Event()
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="shadow", daemon=True)

    def start(self) -> None:
        """Starts the shadow's thread."""
        self._thread.start()

    def close(self) -> None:
        """Ends it; what waits is dropped. A bundle that hangs keeps the thread, and nobody else."""
        self._closing.set()
        self._offered.set()
        self._idle.set()
        if self._thread.is_alive():
            self._thread.join(self._limits.closing_s)

    def offer(self, in_force: InForce, results: Sequence[RankResult]) -> None:
        """Takes the shadow's share of what the live bundle answered."""
        shadow, live = in_force.routes.shadow, in_force.routes.live
        if shadow is None:
            return
        for result in results:
            if (
                result.bundle_version == live
                and _is_plain(result)
                and in_shadow(shadow, result.rank_id)
            ):
                if len(self._queue) >= self._limits.waiting:
                    self._observer.shadow_dropped("queue_full")
                    continue
                self._queue.append((result, self._monotonic_s()))
                self._offered.set()

    def rank_next(self) -> bool:
        """Ranks one that waits; False when none does."""
        try:
            result, since_s = self._queue.popleft()
        except IndexError:
            return False
        if self._monotonic_s() - since_s > self._limits.wait_s:
            self._observer.shadow_dropped("waited_too_long")
            return True
        in_force = self._in_force()
        shadow = in_force.routes.shadow
        if shadow is None:
            self._observer.shadow_dropped("no_shadow")
            return True
        try:
            self._rank(in_force, shadow.version, result)
        except PodiumError as error:
            # No fault of the bundle's: what it needs beside itself is away.
            self._log_error(f"the shadow {shadow.version} did without an answer", error)
        except Exception as error:
            self._log_error(f"the shadow {shadow.version} failed", error)
            self._answers.broke(in_force, shadow.version, 1)
        return True

    def _rank(self, in_force: InForce, version: str, result: RankResult) -> None:
        state = in_force.states[version]
        # The ranking thread may still be at a micro-batch that began with this bundle.
        state = replace(state, scratch=np.zeros_like(state.scratch))
        users = self._users
        if state.spec.views["user"].hash == result.view_hash:
            rows = result.rows.part(result.row, 1)
            users = KnownRows([Recorded(result.command, result.view_hash, rows)])
        started_s = time.perf_counter()
        started = self._pipeline.begin_with([_shadow_of(result)], state, users)
        (ranked,) = self._pipeline.finish(started, [0])
        took_s = time.perf_counter() - started_s
        live_s = sum(duration_us for _, duration_us in result.timings) / 1e6
        self._observer.shadow_compared(compared(result, ranked), took_s, live_s)
        self._answers.answered(in_force, version, [ranked])

    def _run(self) -> None:
        while True:
            self._offered.wait()
            if self._closing.is_set():
                return
            if not self._idle.wait(_IDLE_LOOK_S):
                # Under load nothing is ranked; what waited too long leaves.
                self._drop_old()
                continue
            self._offered.clear()
            # Set by ``close`` before the clearing, it would be waited for in vain.
            if self._closing.is_set():
                return
            if self.rank_next():
                self._offered.set()

    def _drop_old(self) -> None:
        oldest_s = self._monotonic_s() - self._limits.wait_s
        while self._queue and self._queue[0][1] < oldest_s:
            self._queue.popleft()
            self._observer.shadow_dropped("waited_too_long")


def _is_plain(result: RankResult) -> bool:
    """Whether an answer is one of live traffic that another could stand in for."""
    command = result.command
    return (
        result.traffic is Traffic.LIVE
        and command.call is Call.RANK
        and command.following is None
        and not command.dry_run
    )


def _shadow_of(result: RankResult) -> RankCommand:
    return replace(
        result.command,
        traffic=Traffic.SHADOW,
        rank_id="",
        seed=result.seed,
        shadow_of=result.rank_id,
        deadline_s=None,
        debug=False,
    )
