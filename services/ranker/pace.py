"""How long a request takes while others wait, to tell who would wait in vain."""

from __future__ import annotations

from typing import Final

WEIGHT: Final = 0.1
"""Of the latest micro-batch in the mean, which weighs earlier ones less and less."""


class Pace:
    """An exponentially weighted mean of the seconds that a request takes of its micro-batch."""

    def __init__(self) -> None:
        self._seconds = 0.0

    def took(self, requests: int, seconds: float) -> None:
        """A micro-batch of so many requests took so long."""
        one = seconds / requests
        self._seconds = one if not self._seconds else self._seconds + WEIGHT * (one - self._seconds)

    def expected_s(self, requests: int) -> float:
        """How long so many requests will take; 0 before anything is known."""
        return requests * self._seconds
