"""The steps that a watcher of the definitions is sent: a snapshot or what it missed, then changes,
or a heartbeat. A step is encoded once for all watchers that need it."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Protocol

from services.common.assign.canonical import Item, ItemKey
from services.common.turns import Turns
from services.experiment.source import DefinitionsSource
from services.experiment.watch.hub import DefinitionsHub

HEARTBEAT_S: Final = 1.0
CHUNK_BYTES: Final = 900 << 10
"""Size of a step's definitions; under the 1 MiB of the contract with room for the rest."""

ITEM_OVERHEAD_BYTES: Final = 400
"""Most that a definition adds beside its JSON: kind, key, numbers."""

_KEPT_STEPS: Final = 16

_logger = logging.getLogger(__name__)


class StepEncoder(Protocol):
    """Encodes steps."""

    def reset(self) -> bytes:
        """Forget everything; a snapshot follows."""

    def chunk(self, items: Sequence[Item]) -> bytes:
        """Part of a snapshot."""

    def end(self, count: int, token: bytes, as_of_ms: int, definitions_hash: str) -> bytes:
        """The snapshot is complete."""

    def delta(
        self,
        upserts: Sequence[Item],
        gone: Sequence[ItemKey],
        token: bytes,
        as_of_ms: int,
        definitions_hash: str,
    ) -> bytes:
        """Changes; the last three are empty where more of them follow."""

    def heartbeat(self, token: bytes, as_of_ms: int, definitions_hash: str) -> bytes:
        """Nothing changed."""


class DefinitionsWatch:
    """Streams of steps over one source. To be made on the running event loop; ``start`` before the
    first stream, ``close`` after the last."""

    def __init__(
        self,
        source: DefinitionsSource,
        encoder: StepEncoder,
        also_told: Sequence[Callable[[], None]] = (),
        turns: Turns | None = None,
    ) -> None:
        """``also_told`` are called, too, after each look of the source."""
        self._source = source
        self._encoder = encoder
        self._also_told = also_told
        self._hub = DefinitionsHub(source.current().definitions)
        self._turns = turns or Turns()
        self._steps: OrderedDict[tuple[str, int, int], list[bytes]] = OrderedDict()
        self._heartbeat: tuple[int, int, bytes] = (0, 0, b"")
        self._closing = asyncio.Event()
        self._running: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts keeping up with the source."""
        self._turns.start()
        self._running = asyncio.create_task(self._source.run(self._told), name="definitions")
        self._running.add_done_callback(_ended)

    async def close(self) -> None:
        """Ends the streams, and stops looking."""
        self._closing.set()
        if self._running is not None and not self._running.done():
            self._running.cancel()
            with suppress(asyncio.CancelledError):
                await self._running
        await self._turns.close()

    async def stream(self, resume_token: bytes) -> AsyncGenerator[bytes, None]:
        """Encoded steps, until ``close``."""
        version = self._hub.resume(resume_token)
        sent_s = time.monotonic() - HEARTBEAT_S
        has_turn = False
        while not self._closing.is_set():
            if version is None or self._hub.forgotten(version):
                steps, version = self._snapshot(), self._hub.version
            elif version < self._hub.version:
                steps, version = self._delta(version), self._hub.version
            elif time.monotonic() - sent_s >= HEARTBEAT_S:
                steps = [self._beat()]
            else:
                await self._turns.changed(sent_s + HEARTBEAT_S)
                has_turn = True
                continue
            for step in steps:
                # Whoever is woken has a turn: waiting for another, nobody would be sent anything
                # before all were woken.
                if not has_turn:
                    await self._turns.soon()
                has_turn = False
                if self._closing.is_set():
                    return
                yield step
            sent_s = time.monotonic()

    def _told(self) -> None:
        if self._hub.install(self._source.current().definitions):
            self._turns.change()
        for tell in self._also_told:
            tell()

    def _snapshot(self) -> list[bytes]:
        """Steps of a snapshot, the same for all that come before the next change."""
        hub, encoder = self._hub, self._encoder
        key = ("snapshot", 0, hub.version)
        if key not in self._steps:
            items = hub.snapshot()
            steps = [encoder.reset(), *(encoder.chunk(part) for part in _parts(items))]
            end = encoder.end(len(items), hub.token(hub.version), *self._now())
            self._keep(key, [*steps, end])
        return self._steps[key]

    def _delta(self, since: int) -> list[bytes]:
        hub, encoder = self._hub, self._encoder
        key = ("delta", since, hub.version)
        if key not in self._steps:
            changes = hub.changes(since)
            parts = [*_parts(changes.upserts)] or [()]
            steps = [encoder.delta(part, (), b"", 0, "") for part in parts[:-1]]
            token = hub.token(hub.version)
            last = encoder.delta(parts[-1], changes.gone, token, *self._now())
            self._keep(key, [*steps, last])
        return self._steps[key]

    def _beat(self) -> bytes:
        version, as_of_ms, data = self._heartbeat
        now_ms, definitions_hash = self._now()
        if (version, as_of_ms) != (self._hub.version, now_ms):
            token = self._hub.token(self._hub.version)
            data = self._encoder.heartbeat(token, now_ms, definitions_hash)
            self._heartbeat = (self._hub.version, now_ms, data)
        return data

    def _now(self) -> tuple[int, str]:
        """Since when what the hub has is known to be in force, and its hash."""
        in_force = self._source.current()
        known = in_force.definitions.hash == self._hub.definitions.hash
        return (in_force.as_of_ms if known else 0), self._hub.definitions.hash

    def _keep(self, key: tuple[str, int, int], steps: list[bytes]) -> None:
        self._steps[key] = steps
        while len(self._steps) > _KEPT_STEPS:
            self._steps.popitem(last=False)


def _ended(running: asyncio.Task[None]) -> None:
    if not running.cancelled():
        # as_of stands still from now on, which watchers see.
        _logger.error("the source of the definitions ended", exc_info=running.exception())


def _parts(items: Sequence[Item]) -> Iterator[Sequence[Item]]:
    """Items in pieces that fit into a step."""
    start = size = 0
    for index, item in enumerate(items):
        needed = len(item.text.encode()) + ITEM_OVERHEAD_BYTES
        if size + needed > CHUNK_BYTES and index > start:
            yield items[start:index]
            start, size = index, 0
        size += needed
    if start < len(items):
        yield items[start:]
