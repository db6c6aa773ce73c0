"""Feeds of the catalogue: one for each set of views that is watched together.

The views of the domain file are kept in memory always. Others, which the bundles of an older or
newer domain file name, are read when the first watcher comes and dropped a while after the last
has left.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Final

from services.common.courtesy import Courtesy
from services.common.errors import Overloaded, Unavailable
from services.feature.rows.rows import RowReader
from services.feature.watch.feed import CatalogueFeed
from services.feature.watch.stream import StepEncoder, WatchObserver, WatchStreams

MAX_FEEDS: Final = 16
LINGER_S: Final = 60.0
"""A feed is kept for so long after its last watcher has left."""

FULL_RETRY_MS: Final = 10_000

MakeFeed = Callable[[Mapping[str, RowReader], bool], CatalogueFeed]
"""Makes a feed of rows by entity type; True for the one that is always kept."""


class _Kept:
    """A feed, the streams over it and how many use them."""

    def __init__(
        self, feed: CatalogueFeed, streams: WatchStreams, readers: Mapping[str, RowReader]
    ) -> None:
        self.feed = feed
        self.streams = streams
        self.hashes = {reader.view.hash for reader in readers.values()}
        self.users = 0
        self.loading = asyncio.create_task(self._load(), name="catalogue-load")

    async def close(self) -> None:
        """Ends the streams, then the feed."""
        await asyncio.wait({self.loading})
        await self.streams.close()
        await self.feed.close()

    def failed(self) -> bool:
        """Whether the catalogue could not be read."""
        task = self.loading
        return task.done() and (task.cancelled() or task.exception() is not None)

    async def _load(self) -> None:
        await self.feed.load()
        self.feed.start()
        self.streams.start()


class Watching:
    """The feeds of one store. To be made on a running event loop."""

    def __init__(
        self, make: MakeFeed, encoder: StepEncoder, observer: WatchObserver, courtesy: Courtesy
    ) -> None:
        self._make = make
        self._encoder = encoder
        self._observer = observer
        self._courtesy = courtesy
        self._kept: list[_Kept] = []
        self._main: _Kept | None = None
        self._dropping: set[asyncio.Task[None]] = set()
        self._closed = False

    async def start(self, readers: Mapping[str, RowReader]) -> None:
        """Reads the catalogue as these views show it, by entity type, and keeps it."""
        self._main = self._keep(readers, main=True)
        await asyncio.shield(self._main.loading)

    def synced(self, position: int) -> None:
        """Tells that the log is on disk up to ``position``, before callers are told."""
        for kept in self._kept:
            kept.feed.synced(position)

    @asynccontextmanager
    async def streams(self, readers: Sequence[RowReader]) -> AsyncIterator[WatchStreams]:
        """Streams of these views; see ``feed``."""
        async with self._using(readers) as kept:
            yield kept.streams

    @asynccontextmanager
    async def feed(self, readers: Sequence[RowReader]) -> AsyncIterator[CatalogueFeed]:
        """A feed of these views, of different entity types, kept for the length of the block.

        Raises ``Overloaded`` (TOO_MANY_VIEW_SETS) when too many sets of views are watched.
        """
        async with self._using(readers) as kept:
            yield kept.feed

    async def close(self) -> None:
        """Closes the feeds, which ends the streams on them."""
        self._closed = True
        kept, self._kept = self._kept, []
        await asyncio.gather(*(one.close() for one in kept), *self._dropping)

    @asynccontextmanager
    async def _using(self, readers: Sequence[RowReader]) -> AsyncIterator[_Kept]:
        kept = self._find(readers)
        kept.users += 1
        try:
            await asyncio.shield(kept.loading)
            yield kept
        finally:
            kept.users -= 1
            if kept.users == 0 and kept is not self._main and not self._closed:
                asyncio.get_running_loop().call_later(LINGER_S, self._drop_unused, kept)

    def _find(self, readers: Sequence[RowReader]) -> _Kept:
        if self._closed:
            raise Unavailable("the store is being replaced", reason="NOT_READY")
        wanted = {reader.view.hash for reader in readers}
        for kept in self._kept:
            if wanted <= kept.hashes and not kept.failed():
                return kept
        if len(self._kept) >= MAX_FEEDS:
            raise Overloaded(
                f"{MAX_FEEDS} sets of views are watched already",
                retry_after_ms=FULL_RETRY_MS,
                reason="TOO_MANY_VIEW_SETS",
            )
        by_entity = {reader.view.entity: reader for reader in readers}
        return self._keep(by_entity, main=False)

    def _keep(self, readers: Mapping[str, RowReader], *, main: bool) -> _Kept:
        feed = self._make(readers, main)
        streams = WatchStreams(feed, self._encoder, self._observer, self._courtesy)
        made = _Kept(feed, streams, readers)
        self._kept.append(made)
        return made

    def _drop_unused(self, kept: _Kept) -> None:
        if kept.users == 0 and kept in self._kept:
            self._kept.remove(kept)
            task = asyncio.create_task(kept.close(), name="catalogue-drop")
            self._dropping.add(task)
            task.add_done_callback(self._dropping.discard)
