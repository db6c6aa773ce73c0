"""A bounded memory of what was told already."""

from __future__ import annotations

from collections.abc import Hashable


class Marks:
    """Remembers at least the ``capacity`` marks that came last, at most twice as many. Used by one
    thread.

    Hashes stand for marks: they take a tenth of the memory, and that one of 10^6 equals another by
    chance has a probability below 10^-7.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._recent: set[int] = set()
        self._older: set[int] = set()

    def add(self, mark: Hashable) -> bool:
        """Remembers a mark; whether it is new."""
        number = hash(mark)
        if number in self._recent:
            return False
        is_new = number not in self._older
        self._recent.add(number)
        if len(self._recent) >= self._capacity:
            self._recent, self._older = set(), self._recent
        return is_new

    def discard(self, mark: Hashable) -> None:
        """Forgets a mark."""
        self._recent.discard(hash(mark))
        self._older.discard(hash(mark))
