"""The events that providers are sent: that the service is there, and which flags changed.

An event is encoded once for all streams that need it; a stream costs a turn in twenty seconds.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Collection
from typing import Final, Protocol

from services.common.turns import Turns
from services.experiment.flagd.changes import changed_keys
from services.experiment.source import DefinitionsSource

KEEP_ALIVE_S: Final = 20.0
"""As flagd does."""


class EventEncoder(Protocol):
    """Encodes events."""

    def ready(self) -> bytes:
        """The first event of a stream."""

    def changed(self, keys: Collection[str]) -> bytes:
        """These flags may have other values."""

    def alive(self) -> bytes:
        """Nothing changed."""


class FlagEvents:
    """Streams of events over one source. To be made on the running event loop; ``start`` before the
    first stream, ``close`` after the last."""

    def __init__(
        self,
        source: DefinitionsSource,
        encoder: EventEncoder,
        *,
        keep_alive_s: float = KEEP_ALIVE_S,
    ) -> None:
        self._source = source
        self._encoder = encoder
        self._keep_alive_s = keep_alive_s
        self._definitions = source.current().definitions
        self._version = 0
        self._changed: dict[str, int] = {}
        self._last: tuple[int, int, bytes] = (0, 0, b"")
        self._turns = Turns()
        self._closing = asyncio.Event()

    def start(self) -> None:
        """Starts handing out events."""
        self._turns.start()

    async def close(self) -> None:
        """Ends the streams."""
        self._closing.set()
        await self._turns.close()

    def told(self) -> None:
        """The source has looked again."""
        before, after = self._definitions, self._source.current().definitions
        if before.hash == after.hash:
            return
        self._definitions = after
        self._version += 1
        self._changed |= dict.fromkeys(sorted(changed_keys(before, after)), self._version)
        self._turns.change()

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """Encoded events, until ``close``."""
        seen = self._version
        event = self._encoder.ready()
        while not self._closing.is_set():
            yield event
            until_s = time.monotonic() + self._keep_alive_s
            while seen == self._version and not self._closing.is_set():
                if time.monotonic() >= until_s:
                    break
                await self._turns.changed(until_s)
            if seen < self._version:
                event = self._since(seen)
                seen = self._version
            else:
                event = self._encoder.alive()

    def _since(self, seen: int) -> bytes:
        """What changed after a version, the same for all that saw the same last."""
        if self._last[:2] != (seen, self._version):
            keys = [key for key, version in self._changed.items() if version > seen]
            self._last = (seen, self._version, self._encoder.changed(keys))
        return self._last[2]
