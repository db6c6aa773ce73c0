"""Times the stages of a micro-batch."""

from __future__ import annotations

import time


class Stopwatch:
    """Times stages one after the other, in microseconds."""

    def __init__(self) -> None:
        self.stages: list[tuple[str, int]] = []
        self._last_ns = time.perf_counter_ns()

    def lap(self, stage: str) -> None:
        """Ends a stage."""
        now_ns = time.perf_counter_ns()
        self.stages.append((stage, (now_ns - self._last_ns) // 1000))
        self._last_ns = now_ns

    def skip(self) -> None:
        """The time since the last stage belongs to none."""
        self._last_ns = time.perf_counter_ns()
