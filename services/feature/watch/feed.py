"""Keeps the watch hub current: looks at the store when something was logged or is due."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import NamedTuple

from services.common.errors import Unavailable
from services.feature.watch.acknowledged import Acknowledgements
from services.feature.watch.changes import Refresh
from services.feature.watch.hub import EntityHub
from services.feature.watch.urgent import UrgentChanges

POLL_S = 0.02
"""While something logged is not applied, the store is looked at this often."""

IDLE_S = 0.5
"""Otherwise this often, for the time's sake and for what comes from another log."""

_KEPT_INSTALLS = 2_000

_logger = logging.getLogger(__name__)


class Waited(NamedTuple):
    """When the oldest of some changes was acknowledged (monotonic seconds): of those that are told
    at once, and of those that are gathered. None where there is none."""

    urgent_s: float | None
    moving_s: float | None


class CatalogueFeed:
    """Looks at the store off the event loop. ``load`` first, then ``start``.

    ``synced_position`` gives the log's end; ``applied`` is told how far the store has come,
    ``installed`` when there are changes, and whether there are urgent ones among them.
    """

    def __init__(
        self,
        hub: EntityHub,
        acknowledgements: Acknowledgements,
        *,
        synced_position: Callable[[], int],
        applied: Callable[[int], None],
        clock_ms: Callable[[], int],
        idle_s: float = IDLE_S,
    ) -> None:
        self.hub = hub
        self.as_of_ms = 0
        """The rows hold everything that was in the log at this time."""
        self.urgent = UrgentChanges()
        self.installed: Callable[[bool], None] = lambda _: None
        self._acknowledgements = acknowledgements
        self._synced_position = synced_position
        self._applied = applied
        self._clock_ms = clock_ms
        self._idle_s = idle_s
        # (version after an installation, the times of its changes), the latest last.
        self._installs: deque[tuple[int, Waited]] = deque(maxlen=_KEPT_INSTALLS)
        self._wake = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="watch")
        self._task: asyncio.Task[None] | None = None

    def synced(self, position: int) -> None:
        """Tells that the log is on disk up to ``position``, before callers are told."""
        self._acknowledgements.add(position, self._clock_ms(), time.monotonic())
        self._wake.set()

    async def load(self) -> None:
        """Reads the whole catalogue."""
        loop = asyncio.get_running_loop()
        self.take(await loop.run_in_executor(self._executor, self.hub.load))

    def start(self) -> None:
        """Starts looking."""
        self._task = asyncio.create_task(self._run(), name="catalogue-feed")

    async def close(self) -> None:
        """Stops looking."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
        await asyncio.to_thread(self._executor.shutdown)

    def waited(self, since: int, reached: int) -> Waited:
        """Times of the changes after version ``since`` up to ``reached``."""
        urgent_s: float | None = None
        moving_s: float | None = None
        for version, times in reversed(self._installs):
            if version <= since:
                break
            if version <= reached:
                urgent_s = urgent_s if times.urgent_s is None else times.urgent_s
                moving_s = moving_s if times.moving_s is None else times.moving_s
        return Waited(urgent_s, moving_s)

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        lost = False
        while True:
            pause_s = self._idle_s
            try:
                found = await loop.run_in_executor(self._executor, self.hub.refresh)
                lost = False
                self.take(found)
                if found.more:
                    continue
                pause_s = min(self._idle_s, found.due_s - time.monotonic())
            except Unavailable as error:
                if not lost:
                    _logger.warning("looking for changes failed: %s", error)
                lost = True
            except Exception:
                # The next look may go well; until then as_of stands still, which watchers see.
                _logger.exception("looking for changes failed")
            else:
                if found.position < self._synced_position():
                    pause_s = min(POLL_S, pause_s)
            await self._woken(pause_s)

    async def _woken(self, seconds: float) -> None:
        """Returns when that time is over, or soon after something was logged."""
        if seconds > POLL_S:
            with suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await self._wake.wait()
            if not self._wake.is_set():
                return
        self._wake.clear()
        # Applying takes a moment, and what is logged meanwhile goes with it.
        await asyncio.sleep(min(max(seconds, 0.0), POLL_S))

    def take(self, found: Refresh) -> None:
        """Takes the result of a look in."""
        self._applied(found.position)
        self.as_of_ms = max(self.as_of_ms, found.as_of_ms)
        if self.hub.install(found):
            self._installs.append((self.hub.version, Waited(found.urgent_s, found.moving_s)))
            self.urgent.installed(self.hub.version, found.updates, found.moved)
            self.installed(len(found.updates) > found.moved)
