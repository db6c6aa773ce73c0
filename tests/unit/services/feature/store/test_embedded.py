"""What only the embedded store promises; what every store does is in ``test_contract``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from services.common.errors import Unavailable
from services.feature.store.embedded import EmbeddedStore
from services.feature.store.protocol import Claim


@pytest.fixture
def store(tmp_path: Path) -> Iterator[EmbeddedStore]:
    store = EmbeddedStore(tmp_path)
    yield store
    store.close()


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
        assert (view.position(), view.last_record()) == (7, (7, b"digest"))
        assert view.state("course", "c") == b"whole"


def test_a_view_does_not_see_later_writes(store: EmbeddedStore) -> None:
    with store.read() as view:
        with store.write() as transaction:
            transaction.put_position(7, b"")
        assert view.position() == 0


def test_event_ids_are_found_on_their_day_until_forgotten(store: EmbeddedStore) -> None:
    with store.write() as transaction:
        transaction.claim([Claim("old", 100, b"1", 0)])
        transaction.claim([Claim("new", 107, b"2", 0)])
    with store.read() as view:
        assert view.fingerprints(["old"], range(107, 99, -1)) == {"old": b"1"}
        assert view.fingerprints(["old"], range(107, 100, -1)) == {}
        assert view.fingerprints(["new"], range(107, 99, -1)) == {"new": b"2"}

    with store.write() as transaction:
        transaction.forget_fingerprints(before_day=101, limit=10)
    with store.read() as view:
        assert view.fingerprints(["old"], range(107, 99, -1)) == {}
        assert view.fingerprints(["new"], range(107, 99, -1)) == {"new": b"2"}


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
