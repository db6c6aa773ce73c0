"""Keeps the watch hub current and wakes watchers."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from services.feature.watch import EntityHub, Refresh

POLL_S = 0.1

_logger = logging.getLogger(__name__)


class CatalogueFeed:
    """Polls the store off the event loop. ``load`` first, then ``start``.

    ``synced_position`` gives the log's end; ``applied`` is told how far the store has come.
    """

    def __init__(
        self,
        hub: EntityHub,
        *,
        synced_position: Callable[[], int],
        applied: Callable[[int], None],
    ) -> None:
        self.hub = hub
        self.as_of_ms = 0
        """The rows hold everything that was in the log at this time."""
        self._synced_position = synced_position
        self._applied = applied
        self._changed = asyncio.Event()
        self._stop = asyncio.Event()
        self._executor = ThreadPoolExecutor(1, thread_name_prefix="watch")
        self._task: asyncio.Task[None] | None = None

    async def load(self) -> None:
        """Reads the whole catalogue."""
        synced = self._synced_position()
        found = await asyncio.get_running_loop().run_in_executor(self._executor, self.hub.load)
        self._install(found, synced)

    def start(self) -> None:
        """Starts polling."""
        self._task = asyncio.create_task(self._run(), name="catalogue-feed")

    async def close(self) -> None:
        """Stops polling."""
        self._stop.set()
        if self._task is not None:
            await self._task
        self._executor.shutdown()

    async def wait(self, version: int, timeout_s: float) -> bool:
        """True once there are changes after ``version``; False when the time is over."""
        if self.hub.version > version:
            return True
        try:
            async with asyncio.timeout(timeout_s):
                await self._changed.wait()
        except TimeoutError:
            return False
        return self.hub.version > version

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while not self._stop.is_set():
            synced = self._synced_position()
            try:
                found = await loop.run_in_executor(self._executor, self.hub.refresh)
                self._install(found, synced)
            except Exception:
                # The next poll may go well; until then as_of stands still, which watchers see.
                _logger.exception("looking for changes failed")
            try:
                async with asyncio.timeout(POLL_S):
                    await self._stop.wait()
            except TimeoutError:
                continue

    def _install(self, found: Refresh, synced: int) -> None:
        self._applied(found.position)
        if self.hub.install(found):
            self._changed.set()
            self._changed = asyncio.Event()
        if found.position >= synced:
            self.as_of_ms = found.read_at_ms
