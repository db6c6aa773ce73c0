"""Caps: at most so many items of one code. Code 0, a missing value, is not capped."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from services.ranker.arrays import Int32Array

Caps = Sequence[tuple[Int32Array, int]]
"""(codes int32 [N], limit) of every cap, over the candidates of a request."""


Taken = Sequence[Mapping[int, int]]
"""How many items of each code, 0 aside, were taken beforehand, for every cap; empty for none."""


def counts_of(caps: Caps, taken: Taken) -> list[dict[int, int]]:
    """Counts by code to go on from, for every cap."""
    return [dict(counts) for counts in taken] if taken else [{} for _ in caps]


class CapTally:
    """Counts what was taken of each code, from ``taken`` on."""

    def __init__(self, caps: Caps, taken: Taken = ()) -> None:
        self._caps = caps
        self._taken = counts_of(caps, taken)

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
