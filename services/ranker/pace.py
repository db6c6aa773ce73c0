"""How long a request takes while others wait, to tell who would wait in vain."""

from __future__ import annotations

import math
from typing import Final

WEIGHT: Final = 0.1
"""Of the latest micro-batch in the means, which weigh earlier ones less and less."""


class Pace:
    """Exponentially weighted means of the seconds that a request takes of its micro-batch, and of
    how many a micro-batch answers."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self._size = 1.0

    def took(self, answered: int, seconds: float) -> None:
        """A micro-batch took so long for so many answers."""
        one = seconds / answered
        if not self._seconds:
            self._seconds, self._size = one, float(answered)
            return
        self._seconds += WEIGHT * (one - self._seconds)
        self._size += WEIGHT * (answered - self._size)

    def expected_s(self, requests: int) -> float:
        """How long so many requests will take; 0 before anything is known. Answers come by the
        micro-batch: the last of them waits for who shares it, those yet to come among them."""
        return math.ceil(requests / self._size) * self._size * self._seconds
