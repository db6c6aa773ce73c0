"""What is bought lately: the part of a choice that everybody shares, as of any time of the log."""

from __future__ import annotations

import numpy as np

from offline.training.data import FloatArray, IntArray

# The window moves in steps of this share of it.
STEPS = 14


class Trend:
    """log(1 + events of a window) of every catalogue item of the sequence entity."""

    def __init__(
        self, times_ms: IntArray, rows: IntArray, items: int, window_ms: int, column: int
    ) -> None:
        """``times_ms``, ``rows [n]``: time (epoch ms) and catalogue row of each event that counts.

        ``column``: place of the served feature among the item features of examples. Takes about
        20 bytes an item and step while it is made, 4 afterwards.
        """
        self.column = column
        self._step_ms = max(1, window_ms // STEPS)
        self._first_ms = int(times_ms.min()) if len(times_ms) else 0
        steps = (times_ms - self._first_ms) // self._step_ms
        last = int(steps.max()) if len(steps) else 0
        counts = np.bincount(steps * items + rows, minlength=(last + 1) * items)
        # Row s holds what happened before step s; the window drops what is STEPS older.
        before = np.zeros((last + STEPS + 2, items), np.float32)
        before[1 : last + 2] = counts.reshape(last + 1, items).cumsum(axis=0)
        before[last + 2 :] = before[last + 1]
        before[STEPS:] -= before[:-STEPS].copy()
        self._logs: FloatArray = np.log1p(before)

    def at(self, times_ms: IntArray, rows: IntArray) -> FloatArray:
        """Float32 of ``times_ms`` (epoch ms) and catalogue ``rows``, broadcast against each other.

        Up to one step behind the served feature: nothing of the step that is asked in counts.
        """
        step = (times_ms - self._first_ms) // self._step_ms
        found: FloatArray = self._logs[np.clip(step, 0, len(self._logs) - 1), rows]
        return found
