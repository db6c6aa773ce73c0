"""Which changes must not wait for those that only move.

When every entity moves, the rows that changed since a watcher's last step are many, and sending
them to all takes seconds. What must not be shown any more is told before them, alone.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from typing import Final

from services.feature.definitions import Key
from services.feature.watch.changes import Update

KEPT_URGENT: Final = 2_000
"""A watcher that missed more of them gets all changes in their order."""


class UrgentChanges:
    """The latest urgent changes of a hub, by version."""

    def __init__(self, kept: int = KEPT_URGENT) -> None:
        self._kept = kept
        self._versions: list[int] = []
        self._keys: list[Key] = []
        self._forgotten = 0
        self.moved_version = 0
        """Version after the latest changes that only move."""

    @property
    def version(self) -> int:
        """Version of the latest; 0 without any."""
        return self._versions[-1] if self._versions else self._forgotten

    def installed(self, version: int, updates: Sequence[Update], moved: int) -> None:
        """Takes note of updates that brought a hub to ``version``, one each; the last ``moved`` of
        them only move."""
        first = version - len(updates) + 1
        urgent = updates[: len(updates) - moved]
        self._versions += range(first, first + len(urgent))
        self._keys += [(update.entity, update.identity) for update in urgent]
        if moved:
            self.moved_version = version
        if len(self._versions) > 2 * self._kept:
            surplus = len(self._versions) - self._kept
            self._forgotten = self._versions[surplus - 1]
            del self._versions[:surplus], self._keys[:surplus]

    def since(self, version: int) -> list[Key] | None:
        """Keys of the urgent changes after ``version``, each once; None where some of them are not
        known any more."""
        if version < self._forgotten:
            return None
        return list(dict.fromkeys(self._keys[bisect_right(self._versions, version) :]))
