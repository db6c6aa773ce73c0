"""What every store must do, over real servers: LMDB, Redis, Redis Cluster."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from services.feature.definitions import pair_id
from services.feature.store.embedded import EmbeddedStore
from services.feature.store.protocol import Change, Claim, FeatureStore
from services.feature.store.redis import RedisStore, connect
from tests.support.redis_servers import RedisServer

KINDS = ("embedded", "redis", "cluster")
SCHEMA = "schema"
LISTED = frozenset({"course", "room", "roomy", "host"})

_prefixes = itertools.count()
Opener = Callable[[], FeatureStore]


@pytest.fixture(params=KINDS)
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens one and the same store each time."""
    opened: list[FeatureStore] = []
    kind: str = request.param
    prefix = f"test{next(_prefixes)}"

    def open_embedded() -> FeatureStore:
        for store in opened:
            store.close()
        opened[:] = [EmbeddedStore(tmp_path)]
        return opened[0]

    def open_redis() -> FeatureStore:
        if kind == "redis":
            single: RedisServer = request.getfixturevalue("single")
            servers = connect(single.url, cluster=False, timeout_s=5)
        else:
            nodes: list[RedisServer] = request.getfixturevalue("cluster")
            servers = connect(nodes[1].url, cluster=True, timeout_s=5)
        store = RedisStore(servers, name=prefix, log_id="a" * 16, listed=LISTED)
        opened.append(store)
        return store

    yield open_embedded if kind == "embedded" else open_redis
    for store in opened:
        store.close()


@pytest.fixture
def store(opener: Opener) -> FeatureStore:
    return opener()


def test_a_new_store_is_empty(store: FeatureStore) -> None:
    with store.read() as view:
        assert (view.position(), view.schema(), view.last_record()) == (0, "", (0, b""))
        assert view.state("course", "c") is None
        assert view.states_at([("course", "c"), ("user", "u")]) == [None, None]
        assert view.moment([("course", "c"), ("user", "u")]) == (0, [None, None])
        assert view.moment([]) == (0, [])
        assert view.fingerprints(["e"], range(10)) == {}
        assert view.changes(0, 10) == []
        assert view.next_sequences() == {}
        assert list(view.states("course")) == []
    with store.write() as transaction:
        assert transaction.position() == 0
        assert transaction.ledger("p") is None
        assert transaction.folded_through("course", "c") == 0


def test_a_transaction_that_fails_changes_nothing(store: FeatureStore) -> None:
    def fail_half_way() -> None:
        with store.write() as transaction:
            transaction.put_state("course", "c", b"half")
            transaction.put_ledger("p", b"half")
            transaction.put_position(7, b"digest")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with store.read() as view:
        assert (view.position(), view.state("course", "c")) == (0, None)
    with store.write() as transaction:
        assert transaction.ledger("p") is None


def test_what_a_transaction_wrote_is_there_after_a_reopening(opener: Opener) -> None:
    store = opener()
    with store.write() as transaction:
        transaction.clear(SCHEMA)
        transaction.put_state("course", "c", b"whole")
        transaction.put_state("user", "ü\0\n", b"")
        transaction.put_ledger("p", b"ledger")
        transaction.put_next_sequence("spool", 4)
        transaction.put_position(7, b"digest")

    store = opener()
    with store.read() as view:
        assert (view.position(), view.last_record()) == (7, (7, b"digest"))
        assert view.schema() == SCHEMA
        keys = [("user", "ü\0\n"), ("course", "missing"), ("course", "c")]
        assert view.states_at(keys) == [b"", None, b"whole"]
        assert view.next_sequences() == {"spool": 4}
    with store.write() as transaction:
        transaction.prefetch([("course", "c")], ["p"])
        assert transaction.ledger("p") == b"ledger"
        assert transaction.state("course", "c") == b"whole"


def test_a_transaction_sees_what_it_wrote(store: FeatureStore) -> None:
    with store.write() as transaction:
        transaction.put_ledger("p", b"one")
        assert transaction.ledger("p") == b"one"
        transaction.put_ledger("p", b"two")
        transaction.put_state("course", "c", b"state")
        assert transaction.state("course", "c") == b"state"
        transaction.put_position(1, b"")
    with store.write() as transaction:
        assert transaction.ledger("p") == b"two"


def test_positions_rise_and_states_hold_what_is_before_them(store: FeatureStore) -> None:
    for position in (3, 4, 9):
        with store.write() as transaction:
            held = transaction.folded_through("course", "c")
            assert held <= transaction.position() < position
            transaction.put_state("course", "c", str(position).encode())
            transaction.put_position(position, b"")
        with store.read() as view:
            assert view.position() == position
            assert view.state("course", "c") == str(position).encode()
            assert view.moment([("course", "c")]) == (position, [str(position).encode()])


def test_states_are_listed_by_type(store: FeatureStore) -> None:
    with store.write() as transaction:
        for entity, identity in (("room", "b"), ("room", "a"), ("roomy", "x"), ("course", "é")):
            transaction.put_state(entity, identity, identity.encode())
        transaction.put_position(1, b"")

    with store.read() as view:
        assert list(view.states("room")) == [("a", b"a"), ("b", b"b")]
        assert list(view.states("course")) == [("é", "é".encode())]
        assert list(view.states("host")) == []


def test_pairs_are_found_by_their_first_member(store: FeatureStore) -> None:
    ann, annie = pair_id("ann", "h1"), pair_id("annie", "h1")
    with store.write() as transaction:
        for identity in (ann, annie, pair_id("ann", "h2")):
            transaction.put_state("likes", identity, b"1")
        transaction.put_state("knows", ann, b"2")
        assert transaction.pairs_of("likes", "ann") == [ann, pair_id("ann", "h2")]
        transaction.put_position(1, b"")
    with store.write() as transaction:
        assert transaction.pairs_of("likes", "ann") == [ann, pair_id("ann", "h2")]
        assert transaction.pairs_of("likes", "annie") == [annie]
        assert transaction.pairs_of("knows", "ann") == [ann]
        assert transaction.pairs_of("likes", "nobody") == []


def test_ledgers_are_found_by_what_is_in_them(store: FeatureStore) -> None:
    with store.write() as transaction:
        transaction.put_ledger("p1", b"of ann")
        transaction.put_ledger("p2", b"of bob")
        transaction.put_ledger("p:r:3", b"of ann, too")
        assert sorted(transaction.ledgers_with(b"ann")) == [
            ("p1", b"of ann"),
            ("p:r:3", b"of ann, too"),
        ]
        transaction.put_position(1, b"")
    with store.write() as transaction:
        transaction.put_ledger("p1", b"of nobody")
        assert transaction.ledgers_with(b"ann") == [("p:r:3", b"of ann, too")]
        assert transaction.ledgers_with(b"carol") == []


def test_a_removed_state_is_gone(store: FeatureStore) -> None:
    keys = [("likes", pair_id("ann", "h1")), ("course", "c1"), ("user", "ann")]
    with store.write() as transaction:
        for key in keys:
            transaction.put_state(*key, b"1")
        transaction.put_position(1, b"")
    with store.write() as transaction:
        for key in (*keys, ("user", "nobody")):
            transaction.delete_state(*key)
        assert [transaction.state(*key) for key in keys] == [None] * 3
        assert transaction.pairs_of("likes", "ann") == []
        transaction.put_position(2, b"")
    with store.write() as transaction:
        assert [transaction.state(*key) for key in keys] == [None] * 3
        assert transaction.pairs_of("likes", "ann") == []
        assert list(transaction.states("course")) == []
        # What is gone can come again.
        transaction.put_state(*keys[0], b"2")
        transaction.put_position(3, b"")
    with store.write() as transaction:
        assert transaction.pairs_of("likes", "ann") == [keys[0][1]]


def test_many_states_are_read_and_listed(store: FeatureStore) -> None:
    with store.write() as transaction:
        for number in range(1_500):
            transaction.put_state("course", f"c{number:04}", str(number).encode())
        transaction.put_position(1, b"")

    with store.read() as view:
        listed = list(view.states("course"))
        assert listed == [(f"c{number:04}", str(number).encode()) for number in range(1_500)]
        keys = [("course", identity) for identity, _ in reversed(listed)]
        assert view.states_at(keys) == [data for _, data in reversed(listed)]
        assert view.moment([*keys, *keys]) == (1, [data for _, data in reversed(listed)] * 2)


def test_event_ids_are_remembered_with_their_content(store: FeatureStore) -> None:
    with store.write() as transaction:
        claims = [Claim("a", 100, b"1", 0), Claim("b", 100, b"2", 1)]
        assert list(transaction.claim(claims)) == [True, True]
        # The same records again, as after a crash.
        assert list(transaction.claim(claims)) == [True, True]
        assert list(transaction.claim([])) == []
    with store.read() as view:
        found = view.fingerprints(["b", "c", "a"], range(107, 99, -1))
        assert dict(found) == {"a": b"1", "b": b"2"}
        assert dict(view.fingerprints([], range(107, 99, -1))) == {}


def test_only_the_latest_changes_are_kept(store: FeatureStore) -> None:
    batches = [
        [("course", "a", True), ("course", "b", False)],
        [("room", "c", True), ("room", "d", False)],
    ]
    for number, changes in enumerate(batches, 1):
        with store.write() as transaction:
            transaction.add_changes(changes, keep=3)
            transaction.put_position(number, b"")

    with store.read() as view:
        end = view.next_change()
        kept = [
            Change(end - 3, "course", "b", False),
            Change(end - 2, "room", "c", True),
            Change(end - 1, "room", "d", False),
        ]
        assert view.changes(0, 2) == kept[:2]
        assert view.changes(end - 2, 9) == kept[1:]
        assert view.changes(end, 9) == []


def test_clearing_leaves_only_the_schema(store: FeatureStore) -> None:
    for _ in range(2):
        with store.write() as transaction:
            transaction.clear(SCHEMA)
    with store.write() as transaction:
        transaction.put_state("course", "c", b"x")
        transaction.put_ledger("p", b"x")
        transaction.put_next_sequence("spool", 4)
        transaction.claim([Claim("e", 100, b"1", 0)])
        transaction.add_changes([("course", "c", True)], keep=9)
        transaction.put_position(3, b"x")
    with store.write() as transaction:
        transaction.clear(SCHEMA)
        assert transaction.position() == 0

    with store.read() as view:
        assert (view.schema(), view.position(), view.changes(0, 9)) == (SCHEMA, 0, [])
        assert view.fingerprints(["e"], [100]) == {}
        assert view.next_sequences() == {}
        assert list(view.states("course")) == []


@settings(
    max_examples=25,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=[Phase.explicit, Phase.reuse, Phase.generate],
)
@given(
    batches=st.lists(
        st.dictionaries(
            st.tuples(st.sampled_from(["course", "room", "user"]), st.text(max_size=3)),
            st.binary(max_size=20),
            max_size=6,
        ),
        max_size=6,
    )
)
def test_a_store_holds_what_was_written_last(
    opener: Opener, batches: list[dict[tuple[str, str], bytes]]
) -> None:
    store = opener()
    with store.write() as transaction:
        transaction.clear(SCHEMA)
        transaction.clear(SCHEMA)
    expected: dict[tuple[str, str], bytes] = {}
    for number, batch in enumerate(batches, 1):
        with store.write() as transaction:
            transaction.prefetch(batch.keys(), [])
            for key, data in batch.items():
                assert transaction.state(*key) == expected.get(key)
                transaction.put_state(*key, data)
            transaction.put_position(number, b"")
        expected |= batch
    with store.read() as view:
        keys = sorted(expected)
        assert view.states_at(keys) == [expected[key] for key in keys]
        assert view.moment(keys) == (len(batches), [expected[key] for key in keys])
        for entity in ("course", "room"):
            listed = sorted((i, data) for (kind, i), data in expected.items() if kind == entity)
            assert sorted(view.states(entity)) == listed
