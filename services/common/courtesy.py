"""Long work on an event loop lets short calls pass.

What takes events in, or sends a step to thousands of watchers, computes for many milliseconds on
the loop that answers lookups, too. It does so in slices, and a lookup takes several passes of the
loop from its arrival to its answer: without more, each of them would wait for a slice.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

PASSES: Final = 8
LONGEST_S: Final = 0.002
"""Passes of the loop that are left to short calls after a slice, at most, and for how long."""

PASSES_TO_ANSWER: Final = 3
"""Passes in which gRPC sends a call's answer, once it is there."""


class Courtesy:
    """Knows the short calls under way on one event loop."""

    def __init__(self, longest_s: float = LONGEST_S) -> None:
        self._longest_s = longest_s
        self._calls = 0
        self._answering = 0

    @contextmanager
    def short_call(self) -> Iterator[None]:
        """Around a short call."""
        self._calls += 1
        try:
            yield
        finally:
            self._calls -= 1
            self._answering = PASSES_TO_ANSWER

    async def let_pass(self) -> None:
        """Between two slices of long work: other tasks get a turn, short calls as many as they
        need within limits, so that the long work goes on whatever comes."""
        await asyncio.sleep(0)
        until_s = time.monotonic() + self._longest_s
        for _ in range(PASSES - 1):
            if not self._calls:
                if not self._answering:
                    return
                self._answering -= 1
            await asyncio.sleep(0)
            if time.monotonic() >= until_s:
                return
