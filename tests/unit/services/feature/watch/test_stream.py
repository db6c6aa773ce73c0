"""What watchers are sent: whoever comes, goes and comes back ends with the rows as they are."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncGenerator, Sequence
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.feature.definitions import FeatureView, compile_views
from services.feature.rows.rows import Row, row_readers
from services.feature.watch.acknowledged import Acknowledgements
from services.feature.watch.changes import Refresh, Update
from services.feature.watch.feed import CatalogueFeed, Waited
from services.feature.watch.hub import MOVING_INTERVAL_S, EntityHub
from services.feature.watch.stream import CHUNK_BYTES, MOST_INTERVAL_S, WatchStreams
from tests.support.feature_streams import START_MS, domain_with

DOMAIN = domain_with({})
VIEWS = [compile_views(DOMAIN)[entity] for entity in ("course", "room")]
KEYS = [(entity, f"{entity}{n}") for entity in ("course", "room") for n in range(4)]
Rows = dict[tuple[str, str], Row]


class Encoder:
    """Leaves steps readable. ``rows_a_step`` fill one."""

    def __init__(self, rows_a_step: int = 1_000) -> None:
        self.made: Counter[str] = Counter()
        # As much as leaves no room for another; one alone is sent though it is too large.
        self._row_bytes = CHUNK_BYTES // rows_a_step if rows_a_step else 2 * CHUNK_BYTES

    def row_bytes(self, _identity: str, _row: Row) -> int:
        return self._row_bytes

    def reset(self, as_of_ms: int) -> Any:
        return self._step("reset", as_of_ms)

    def chunk(self, view: FeatureView, rows: Sequence[tuple[str, Row]], as_of_ms: int) -> Any:
        found = {(view.entity, identity): row for identity, row in rows}
        self._fits(len(found))
        return self._step("chunk", as_of_ms, upserts=found)

    def end(self, rows: int, token: bytes, as_of_ms: int) -> Any:
        return self._step("end", as_of_ms, token=token, rows=rows)

    def delta(self, upserts: Any, gone: Any, token: bytes, as_of_ms: int) -> Any:
        found = {(view.entity, i): row for view, rows in upserts for i, row in rows}
        self._fits(len(found))
        return self._step("delta", as_of_ms, upserts=found, gone=list(gone), token=token)

    def heartbeat(self, token: bytes, as_of_ms: int) -> Any:
        return self._step("heartbeat", as_of_ms, token=token)

    def _fits(self, rows: int) -> None:
        assert rows * self._row_bytes <= CHUNK_BYTES or rows == 1

    def _step(self, kind: str, as_of_ms: int, **parts: Any) -> dict[str, Any]:
        self.made[kind] += 1
        return {"kind": kind, "as_of_ms": as_of_ms, "token": b""} | parts


class Observer:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.waited: list[Waited] = []

    def told(self, waited: Waited, _now_s: float) -> None:
        self.waited.append(waited)


class World:
    """A hub whose rows are set, and the streams over it."""

    def __init__(
        self, encoder: Encoder, kept_tombstones: int = 100, alone_rows: int = 1_000
    ) -> None:
        self.encoder = encoder
        self.observer = Observer()
        store: Any = None
        self.hub = EntityHub(
            store, row_readers(DOMAIN), lambda: START_MS, kept_tombstones=kept_tombstones
        )
        self.feed = CatalogueFeed(
            self.hub,
            Acknowledgements(),
            synced_position=lambda: 0,
            applied=lambda _: None,
            clock_ms=lambda: START_MS,
        )
        self.streams = WatchStreams(self.feed, encoder, self.observer, alone_rows=alone_rows)
        self.as_of_ms = START_MS

    def set(
        self, values: dict[tuple[str, str], int | None], *, moves: bool = False, **times: float
    ) -> None:
        """Changes rows; None takes one away. ``moves``: these changes are not urgent."""
        self.as_of_ms += 1
        updates = [
            Update(*key, None if value is None else Row((value,), b"\1"))
            for key, value in values.items()
            if value is not None or any(known == key for known, _ in self.hub.snapshot((key[0],)))
        ]
        moved = len(updates) if moves else 0
        self.feed.take(Refresh(updates, 0, self.as_of_ms, moved=moved, **times))

    def rows(self) -> Rows:
        return dict(self.hub.snapshot(("course", "room")))

    async def __aenter__(self) -> World:
        self.streams.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.streams.close()
        await self.feed.close()


class Watcher:
    """Keeps rows as the protocol says, over as many streams as it takes."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.rows: Rows = {}
        self.token = b""
        self.kinds: list[str] = []
        self._snapshot: Rows | None = None
        self._stream: AsyncGenerator[Any, None] | None = None

    @property
    def behind(self) -> bool:
        """Whether a step is to come before the next heartbeat."""
        hub = self._world.hub
        return self.token != hub.token(VIEWS, hub.version) or self._snapshot is not None

    async def leave(self) -> None:
        if self._stream is not None:
            await self._stream.aclose()
        self._stream, self._snapshot = None, None

    async def step(self) -> dict[str, Any]:
        if self._stream is None:
            self._stream = self._world.streams.stream(VIEWS, self.token)
        step: Any = await anext(self._stream)
        self.kinds.append(step["kind"])
        if step["kind"] == "reset":
            self._snapshot = {}
        elif step["kind"] == "chunk":
            assert self._snapshot is not None
            self._snapshot |= step["upserts"]
        elif step["kind"] == "end":
            assert self._snapshot is not None
            assert step["rows"] == len(self._snapshot)
            self.rows, self._snapshot = self._snapshot, None
        elif step["kind"] == "delta":
            self.rows |= step["upserts"]
            for key in step["gone"]:
                self.rows.pop(key, None)
        self.token = step["token"] or self.token
        return step  # type: ignore[no-any-return]

    async def catch_up(self) -> None:
        while self.behind:
            await self.step()


WATCHERS = 3
OPERATIONS = st.lists(
    st.one_of(
        st.tuples(
            st.sampled_from(["set", "move"]),
            st.dictionaries(
                st.sampled_from(KEYS), st.none() | st.integers(0, 9), min_size=1, max_size=5
            ),
        ),
        st.tuples(st.just("step"), st.integers(0, WATCHERS - 1)),
        st.tuples(st.just("step"), st.integers(0, WATCHERS - 1)),
        st.tuples(st.just("leave"), st.integers(0, WATCHERS - 1)),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(
    operations=OPERATIONS,
    rows_a_step=st.integers(0, 4),
    kept=st.integers(0, 3),
    alone_rows=st.integers(0, 2),
)
def test_whoever_joins_leaves_and_resumes_ends_with_the_rows_as_they_are(
    operations: list[tuple[str, Any]], rows_a_step: int, kept: int, alone_rows: int
) -> None:
    async def play() -> None:
        async with World(Encoder(rows_a_step), kept, alone_rows) as world:
            watchers = [Watcher(world) for _ in range(WATCHERS)]
            for kind, what in operations:
                if kind in ("set", "move"):
                    world.set(what, moves=kind == "move")
                elif kind == "leave":
                    await watchers[what].leave()
                elif watchers[what].behind:
                    step = await watchers[what].step()
                    if not watchers[what].behind and step["as_of_ms"]:
                        assert watchers[what].rows == world.rows()
            for watcher in watchers:
                await watcher.catch_up()
                assert watcher.rows == world.rows()
                await watcher.leave()

    asyncio.run(play())


def test_a_step_is_made_once_for_all_watchers_of_the_same_views() -> None:
    async def play() -> None:
        async with World(Encoder()) as world:
            world.set(dict.fromkeys(KEYS, 1))
            watchers = [Watcher(world) for _ in range(50)]
            await asyncio.gather(*(watcher.catch_up() for watcher in watchers))
            assert world.encoder.made == {"reset": 1, "chunk": 2, "end": 1}
            for value in (2, 3):
                world.set({KEYS[0]: value}, urgent_s=float(value))
                await asyncio.gather(*(watcher.catch_up() for watcher in watchers))
            assert world.encoder.made["delta"] == 2
            assert all(watcher.rows == world.rows() for watcher in watchers)
            assert world.observer.waited == [Waited(2.0, None)] * 50 + [Waited(3.0, None)] * 50
            for watcher in watchers:
                await watcher.leave()

    asyncio.run(play())


def test_a_slow_watcher_gets_the_latest_rows_once_and_holds_nobody_up() -> None:
    async def play() -> None:
        async with World(Encoder()) as world:
            world.set(dict.fromkeys(KEYS, 0))
            slow, quick = Watcher(world), Watcher(world)
            await slow.catch_up()
            for value in range(1, 101):
                world.set({KEYS[value % 2]: value}, urgent_s=float(value))
                await quick.catch_up()
                assert quick.rows == world.rows()

            slow.kinds.clear()
            world.observer.waited.clear()
            step = await slow.step()

            assert step["upserts"] == {key: world.rows()[key] for key in KEYS[:2]}
            assert slow.rows == world.rows()
            # It waited since the first change that it missed.
            assert world.observer.waited == [Waited(1.0, None)]
            await slow.leave()
            await quick.leave()

    asyncio.run(play())


def test_a_change_too_large_for_one_step_says_only_in_the_last_that_it_is_complete() -> None:
    async def play() -> None:
        async with World(Encoder(rows_a_step=3)) as world:
            watcher = Watcher(world)
            await watcher.catch_up()
            world.set(dict.fromkeys(KEYS, 1))
            steps = [await watcher.step() for _ in range(3)]
            assert [len(step["upserts"]) for step in steps] == [3, 3, 2]
            assert [step["as_of_ms"] for step in steps] == [0, 0, world.as_of_ms]
            # Each can be resumed after.
            late = Watcher(world)
            late.token, late.rows = steps[0]["token"], steps[0]["upserts"]
            await late.catch_up()
            assert late.kinds == ["delta", "delta"]
            assert late.rows == world.rows()
            await watcher.leave()
            await late.leave()

    asyncio.run(play())


def test_a_watcher_for_whom_nothing_is_known_any_more_starts_anew() -> None:
    async def play() -> None:
        async with World(Encoder(), kept_tombstones=0) as world:
            watcher = Watcher(world)
            world.set({KEYS[0]: 1, KEYS[1]: 1})
            await watcher.catch_up()
            world.set({KEYS[0]: None})
            watcher.kinds.clear()
            await watcher.catch_up()
            assert watcher.kinds[0] == "reset"
            assert watcher.rows == world.rows()
            await watcher.leave()

    asyncio.run(play())


def test_a_change_of_other_types_is_no_step() -> None:
    async def play() -> None:
        async with World(Encoder()) as world:
            stream = world.streams.stream([VIEWS[0]], b"")
            assert [(await anext(stream))["kind"] for _ in range(2)] == ["reset", "end"]
            world.set({("room", "r"): 1})
            world.set({("course", "c"): 1})
            step: Any = await anext(stream)
            assert set(step["upserts"]) == {("course", "c")}
            await stream.aclose()

    asyncio.run(play())


def test_an_urgent_change_does_not_wait_for_many_that_only_move() -> None:
    async def play() -> None:
        async with World(Encoder(), alone_rows=2) as world:
            world.set(dict.fromkeys(KEYS, 0))
            watchers = [Watcher(world) for _ in range(3)]
            first, second, third = watchers
            for watcher in watchers:
                await watcher.catch_up()
            before = second.token

            world.set(dict.fromkeys(KEYS, 1), moves=True, moving_s=1.0)
            await first.catch_up()
            world.set({KEYS[0]: None, KEYS[1]: 2}, urgent_s=2.0)
            world.observer.waited.clear()
            step = await second.step()
            assert (list(step["upserts"]), step["gone"]) == ([KEYS[1]], [KEYS[0]])
            # Of the rest it has seen no more than before.
            assert (second.token, step["as_of_ms"]) == (before, 0)
            assert KEYS[0] not in second.rows
            step = await second.step()
            assert step["gone"] == [KEYS[0]]
            assert step["upserts"] == world.rows()
            assert world.observer.waited == [Waited(2.0, None), Waited(None, 1.0)]

            # To who comes back the same is told, with what moved meanwhile.
            await third.leave()
            world.set(dict.fromkeys(KEYS[2:], 3), moves=True)
            third.kinds.clear()
            await third.catch_up()
            assert third.kinds == ["delta", "delta"]
            for watcher in watchers:
                await watcher.catch_up()
                assert watcher.rows == world.rows()
                await watcher.leave()

    asyncio.run(play())


def test_what_was_told_alone_is_not_taken_back_by_a_step_made_before() -> None:
    async def play() -> None:
        async with World(Encoder(), alone_rows=2) as world:
            world.set(dict.fromkeys(KEYS, 0))
            first, second = Watcher(world), Watcher(world)
            await first.catch_up()
            await second.catch_up()
            world.set(dict.fromkeys(KEYS, 1), moves=True)
            await first.catch_up()
            world.set({KEYS[0]: None})
            while second.behind:
                await second.step()
                assert KEYS[0] not in second.rows
            await first.leave()
            await second.leave()

    asyncio.run(play())


def test_what_only_moves_is_gathered_for_longer_while_watchers_are_late() -> None:
    async def play() -> None:
        async with World(Encoder()) as world:
            world.set({KEYS[0]: 1})
            assert world.hub.moving_interval_s == MOVING_INTERVAL_S
            world.streams._turns._behind_since_s = time.monotonic() - MOST_INTERVAL_S
            world.set({KEYS[0]: 2}, moves=True)
            assert world.hub.moving_interval_s == MOST_INTERVAL_S

    asyncio.run(play())
