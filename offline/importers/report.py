"""What an importer read, kept and dropped, and why."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass
class Count:
    """Records of one kind: ``read == kept + sum(dropped.values())``."""

    read: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def keep(self) -> None:
        """One more was read and kept."""
        self.read += 1
        self.kept += 1

    def drop(self, reason: str, number: int = 1) -> None:
        """``number`` more were read and dropped for ``reason``."""
        self.read += number
        self.dropped[reason] += number


@dataclass
class ImportReport:
    """Counts by kind of source record, and the number of events written."""

    counts: dict[str, Count]
    events: int = 0
