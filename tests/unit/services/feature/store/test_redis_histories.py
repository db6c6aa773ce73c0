"""Histories that change hands, and end, in a real Redis that is cut off at any command."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

from hypothesis import given
from redis import Redis

from podium.event.v1.event_pb2 import LoggedEvent
from services.feature.applying.apply import Applier
from services.feature.definitions import pair_id
from services.feature.rows.rows import Row, decoded, row_readers
from services.feature.states.key_state import KeyState
from services.feature.store.embedded import EmbeddedStore
from services.feature.store.protocol import FeatureStore
from services.feature.store.redis import connect
from tests.support.alias_streams import USER_KEYS, aliased_streams, erasure_event, pairs_domain
from tests.support.feature_streams import START_MS, interaction, logged
from tests.support.redis_applying import (
    CutOff,
    Follower,
    cuts,
    examples,
    fixed_clock,
    redis_store,
    sizes,
    with_one_id_each,
    write_log,
)
from tests.support.redis_servers import RedisServer

DOMAIN = pairs_domain()
COURSES = ("c1", "c2", "c3")
KEYS = [
    *(("user", user) for user in USER_KEYS),
    *(("likes", pair_id(user, course)) for user in USER_KEYS for course in COURSES),
    *(("course", course) for course in COURSES),
]
_names = itertools.count()


def _rows(store: FeatureStore, log: Sequence[LoggedEvent]) -> dict[tuple[str, str], Row]:
    readers = row_readers(DOMAIN)
    t_ms = log[-1].arrival_time.ToMilliseconds()
    with store.read() as view:

        def read(entity: str, identity: str) -> KeyState | None:
            return decoded(view.state(entity, identity))

        return {
            (entity, identity): readers[entity].row(
                read(entity, identity), t_ms, identity=identity, read=read
            )
            for entity, identity in KEYS
        }


def _embedded_rows(log: Sequence[LoggedEvent]) -> dict[tuple[str, str], Row]:
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(EmbeddedStore(Path(directory))) as store,
    ):
        applier = Applier(DOMAIN, store, fixed_clock)
        applier.prepare(Path(directory))
        applier.apply([(r.arrival, r.SerializeToString()) for r in log])
        return _rows(store, log)


@examples
@given(log=aliased_streams(erased=True), cuts=cuts, sizes=sizes)
def test_interrupted_anywhere_they_come_to_the_same(
    single: RedisServer, log: list[LoggedEvent], cuts: dict[int, str], sizes: list[int]
) -> None:
    log = with_one_id_each(log)
    servers = CutOff(connect(single.url, cluster=False, timeout_s=5), dict(cuts))
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(redis_store(servers, f"histories{next(_names)}", DOMAIN)) as store,
    ):
        write_log(Path(directory), log)
        follower = Follower(Applier(DOMAIN, store, fixed_clock), log, Path(directory))
        for size in itertools.cycle(sizes):
            follower.step(size)
            if follower.is_done:
                break
        servers.cuts.clear()
        assert _rows(store, log) == _embedded_rows(log)


def test_no_key_and_no_value_names_who_was_erased(single: RedisServer, tmp_path: Path) -> None:
    who = "p1.annannannannannannannann"
    log = [
        logged(0, interaction("a", "click", START_MS, who, "course:c1"), START_MS),
        logged(1, erasure_event("x", who), START_MS),
        logged(2, interaction("b", "click", START_MS, "bob", "course:c1"), START_MS),
    ]
    servers = connect(single.url, cluster=False, timeout_s=5)
    with closing(redis_store(servers, "erased", DOMAIN)) as store:
        write_log(tmp_path, log)
        applier = Applier(DOMAIN, store, fixed_clock)
        applier.prepare(tmp_path)
        for record in log:
            applier.apply([(record.arrival, record.SerializeToString())])
        with closing(single.client()) as client:
            held = [repr((key, _content(client, key))) for key in client.scan_iter(count=1_000)]
    assert [text for text in held if "bob" in text]
    assert not [text for text in held if who in text]


def _content(client: Redis, key: bytes) -> object:
    match client.type(key):
        case b"string":
            return client.get(key)
        case b"hash":
            return client.hgetall(key)
        case b"list":
            return client.lrange(key, 0, -1)
        case b"set":
            return client.smembers(key)
        case kind:
            raise AssertionError(kind)
