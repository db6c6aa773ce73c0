"""How far a training has come: by its epochs, or by the CPU time that it may take.

CPU time of the whole process, so that neither other work on the machine nor the number of threads
makes a budget larger.
"""

from __future__ import annotations

import time
from collections.abc import Callable

Clock = Callable[[], float]
"""CPU seconds since some fixed point."""


class CpuBudget:
    """CPU seconds that may be taken from its making on. ``clock``: ``time.process_time``."""

    def __init__(self, seconds: float, clock: Clock = time.process_time) -> None:
        self._clock = clock
        self._start = clock()
        self.seconds = seconds

    @property
    def spent_s(self) -> float:
        """CPU seconds since it was made."""
        return self._clock() - self._start

    def part(self, share: float) -> CpuBudget:
        """A budget, from now on, of ``share`` of what is left of this one."""
        return CpuBudget(max(0.0, self.seconds - self.spent_s) * share, self._clock)


class Progression:
    """What share of a training is done: of ``epochs``, or of ``budget`` where there is one."""

    def __init__(self, epochs: int, budget: CpuBudget | None = None) -> None:
        self._epochs = epochs
        self._budget = budget
        self.epoch = 0
        """Epochs that are finished."""

    def share(self, of_epoch: float) -> float:
        """0 to 1, with ``of_epoch`` of the epoch under way done; 1 when it is time to end."""
        if self._budget is None:
            return (self.epoch + of_epoch) / self._epochs if self._epochs else 1.0
        if self._budget.spent_s >= self._budget.seconds:
            return 1.0
        return self._budget.spent_s / self._budget.seconds

    @property
    def done(self) -> bool:
        """Whether no further epoch is to begin."""
        return self.share(0.0) >= 1.0
