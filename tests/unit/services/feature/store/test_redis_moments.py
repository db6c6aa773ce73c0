"""Rows read from a real Redis at every step of a batch are those of the position they carry."""

from __future__ import annotations

import asyncio
import itertools
import tempfile
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from podium.event.v1.event_pb2 import LoggedEvent
from services.common.errors import Unavailable
from services.feature.applying.apply import Applier
from services.feature.rows.lookup import FeatureLookup, Lookup
from services.feature.rows.rows import Row, row_readers
from services.feature.store.embedded import EmbeddedStore
from services.feature.store.protocol import FeatureStore
from services.feature.store.redis import STANDING_S, RedisStore, connect, loop_server
from services.feature.store.redis_loop import LoopServer
from services.feature.store.redis_names import Names
from services.feature.store.redis_servers import Command, Servers
from tests.support.alias_streams import pairs_domain
from tests.support.feature_streams import START_MS, interaction, logged
from tests.support.redis_applying import CutOff, Follower, fixed_clock, redis_store, write_log
from tests.support.redis_servers import RedisServer

DOMAIN = pairs_domain()
READERS = row_readers(DOMAIN)
IDS = {"user": ["ann", "bob", "nobody"], "course": ["c0", "c1", "c2", "c3"]}
BATCH = 6
LOG = [
    logged(
        n,
        interaction(
            f"e{n}", "click", START_MS - 100 + n, ("ann", "bob")[n % 2], f"course:c{n * n % 7 % 4}"
        ),
        START_MS,
    )
    for n in range(3 * BATCH)
]

_names = itertools.count()
Rows = Callable[[int, str], list[Row]]


@pytest.fixture(scope="module")
def rows_at() -> Rows:
    """Rows of a type by an embedded store that holds the log up to a position."""
    found: dict[tuple[int, str], list[Row]] = {}
    with tempfile.TemporaryDirectory() as directory:
        for position in range(0, len(LOG) + 1, BATCH):
            at = Path(directory) / str(position)
            with closing(EmbeddedStore(at)) as store:
                applier = Applier(DOMAIN, store, fixed_clock)
                applier.prepare(at)
                if position:
                    applier.apply([(r.arrival, r.SerializeToString()) for r in LOG[:position]])
                for entity in IDS:
                    found[position, entity] = read(store, entity).rows
    return lambda position, entity: found[position, entity]


def read(store: FeatureStore, entity: str) -> Lookup:
    lookup, view = FeatureLookup(store, fixed_clock), READERS[entity].view
    lookup.serve([READERS[entity]])
    return lookup.read(lookup.view(entity, view.name, view.hash), IDS[entity])


def read_soon(store: FeatureStore, entity: str) -> Coroutine[Any, Any, Lookup | None]:
    lookup, view = FeatureLookup(store, fixed_clock), READERS[entity].view
    lookup.serve([READERS[entity]])
    served = lookup.view(entity, view.name, view.hash)
    return lookup.read_soon(served, IDS[entity], compute_at_most=len(IDS[entity]))


def apply_log(store: RedisStore, log: Sequence[LoggedEvent], directory: Path) -> None:
    write_log(directory, log)
    follower = Follower(Applier(DOMAIN, store, fixed_clock), log, directory)
    while not follower.is_done:
        follower.step(BATCH)


def test_between_any_two_steps_of_a_batch(
    single: RedisServer, tmp_path: Path, rows_at: Rows
) -> None:
    servers = connect(single.url, cluster=False, timeout_s=5)
    writing = CutOff(connect(single.url, cluster=False, timeout_s=5))
    name = f"moments{next(_names)}"
    ahead = set()
    with (
        closing(redis_store(servers, name, DOMAIN)) as reader,
        closing(redis_store(writing, name, DOMAIN)) as store,
    ):

        def look(_: int) -> None:
            with reader.read() as view:
                applied_everywhere = view.position()
            for entity in IDS:
                found = read(reader, entity)
                assert found.rows == rows_at(found.position, entity)
                ahead.add(found.position - applied_everywhere)

        writing.before_call = look
        apply_log(store, LOG, tmp_path)
        look(0)
    assert ahead == {0, BATCH}


def test_on_the_event_loop_between_any_two_steps_of_a_batch(
    single: RedisServer, tmp_path: Path, rows_at: Rows
) -> None:
    writing = CutOff(connect(single.url, cluster=False, timeout_s=5))
    name = f"moments{next(_names)}"
    answered, left = set(), 0
    with (
        asyncio.Runner() as loop,
        closing(redis_store(writing, name, DOMAIN)) as store,
    ):
        servers = connect(single.url, cluster=False, timeout_s=5)
        on_loop = loop_server(single.url, timeout_s=5)
        assert on_loop is not None
        reader = redis_store(servers, name, DOMAIN, on_loop=on_loop)

        def look(_: int) -> None:
            nonlocal left
            found = loop.run(read_soon(reader, "course"))
            if found is None:
                left += 1
                return
            assert found.rows == rows_at(found.position, "course")
            answered.add(found.position)

        assert loop.run(read_soon(reader, "course")) is None
        loop.run(connected(on_loop))
        writing.before_call = look
        apply_log(store, LOG, tmp_path)
        look(0)
        # Rows of users list pairs, whose states are known when theirs are.
        assert loop.run(read_soon(reader, "user")) is None

        async def close() -> None:
            reader.close()

        loop.run(close())
    assert answered == set(range(0, len(LOG) + 1, BATCH))
    assert left > 0


async def connected(server: LoopServer) -> None:
    """Returns when the server answers on the loop."""
    while await server.ask(Command(0, ("PING",))) is None:
        await asyncio.sleep(0.01)


def test_what_is_known_is_not_read_again_until_something_is_written(
    single: RedisServer, tmp_path: Path
) -> None:
    name = f"moments{next(_names)}"
    recorder = Replies(connect(single.url, cluster=False, timeout_s=5))
    with closing(redis_store(recorder, name, DOMAIN)) as store:
        apply_log(store, LOG[:-1], tmp_path)
        first = read(store, "course")
        assert recorder.sent() == len(IDS["course"])
        assert read(store, "course").rows == first.rows
        assert recorder.sent() == 0
        store.tend()
        with store.write() as transaction:
            transaction.put_position(*transaction.last_record())
        assert read(store, "course").rows == first.rows
        assert recorder.sent() == 0
        # Of what was not read in this version, only that.
        with store.read() as view:
            found = view.moment([("user", "ann"), ("course", "c0"), ("user", "nobody")])
            assert recorder.sent() == 2
            assert found.states == view.states_at(
                [("user", "ann"), ("course", "c0"), ("user", "nobody")]
            )
        apply_log(store, LOG, tmp_path / "again")
        last = read(store, "course")
        assert recorder.sent() == len(IDS["course"])
        assert last.rows != first.rows
        with store.read() as view:
            keys = [("course", identity) for identity in IDS["course"]] * 200
            assert view.moment(keys).states == view.states_at(keys)


def test_what_another_log_wrote_is_read(single: RedisServer, tmp_path: Path) -> None:
    servers = connect(single.url, cluster=False, timeout_s=5)
    name = f"moments{next(_names)}"
    with (
        closing(redis_store(servers, name, DOMAIN)) as mine,
        closing(redis_store(servers, name, DOMAIN, log_id="b" * 16)) as other,
    ):
        apply_log(mine, LOG[:BATCH], tmp_path / "mine")
        before = read(mine, "course")
        apply_log(other, others_log(), tmp_path / "other")
        after = read(mine, "course")
        assert after.position == before.position
        assert after.rows != before.rows
        with mine.read() as view:
            keys = [("course", identity) for identity in IDS["course"]]
            assert view.moment(keys).states == view.states_at(keys)


def test_an_emptied_server_is_not_answered_for_from_memory(
    single: RedisServer, tmp_path: Path
) -> None:
    servers = connect(single.url, cluster=False, timeout_s=5)
    with closing(redis_store(servers, f"moments{next(_names)}", DOMAIN)) as store:
        apply_log(store, LOG, tmp_path)
        read(store, "course")
        store.leave()
        with pytest.raises(Unavailable, match="filled again"):
            read(store, "course")


def others_log() -> list[LoggedEvent]:
    event = interaction("other", "click", START_MS - 50, "cid", "course:c0")
    return [logged(0, event, START_MS)]


@dataclass
class Recorder:
    """Servers that remember what they were told."""

    servers: Servers
    told: list[Command] = field(default_factory=list)
    single = True

    def run(self, commands: Sequence[Command], *, together: bool = False) -> list[Any]:
        self.told += commands
        return self.servers.run(commands, together=together)

    def keys(self, pattern: bytes) -> Iterator[list[bytes]]:
        return self.servers.keys(pattern)

    def unlink(self, keys: Sequence[bytes]) -> None:
        self.servers.unlink(keys)

    def close(self) -> None:
        self.servers.close()


@dataclass
class Replies(Recorder):
    """Servers that remember the last reply."""

    last: list[Any] = field(default_factory=list)

    def run(self, commands: Sequence[Command], *, together: bool = False) -> list[Any]:
        self.last = super().run(commands, together=together)
        return self.last

    def sent(self) -> int:
        """How many values the reply to a quiet read brought."""
        ((_, _, values),) = self.last
        return len(values)


@dataclass
class Apart(Recorder):
    """Servers that hold a partition each: something may happen between any two commands."""

    between: Callable[[], None] = lambda: None
    single = False

    def run(self, commands: Sequence[Command], *, together: bool = False) -> list[Any]:
        replies = []
        for command in commands:
            self.between()
            replies += super().run([command], together=together)
        return replies


@pytest.mark.parametrize("is_single", [True, False])
@pytest.mark.parametrize("reads_a_write", [1, 2, 5])
def test_where_partitions_are_written_and_read_one_after_another(
    single: RedisServer, tmp_path: Path, rows_at: Rows, reads_a_write: int, is_single: bool
) -> None:
    name = f"moments{next(_names)}"
    recorder = Recorder(connect(single.url, cluster=False, timeout_s=5))
    with closing(redis_store(recorder, name, DOMAIN)) as store:
        apply_log(store, LOG, tmp_path)
        store.leave()
    told = iter(recorder.told)
    servers = connect(single.url, cluster=False, timeout_s=5)
    apart = Apart(connect(single.url, cluster=False, timeout_s=5))
    reads, waits = itertools.count(), itertools.count()

    def write_now_and_then() -> None:
        if next(reads) % reads_a_write == 0:
            servers.run(list(itertools.islice(told, 1)))

    def finish_batch(_: float) -> None:
        next(waits)
        for command in told:
            servers.run([command])
            if command.arguments[0] == "HSET" and b"last_record" in command.arguments:
                break

    apart.between = write_now_and_then
    apart.single = is_single
    seen = set()
    with closing(redis_store(apart, name, DOMAIN, pause=finish_batch)) as store, closing(servers):
        while len(LOG) not in seen:
            for entity in IDS:
                found = read(store, entity)
                assert found.rows == rows_at(found.position, entity)
                seen.add(found.position)
    assert seen == set(range(0, len(LOG) + 1, BATCH))
    assert next(waits) > 0


@dataclass
class Stopping(Recorder):
    """Servers that stop a writer half-way through the partitions."""

    stopping: bool = False

    def run(self, commands: Sequence[Command], *, together: bool = False) -> list[Any]:
        if together and self.stopping:
            super().run(commands[: len(commands) // 2])
            raise Unavailable("stopped", reason="STORE_UNAVAILABLE")
        return super().run(commands, together=together)


def test_a_batch_that_stays_half_written_is_read_with_the_lesser_position(
    single: RedisServer, tmp_path: Path, rows_at: Rows
) -> None:
    name = f"moments{next(_names)}"
    writing = Stopping(connect(single.url, cluster=False, timeout_s=5))
    reading = connect(single.url, cluster=False, timeout_s=5)
    with (
        closing(redis_store(writing, name, DOMAIN)) as store,
        closing(redis_store(reading, name, DOMAIN, pause=lambda _: None)) as reader,
    ):
        write_log(tmp_path, LOG)
        follower = Follower(Applier(DOMAIN, store, fixed_clock), LOG, tmp_path)
        follower.step(BATCH)
        writing.stopping = True
        follower.step(BATCH)
        assert follower.position is None
        found = read(reader, "user")
        assert found.position == BATCH
        assert found.rows != rows_at(BATCH, "user")

        writing.stopping = False
        follower.step(BATCH)
        found = read(reader, "user")
        assert (found.position, found.rows) == (2 * BATCH, rows_at(2 * BATCH, "user"))


def test_a_partition_that_lost_its_states_is_not_taken_for_whole(
    single: RedisServer, tmp_path: Path
) -> None:
    name = f"moments{next(_names)}"
    servers = Apart(connect(single.url, cluster=False, timeout_s=5))
    with closing(redis_store(servers, name, DOMAIN)) as store:
        apply_log(store, LOG, tmp_path)
        ann = (("user", "ann"),)
        with store.read() as view:
            assert view.moment(ann).position == len(LOG)
        names = Names("podium", name, store.log_id)
        partition, state = names.state("user", "ann")
        servers.unlink([state, names.positions(partition)])
        with store.read() as view, pytest.raises(Unavailable, match="filled again"):
            view.moment(ann)


def test_what_was_said_a_moment_ago_is_taken_for_granted(
    single: RedisServer, tmp_path: Path, rows_at: Rows
) -> None:
    writing = connect(single.url, cluster=False, timeout_s=5)
    reading = connect(single.url, cluster=False, timeout_s=5)
    on_loop = loop_server(single.url, timeout_s=5)
    assert on_loop is not None
    now_s = 0.0
    name = f"moments{next(_names)}"
    with asyncio.Runner() as loop, closing(redis_store(writing, name, DOMAIN)) as store:
        reader = redis_store(reading, name, DOMAIN, on_loop=on_loop, monotonic_s=lambda: now_s)

        def position() -> int:
            found = loop.run(read_soon(reader, "course"))
            assert found is not None
            assert found.rows == rows_at(found.position, "course")
            return found.position

        loop.run(connected(on_loop))
        apply_log(store, LOG[:BATCH], tmp_path / "first")
        assert position() == BATCH
        apply_log(store, LOG[: 2 * BATCH], tmp_path / "second")
        assert position() == BATCH
        now_s += STANDING_S
        assert position() == 2 * BATCH
        apply_log(store, LOG, tmp_path / "third")
        assert position() == 2 * BATCH
        # Nobody goes back behind what the process has seen.
        assert read(reader, "user").position == len(LOG)
        assert position() == len(LOG)

        async def close() -> None:
            reader.close()

        loop.run(close())
