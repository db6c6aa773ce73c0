"""What will happen: a heap of (time, order, step). Everything in the world happens by it, so events
come out in the order of their times and only what is pending is in memory."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Generic, TypeVar

Step = TypeVar("Step")


@dataclass(slots=True)
class Agenda(Generic[Step]):
    """Steps that are equal in time come out in the order they were put in."""

    _heap: list[tuple[int, int, Step]] = field(default_factory=list)
    _next: int = 0

    def put(self, time_ms: int, step: Step) -> None:
        """Adds ``step`` at ``time_ms`` (epoch milliseconds)."""
        heapq.heappush(self._heap, (time_ms, self._next, step))
        self._next += 1

    def pop_before(self, end_ms: int) -> tuple[int, Step] | None:
        """The earliest step before ``end_ms``, or None."""
        if not self._heap or self._heap[0][0] >= end_ms:
            return None
        time_ms, _, step = heapq.heappop(self._heap)
        return time_ms, step

    def pending(self) -> Iterator[Step]:
        """Every step still to come, in no particular order."""
        return (step for _, _, step in self._heap)

    def __len__(self) -> int:
        return len(self._heap)
