"""When the store is looked at: when something was logged or is due, and not all the time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from services.common.clock import system_clock_ms
from services.feature.applying.apply import Applier
from services.feature.rows.rows import row_readers
from services.feature.store.embedded import EmbeddedStore, EmbeddedView
from services.feature.watch.acknowledged import Acknowledgements
from services.feature.watch.feed import CatalogueFeed
from services.feature.watch.hub import EntityHub
from tests.support.feature_streams import domain_with, interaction, logged, upsert_event

DOMAIN = domain_with(
    {"clicks": {"kind": "count", "entities": ["course"], "events": ["click"], "window": "1m"}}
)
NEVER_S = 3_600.0


class CountedStore(EmbeddedStore):
    """Counts its reads; fails while told to."""

    reads = 0
    broken = False

    @contextmanager
    def read(self) -> Iterator[EmbeddedView]:
        self.reads += 1
        if self.broken:
            raise RuntimeError("the store can't be read")
        with super().read() as view:
            yield view


class World:
    """A store that is written by hand, and a feed that is idle for an hour if nobody wakes it."""

    def __init__(self, directory: Path) -> None:
        self.store = CountedStore(directory / "store")
        self._applier = Applier(DOMAIN, self.store, system_clock_ms)
        self._applier.prepare(directory / "log")
        self._records: list[tuple[int, bytes]] = []
        self.logged = 0
        self.applied: list[int] = []
        acknowledgements = Acknowledgements()
        readers = {e: r for e, r in row_readers(DOMAIN).items() if e != "user"}
        self.hub = EntityHub(
            self.store, readers, system_clock_ms, acknowledgements=acknowledgements
        )
        self.feed = CatalogueFeed(
            self.hub,
            acknowledgements,
            synced_position=lambda: self.logged,
            applied=self.applied.append,
            clock_ms=system_clock_ms,
            idle_s=NEVER_S,
        )

    def log(self, *events: object) -> None:
        for event in events:
            record = logged(self.logged, event, system_clock_ms())  # type: ignore[arg-type]
            self._records.append((self.logged, record.SerializeToString()))
            self.logged += 1
        self.feed.synced(self.logged)

    def apply(self) -> None:
        self._applier.apply(self._records)
        self._records = []

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not condition():
                await asyncio.sleep(0.001)

    async def __aenter__(self) -> World:
        await self.feed.load()
        self.feed.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.feed.close()
        self.store.close()


def _course(name: str, title: str) -> object:
    return upsert_event(name, system_clock_ms(), "course:c", title=title)


def test_what_is_logged_is_looked_for_until_it_is_applied_and_then_no_more(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            await world.until(lambda: world.store.reads == 2)
            world.log(_course("a", "One"))
            # It is not applied yet: the store is asked again and again.
            await world.until(lambda: world.store.reads > 6)
            assert world.hub.version == 0
            world.apply()
            await world.until(lambda: world.hub.version == 1)
            await world.until(lambda: world.applied[-1] == 1)
            reads = world.store.reads
            for _ in range(200):
                await asyncio.sleep(0.001)
            assert world.store.reads <= reads + 2

    asyncio.run(play())


def test_what_was_gathered_is_told_when_it_is_due_without_another_event(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            world.log(_course("a", "One"))
            world.apply()
            await world.until(lambda: world.hub.version == 1)
            click = interaction("k", "click", system_clock_ms(), "ann", "course:c")
            world.log(click)
            world.apply()
            await world.until(lambda: world.hub.version == 2)

    asyncio.run(play())


def test_a_store_that_fails_is_looked_at_again_and_time_stands_still(tmp_path: Path) -> None:
    async def play() -> None:
        async with World(tmp_path) as world:
            world.log(_course("a", "One"))
            world.apply()
            await world.until(lambda: world.hub.version == 1)
            world.store.broken, as_of_ms = True, world.feed.as_of_ms
            world.log(_course("b", "Two"))
            reads = world.store.reads
            await world.until(lambda: world.store.reads > reads)
            assert world.feed.as_of_ms == as_of_ms
            world.store.broken = False
            world.apply()
            world.feed.synced(world.logged)
            await world.until(lambda: world.hub.version == 2)
            assert world.feed.as_of_ms > as_of_ms

    asyncio.run(play())
