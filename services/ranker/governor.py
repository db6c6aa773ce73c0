"""How much work a request gets: less while answers are late, all of it while they are not.

The level follows a quantile of the latency by stochastic approximation (Robbins and Monro, 1951):
an answer that is late takes ``q / (1 - q)`` times as much off the level as one in time adds, so
that the level rests where a share ``q`` of the answers is in time.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Protocol

QUANTILE: Final = 0.99
STEP: Final = 0.0002
"""What an answer in time adds: 5,000 of them restore all that was taken off."""

SLACK: Final = 0.9
"""Above this level all work is done: a few late answers are chance."""


class Governance(Protocol):
    """Says how much work a request gets."""

    @property
    def level(self) -> float:
        """Share of a surface's candidates that a request gets."""

    def candidates(self, configured: int, wanted: int) -> int:
        """How many candidates a request gets of ``configured``."""


def candidates_at(level: float, configured: int, wanted: int) -> int:
    """How many candidates a request gets of ``configured`` at a level; never fewer than it wants
    items."""
    return min(configured, max(wanted, round(level * configured)))


class Governor:
    """Holds the ``QUANTILE`` of the latency at ``target_s`` by a level between ``floor`` and 1.
    Written by one thread, read by any."""

    def __init__(self, *, target_s: float, floor: float) -> None:
        self._target_s = target_s
        self._floor = floor
        self._level = 1.0

    @property
    def level(self) -> float:
        """Share of a surface's candidates that a request gets, in [floor, 1]."""
        return max(self._floor, min(1.0, self._level / SLACK))

    def candidates(self, configured: int, wanted: int) -> int:
        """How many candidates a request gets of ``configured``; never fewer than it wants items."""
        return candidates_at(self.level, configured, wanted)

    def answered(self, latencies_s: Sequence[float]) -> None:
        """Takes note of how long answers took, from their arrival on."""
        late = sum(latency_s > self._target_s for latency_s in latencies_s)
        change = STEP * (len(latencies_s) - late) - STEP * QUANTILE / (1 - QUANTILE) * late
        self._level = min(1.0, max(SLACK * self._floor, self._level + change))
