"""Turns of many watchers on one event loop, a few at a time: other calls get theirs in between.

An urgent change gives a turn to all, also to those whose turn for something else has not come yet:
where much is to be sent to each, that takes seconds.
"""

from __future__ import annotations

import asyncio
import heapq
import time
from collections import deque
from contextlib import suppress
from typing import Final

from services.common.courtesy import Courtesy

TURNS_AT_ONCE: Final = 8
LONGEST_REST_S: Final = 0.005
HURRY_S: Final = 0.4
"""A turn that waits for longer makes the rests a quarter as long: a second is promised."""

_Turn = asyncio.Future[None]


class Turns:
    """Hands out turns, in order. After each few it rests for as long as they took, so that half of
    the loop's time is left for others, unless it is late, and lets the short calls pass that are
    under way then (``courtesy``)."""

    def __init__(self, courtesy: Courtesy | None = None) -> None:
        self._courtesy = courtesy or Courtesy()
        # (since when, turn); those in ``_first`` are for urgent changes.
        self._first: deque[tuple[float, _Turn]] = deque()
        self._due: deque[tuple[float, _Turn]] = deque()
        # (when it is due at the latest, number, turn)
        self._waiting: list[tuple[float, int, _Turn]] = []
        self._number = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._closed = False
        self._behind_since_s: float | None = None

    @property
    def behind_s(self) -> float:
        """For how long there has always been somebody whose turn was due."""
        since_s = self._behind_since_s
        return 0.0 if since_s is None else time.monotonic() - since_s

    def start(self) -> None:
        """Starts handing out."""
        self._task = asyncio.create_task(self._run(), name="watch-turns")

    async def close(self) -> None:
        """Stops; nobody waits any more."""
        self._closed = True
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        self.change()
        while self._due or self._first:
            self._hand_out()

    async def soon(self) -> None:
        """Waits for the next turn."""
        if self._closed:
            return
        turn: _Turn = asyncio.get_running_loop().create_future()
        self._due.append((time.monotonic(), turn))
        self._wake.set()
        await turn

    async def changed(self, until_s: float) -> None:
        """Waits for a turn after the next change, or after ``until_s`` (monotonic)."""
        if self._closed:
            return
        turn: _Turn = asyncio.get_running_loop().create_future()
        self._number += 1
        heapq.heappush(self._waiting, (until_s, self._number, turn))
        if self._waiting[0][2] is turn:
            self._wake.set()
        await turn

    def change(self, *, urgent: bool = False) -> None:
        """Gives a turn to all that wait for a change; of an urgent one before all others, and to
        all others."""
        now_s = time.monotonic()
        turns = self._first if urgent else self._due
        turns.extend((now_s, turn) for _, _, turn in self._waiting)
        self._waiting.clear()
        if urgent:
            turns.extend((now_s, turn) for _, turn in self._due)
            self._due.clear()
        self._wake.set()

    async def _run(self) -> None:
        while True:
            now_s = time.monotonic()
            while self._waiting and self._waiting[0][0] <= now_s:
                until_s, _, turn = heapq.heappop(self._waiting)
                self._due.append((until_s, turn))
            if not self._due and not self._first:
                self._behind_since_s = None
                self._wake.clear()
                due_s = self._waiting[0][0] - now_s if self._waiting else None
                with suppress(TimeoutError):
                    async with asyncio.timeout(due_s):
                        await self._wake.wait()
                continue
            if self._behind_since_s is None:
                self._behind_since_s = now_s
            late = any(t and now_s - t[0][0] > HURRY_S for t in (self._first, self._due))
            self._hand_out()
            # Twice: once for the turns, once for what they began.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            took_s = time.monotonic() - now_s
            await asyncio.sleep(min(took_s, LONGEST_REST_S) / (4 if late else 1))
            await self._courtesy.let_pass()

    def _hand_out(self) -> None:
        # Whoever has another turn gets it in the end, however many urgent changes there are.
        given = _give(self._first, TURNS_AT_ONCE)
        _give(self._due, 1 if given else TURNS_AT_ONCE)


def _give(turns: deque[tuple[float, _Turn]], most: int) -> int:
    given = 0
    while turns and given < most:
        _, turn = turns.popleft()
        if not turn.done():
            turn.set_result(None)
            given += 1
    return given
