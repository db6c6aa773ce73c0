"""Applying logs to a real Redis: cut off at any command, by two at a time, on a server that forgot.

What is served must be what an embedded store gives, where a transaction is whole or nothing.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from podium.event.v1.event_pb2 import LoggedEvent
from services.common.domain import Domain
from services.common.errors import FailedPrecondition, Unavailable
from services.common.log_marks import read_duplicate_marks
from services.feature.applying.apply import Applier
from services.feature.rows.rows import Row, decoded, row_readers
from services.feature.store.embedded import EmbeddedStore
from services.feature.store.protocol import FeatureStore
from services.feature.store.redis import connect
from tests.support.feature_streams import (
    START_MS,
    domain_with,
    domains,
    interaction,
    logged,
    purchase_event,
    refund_event,
    streams,
    upsert_event,
)
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
from tests.support.redis_servers import RedisServer, redis_cluster, redis_server

COUNTS = {
    "clicks": {"kind": "count", "events": ["click"]},
    "bought": {"kind": "count", "events": ["purchase"]},
    "spent": {"kind": "sum", "events": ["purchase"], "value": "amount_minor"},
}
COUNTED = domain_with(
    {n: {**of, "entities": ["user", "course"], "window": "1d"} for n, of in COUNTS.items()}
)


def categorised() -> Domain:
    """The same, and for the category that a course has when an event comes."""
    parts = COUNTED.model_dump(exclude_none=True, exclude_defaults=True)
    parts["entities"]["course"]["attributes"]["category"] = "string"
    parts["entities"]["category"] = {"derived_from": {"course": "category"}}
    for name in COUNTS:
        parts["features"][name]["entities"].append("category")
    return Domain.model_validate(parts)


CATEGORIES = ("law", "dance")
"""Their partitions are among the first half, that of course c1 is not."""

KEYS = [
    *(("user", name) for name in ("ann", "bob", "nobody")),
    *(("course", name) for name in ("c1", "c2", "c3")),
    *(("room", name) for name in ("r1", "r2")),
    *(("category", name) for name in CATEGORIES),
]

_names = itertools.count()


def rows(
    domain: Domain, store: FeatureStore, log: Sequence[LoggedEvent]
) -> dict[tuple[str, str], Row]:
    """Rows of all keys when the last record of a log had arrived."""
    readers = row_readers(domain)
    t_ms = max((r.arrival_time.ToMilliseconds() for r in log), default=START_MS)
    with store.read() as view:
        return {
            (entity, identity): readers[entity].row(
                decoded(view.state(entity, identity)), t_ms, identity=identity
            )
            for entity, identity in KEYS
            if entity in readers and not _has_pairs(readers[entity])
        }


def _has_pairs(reader: Any) -> bool:
    return any(column.kind == "pairs" for column in reader.columns)


def embedded_rows(domain: Domain, log: Sequence[LoggedEvent]) -> dict[tuple[str, str], Row]:
    with (
        tempfile.TemporaryDirectory() as directory,
        closing(EmbeddedStore(Path(directory))) as store,
    ):
        applier = Applier(domain, store, fixed_clock)
        applier.prepare(Path(directory))
        if log:
            applier.apply([(r.arrival, r.SerializeToString()) for r in log])
        return rows(domain, store, log)


@examples
@given(domain=domains(), log=streams(), cuts=cuts, sizes=sizes)
def test_a_log_applied_with_interruptions_gives_the_same(
    single: RedisServer,
    domain: Domain,
    log: list[LoggedEvent],
    cuts: dict[int, str],
    sizes: list[int],
) -> None:
    log = with_one_id_each(log)
    check_interrupted(single, domain, log, cuts, sizes)


@pytest.mark.parametrize("cut", ["before", "first half", "second half", "after"])
def test_what_an_event_leads_to_is_the_same_wherever_applying_is_cut_off(
    single: RedisServer, cut: str
) -> None:
    bought = purchase_event("bought", START_MS - 2_000, 100, "ann", "course:c1")
    log = [logged(0, bought, START_MS)]
    for number in range(1, 17):
        event_id, time_ms = f"e{number}", START_MS - 1_000 + number
        if number in (1, 4, 9, 13):
            category = CATEGORIES[number % 2]
            event = upsert_event(event_id, time_ms, "course:c1", category=category)
        elif number in (6, 11):
            event = refund_event(event_id, time_ms, 50, bought)
        else:
            event = interaction(event_id, "click", time_ms, "ann", "course:c1")
        log.append(logged(number, event, START_MS))
    domain = categorised()
    counts = embedded_rows(domain, log)
    assert counts["category", "law"] != counts["category", "dance"]

    for call in range(4, 28):
        check_interrupted(single, domain, log, {call: cut}, [8, 5, 3])


def check_interrupted(
    server: RedisServer,
    domain: Domain,
    log: list[LoggedEvent],
    cuts: dict[int, str],
    sizes: list[int],
) -> None:
    servers = CutOff(connect(server.url, cluster=False, timeout_s=5), dict(cuts))
    with tempfile.TemporaryDirectory() as directory:
        write_log(Path(directory), log)
        with closing(redis_store(servers, f"cut{next(_names)}", domain)) as store:
            follower = Follower(Applier(domain, store, fixed_clock), log, Path(directory))
            following = itertools.cycle(sizes)
            while not follower.is_done:
                follower.step(next(following))
            servers.cuts.clear()
            assert rows(domain, store, log) == embedded_rows(domain, log)
            assert not read_duplicate_marks(Path(directory))


@st.composite
def two_logs(draw: st.DrawFn) -> tuple[list[LoggedEvent], list[LoggedEvent]]:
    """Two logs of clicks, purchases and their refunds; some events are in both."""
    bought = [
        purchase_event(f"buy{n}", START_MS - 900 + n, 100, user, course)
        for n, (user, course) in enumerate(
            [("ann", "course:c1"), ("bob", "course:c1"), ("ann", "course:c2")]
        )
    ]
    back = [refund_event(f"back{n}", START_MS - 500 + n, 50, bought[n % 3]) for n in range(6)]
    clicks = [
        interaction(f"click{n}", "click", START_MS - 100 + n, "ann", f"course:c{n % 3}")
        for n in range(10)
    ]
    events = draw(st.permutations([*bought, *back, *clicks]))
    where = draw(
        st.lists(
            st.sampled_from(["first", "second", "both"]),
            min_size=len(events),
            max_size=len(events),
        )
    )
    logs: list[list[LoggedEvent]] = []
    for name in ("first", "second"):
        mine = [e for e, place in zip(events, where, strict=True) if place in (name, "both")]
        logs.append([logged(n, event, START_MS) for n, event in enumerate(mine)])
    return logs[0], logs[1]


@examples
@given(logs=two_logs(), sizes=st.tuples(st.integers(1, 9), st.integers(1, 9)), cuts=cuts)
def test_two_appliers_of_the_same_keys_lose_and_double_nothing(
    single: RedisServer,
    logs: tuple[list[LoggedEvent], list[LoggedEvent]],
    sizes: tuple[int, int],
    cuts: dict[int, str],
) -> None:
    name = f"two{next(_names)}"
    with tempfile.TemporaryDirectory() as directory:
        followers = []
        # The first is cut off now and then, and between any two of its calls the second may act.
        slow = CutOff(connect(single.url, cluster=False, timeout_s=5), dict(cuts))
        quick = connect(single.url, cluster=False, timeout_s=5)
        for servers, log, log_id in ((slow, logs[0], "1" * 16), (quick, logs[1], "2" * 16)):
            log_dir = Path(directory) / log_id
            write_log(log_dir, log)
            store = redis_store(servers, name, COUNTED, log_id)
            followers.append(Follower(Applier(COUNTED, store, fixed_clock), log, log_dir))
        first, second = followers

        def act(call: int) -> None:
            if call % 3 == 0 and not second.is_done:
                second.step(sizes[1])

        slow.before_call = act
        while not (first.is_done and second.is_done):
            first.step(sizes[0])
            if first.is_done:
                second.step(sizes[1])
        slow.before_call = lambda _: None
        slow.cuts.clear()

        together = {r.event.event_id: r.event for log in logs for r in log}
        merged = [logged(n, event, START_MS) for n, event in enumerate(together.values())]
        with closing(redis_store(quick, name, COUNTED, "3" * 16)) as store:
            assert rows(COUNTED, store, merged) == embedded_rows(COUNTED, merged)
        kept = [
            record.event.event_id
            for follower in followers
            for record in follower.log
            if record.arrival not in read_duplicate_marks(follower.log_dir)
        ]
        assert sorted(kept) == sorted(together)
        slow.close()


def numbered(count: int) -> list[LoggedEvent]:
    return [
        logged(
            n,
            interaction(f"e{n}", "click", START_MS - 1, ("ann", "bob")[n % 2], f"course:c{n % 3}"),
            START_MS,
        )
        for n in range(count)
    ]


def test_a_log_that_lost_records_is_refused(single: RedisServer, tmp_path: Path) -> None:
    log = numbered(20)
    write_log(tmp_path / "whole", log)
    write_log(tmp_path / "short", log[:10])
    name = f"short{next(_names)}"
    with closing(
        redis_store(connect(single.url, cluster=False, timeout_s=5), name, COUNTED)
    ) as store:
        follower = Follower(Applier(COUNTED, store, fixed_clock), log, tmp_path / "whole")
        follower.step(20)

        with pytest.raises(FailedPrecondition, match="restore the log") as refused:
            Applier(COUNTED, store, fixed_clock).prepare(tmp_path / "short")
        assert refused.value.reason == "LOG_DIVERGED"
        assert Applier(COUNTED, store, fixed_clock).prepare(tmp_path / "whole") == 20


def test_the_last_log_to_leave_a_store_removes_it(tmp_path: Path) -> None:
    log = numbered(20)
    with redis_server(tmp_path / "redis") as server, server.client() as client:
        stores = []
        for log_id in ("1" * 16, "2" * 16):
            servers = connect(server.url, cluster=False, timeout_s=5)
            store = redis_store(servers, "left", COUNTED, log_id)
            log_dir = tmp_path / log_id
            write_log(log_dir, log)
            Follower(Applier(COUNTED, store, fixed_clock), log, log_dir).step(20)
            stores.append(store)

        stores[0].leave()
        assert rows(COUNTED, stores[1], log) == embedded_rows(COUNTED, log)
        # Who comes back goes on where it was.
        servers = connect(server.url, cluster=False, timeout_s=5)
        back = redis_store(servers, "left", COUNTED, "1" * 16)
        assert Applier(COUNTED, back, fixed_clock).prepare(tmp_path / ("1" * 16)) == 20
        stores[1].leave()
        assert client.dbsize() > 0
        back.leave()
        assert client.dbsize() == 0
        for store in (*stores, back):
            store.close()


def test_a_server_that_forgot_its_last_writes_gets_them_again(tmp_path: Path) -> None:
    log = numbered(30)
    write_log(tmp_path / "log", log)
    with redis_server(tmp_path / "redis") as server:
        store = redis_store(connect(server.url, cluster=False, timeout_s=5), "forgets", COUNTED)
        reader = redis_store(connect(server.url, cluster=False, timeout_s=5), "forgets", COUNTED)
        with closing(store), closing(reader), server.client() as client:
            follower = Follower(Applier(COUNTED, store, fixed_clock), log, tmp_path / "log")
            follower.step(10)
            remembered = {key: client.dump(key) for key in client.scan_iter()}
            follower.step(10)
            with reader.read() as view:
                assert view.states_at([("user", "ann")]) != [None]
            client.flushall()
            for key, value in remembered.items():
                assert isinstance(value, bytes)
                client.restore(key, 0, value)
            # Who saw more is not given less.
            with reader.read() as view, pytest.raises(Unavailable, match="filled again"):
                view.states_at([("user", "ann")])

            while not follower.is_done:
                follower.step(10)

            assert rows(COUNTED, store, log) == embedded_rows(COUNTED, log)


def test_a_node_that_lost_everything_is_filled_again(tmp_path: Path) -> None:
    log = numbered(60)
    write_log(tmp_path / "log", log)
    with redis_cluster(tmp_path / "cluster") as servers:
        store = redis_store(connect(servers[0].url, cluster=True, timeout_s=5), "node", COUNTED)
        with closing(store):
            follower = Follower(Applier(COUNTED, store, fixed_clock), log, tmp_path / "log")
            follower.step(30)
            follower.step(10)
            with servers[1].client() as client:
                client.flushall()
            while not follower.is_done:
                follower.step(10)

            with store.write() as transaction:
                assert transaction.position() == len(log)
            assert rows(COUNTED, store, log) == embedded_rows(COUNTED, log)
            assert not read_duplicate_marks(tmp_path / "log")


def test_a_cluster_that_moved_slots_is_found_again(tmp_path: Path) -> None:
    log = numbered(40)
    write_log(tmp_path / "log", log)
    with redis_cluster(tmp_path / "cluster") as servers:
        store = redis_store(connect(servers[0].url, cluster=True, timeout_s=5), "moved", COUNTED)
        with closing(store):
            follower = Follower(Applier(COUNTED, store, fixed_clock), log, tmp_path / "log")
            follower.step(20)
            move_slots(servers[0], servers[2])
            while not follower.is_done:
                follower.step(20)

            assert rows(COUNTED, store, log) == embedded_rows(COUNTED, log)


def move_slots(source: RedisServer, target: RedisServer) -> None:
    """Moves all slots that hold keys from one node to another."""
    with source.client() as old, target.client() as new:
        target_id = new.execute_command("CLUSTER MYID").decode()
        source_id = old.execute_command("CLUSTER MYID").decode()
        held: dict[int, list[bytes]] = {}
        for key in old.scan_iter():
            held.setdefault(old.execute_command("CLUSTER KEYSLOT", key), []).append(key)
        for slot, keys in held.items():
            new.execute_command("CLUSTER SETSLOT", slot, "IMPORTING", source_id)
            old.execute_command("CLUSTER SETSLOT", slot, "MIGRATING", target_id)
            old.execute_command("MIGRATE", "127.0.0.1", target.port, "", 0, 5_000, "KEYS", *keys)
            for node in (new, old):
                node.execute_command("CLUSTER SETSLOT", slot, "NODE", target_id)
