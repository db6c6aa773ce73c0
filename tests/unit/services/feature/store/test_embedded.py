"""What every store must do, shown on the embedded one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.errors import Unavailable
from services.feature.store.embedded import EmbeddedStore
from services.feature.store.protocol import Change


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path)
    yield store
    store.close()


def test_a_new_store_is_empty(store: EmbeddedStore) -> None:
    with store.read() as view:
        assert (view.position(), view.schema(), view.last_record()) == (0, "", b"")
        assert view.state("course", "c") is None
        assert view.refunds("p") is None
        assert view.fingerprint("e", range(10)) is None
        assert view.changes(0, 10) == []
        assert view.next_sequences() == {}


def test_a_transaction_commits_all_or_nothing(store: EmbeddedStore) -> None:
    def fail_half_way() -> None:
        with store.write() as transaction:
            transaction.put_state("course", "c", b"half")
            transaction.put_position(7, b"digest")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_half_way()
    with store.read() as view:
        assert (view.position(), view.state("course", "c")) == (0, None)

    with store.write() as transaction:
        transaction.put_state("course", "c", b"whole")
        transaction.put_position(7, b"digest")
    with store.read() as view:
        assert (view.position(), view.last_record()) == (7, b"digest")
        assert view.state("course", "c") == b"whole"


def test_a_view_does_not_see_later_writes(store: EmbeddedStore) -> None:
    with store.read() as view:
        with store.write() as transaction:
            transaction.put_position(7, b"")
        assert view.position() == 0


def test_states_are_listed_by_type(store: EmbeddedStore) -> None:
    with store.write() as transaction:
        for entity, identity in (("room", "b"), ("room", "a"), ("roomy", "x"), ("course", "é")):
            transaction.put_state(entity, identity, identity.encode())

    with store.read() as view:
        assert list(view.states("room")) == [("a", b"a"), ("b", b"b")]
        assert list(view.states("course")) == [("é", "é".encode())]
        assert list(view.states("host")) == []


def test_event_ids_are_found_on_their_day_until_forgotten(store: EmbeddedStore) -> None:
    with store.write() as transaction:
        transaction.put_fingerprint("old", 100, b"1")
        transaction.put_fingerprint("new", 107, b"2")
    with store.read() as view:
        assert view.fingerprint("old", range(107, 99, -1)) == b"1"
        assert view.fingerprint("old", range(107, 100, -1)) is None
        assert view.fingerprint("new", range(107, 99, -1)) == b"2"

    with store.write() as transaction:
        transaction.forget_fingerprints(before_day=101, limit=10)
    with store.read() as view:
        assert view.fingerprint("old", range(107, 99, -1)) is None
        assert view.fingerprint("new", range(107, 99, -1)) == b"2"


def test_only_the_latest_changes_are_kept(store: EmbeddedStore) -> None:
    with store.write() as transaction:
        transaction.add_changes([("course", "a", True), ("course", "b", False)], keep=3)
        transaction.add_changes([("room", "c", True), ("room", "d", False)], keep=3)

    with store.read() as view:
        assert view.next_change() == 4
        assert view.changes(0, 2) == [Change(1, "course", "b", False), Change(2, "room", "c", True)]
        assert view.changes(3, 9) == [Change(3, "room", "d", False)]


def test_clearing_leaves_only_the_schema(store: EmbeddedStore) -> None:
    with store.write() as transaction:
        transaction.put_state("course", "c", b"x")
        transaction.put_refunds("p", b"x")
        transaction.put_position(3, b"x")
        transaction.put_next_sequence("spool", 4)
        transaction.add_changes([("course", "c", True)], keep=9)
        transaction.clear("new")

    with store.read() as view:
        assert (view.schema(), view.position(), view.next_change()) == ("new", 0, 0)
        assert view.state("course", "c") is None
        assert view.refunds("p") is None
        assert view.next_sequences() == {}


def test_what_is_stored_survives_a_reopening(tmp_path: Path) -> None:
    store = EmbeddedStore(tmp_path)
    with store.write() as transaction:
        transaction.put_next_sequence("spool", 4)
    store.close()

    reader = EmbeddedStore(tmp_path, read_only=True)
    with reader.read() as view:
        assert view.next_sequences() == {"spool": 4}
    reader.close()


def test_a_reader_without_a_store_is_told_so(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="no feature store"):
        EmbeddedStore(tmp_path / "missing", read_only=True)


def test_a_damaged_store_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(bytes(range(256)) * 64)
    with pytest.raises(Unavailable, match=r"damaged .* filled again from the log"):
        EmbeddedStore(tmp_path)
