"""Caps: at most so many items of one code. Code 0, a missing value, is not capped."""

from __future__ import annotations

from collections.abc import Sequence

from services.ranker.arrays import Int32Array

Caps = Sequence[tuple[Int32Array, int]]
"""(codes int32 [N], limit) of every cap, over the candidates of a request."""


class CapTally:
    """Counts what was taken of each code."""

    def __init__(self, caps: Caps) -> None:
        self._caps = caps
        self._taken: list[dict[int, int]] = [{} for _ in caps]

    def admits(self, index: int) -> bool:
        """Whether one more item, the candidate ``index``, stays within every cap."""
        return all(
            not (code := int(codes[index])) or taken.get(code, 0) < limit
            for (codes, limit), taken in zip(self._caps, self._taken, strict=True)
        )

    def take(self, index: int) -> None:
        """Counts the candidate ``index``."""
        for (codes, _), taken in zip(self._caps, self._taken, strict=True):
            code = int(codes[index])
            taken[code] = taken.get(code, 0) + 1

    def counts(self) -> list[dict[int, int]]:
        """A copy of the number taken by code, for every cap."""
        return [dict(taken) for taken in self._taken]
