"""When what was acknowledged: turns positions of the log into times. Thread-safe, pure."""

from __future__ import annotations

import threading
from collections import deque
from typing import Final

MERGED_S: Final = 0.01
"""Acknowledgements that are closer together count as the first of them."""


class _Group:
    """Records before ``end`` that no earlier group has; acknowledged at these times, or later."""

    __slots__ = ("at_ms", "at_s", "end")

    def __init__(self, end: int, at_ms: int, at_s: float) -> None:
        self.end = end
        self.at_ms = at_ms
        self.at_s = at_s


class Acknowledgements:
    """Times of what was acknowledged and is not yet applied."""

    def __init__(self) -> None:
        self._groups: deque[_Group] = deque()
        self._lock = threading.Lock()

    def add(self, end: int, at_ms: int, at_s: float) -> None:
        """Records before position ``end`` were acknowledged at ``at_ms`` (epoch) and ``at_s``
        (monotonic)."""
        with self._lock:
            last = self._groups[-1] if self._groups else None
            if last is not None and at_s - last.at_s < MERGED_S:
                last.end = max(last.end, end)
            elif last is None or end > last.end:
                self._groups.append(_Group(end, at_ms, at_s))

    def applied(self, position: int, now_ms: int) -> tuple[float | None, int]:
        """Takes note that the log is applied up to ``position``.

        Returns when the oldest of what is newly applied was acknowledged (monotonic seconds, None
        if nothing is), and up to which time (epoch ms) everything acknowledged is applied;
        ``now_ms`` is when ``position`` was read, or before.
        """
        oldest_s: float | None = None
        with self._lock:
            while self._groups and self._groups[0].end <= position:
                group = self._groups.popleft()
                oldest_s = group.at_s if oldest_s is None else oldest_s
            waiting = self._groups[0] if self._groups else None
            return oldest_s, now_ms if waiting is None else min(now_ms, waiting.at_ms)
