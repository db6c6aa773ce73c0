"""The store on LMDB: one file on the local disk, one writing process, readers beside it.

Commits are synced: without that LMDB can corrupt after a power loss, not merely lag. A process may
open a directory once at a time. A file that has reached ``max_bytes`` is like a full disk: what is
stored can be read, transactions raise ``Unavailable`` (STORE_FULL) until there is room.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lmdb

from services.common.errors import Unavailable
from services.common.files import LOCAL_FILES
from services.feature.definitions import Key, pair_id
from services.feature.store.lmdb_file import check_size
from services.feature.store.protocol import Change, Claim, Moment

MAP_BYTES = 64 << 30
"""Address space reserved; the file grows only as far as it is used."""

STORE_FILE = "data.mdb"
"""What LMDB calls its file in a store's directory."""

TEND_S = 30.0

# The write that reaches the end of a disk is a short one, which LMDB has no other word for.
_SHORT_WRITE = os.strerror(errno.EIO)
_DAMAGE = (
    lmdb.InvalidError,
    lmdb.CorruptedError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)
_TABLES = ("meta", "states", "refunds", "event_ids", "changes", "producers")
_U64 = struct.Struct(">Q")
_DAY = struct.Struct(">I")
_POSITION = b"position"
_LAST_RECORD = b"last_record"
_SCHEMA = b"schema"
_NEXT_CHANGE = b"next_change"


class EmbeddedStore:
    """LMDB store in ``directory``. Raises ``Unavailable`` where a reader finds no store yet, and
    where what lies there is none."""

    shared = False
    log_id = ""
    batch_records = 8_192

    def __init__(
        self,
        directory: Path,
        *,
        read_only: bool = False,
        max_bytes: int = MAP_BYTES,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        if not read_only:
            directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._max_bytes = max_bytes
        self._monotonic_s = monotonic_s
        self._tended_s = monotonic_s()
        check_size(directory / STORE_FILE)
        try:
            self._environment = lmdb.open(
                str(directory),
                map_size=max_bytes,
                max_dbs=len(_TABLES),
                readonly=read_only,
                create=not read_only,
                max_readers=64,
            )
        except _DAMAGE as error:
            raise self._damaged(error) from error
        except lmdb.Error as error:
            raise Unavailable(f"no feature store in {directory}: {error}") from error
        try:
            # A writer that died may have left its reader slots behind.
            self._environment.reader_check()
            self._tables = {
                name: self._environment.open_db(name.encode(), create=not read_only)
                for name in _TABLES
            }
        except _DAMAGE as error:
            self._environment.close()
            raise self._damaged(error) from error
        except lmdb.Error as error:
            self._environment.close()
            raise Unavailable(f"the store in {directory} is not set up: {error}") from error

    @contextmanager
    def read(self) -> Iterator[EmbeddedView]:
        """A consistent view of what is committed."""
        try:
            with self._environment.begin() as transaction:
                yield EmbeddedView(transaction, self._tables)
        except _DAMAGE as error:
            raise self._damaged(error) from error

    async def moment_soon(self, keys: Sequence[Key]) -> Moment | None:
        """A moment; it waits for nothing."""
        with self.read() as view:
            return view.moment(keys)

    @contextmanager
    def write(self) -> Iterator[EmbeddedTransaction]:
        """A transaction; waits for another process's to end."""
        try:
            with self._environment.begin(write=True) as transaction:
                yield EmbeddedTransaction(transaction, self._tables)
        except lmdb.MapFullError as error:
            raise Unavailable(
                f"the feature store in {self._directory} has reached {self._max_bytes} bytes; "
                "raise PODIUM_STORE_MAX_BYTES",
                reason="STORE_FULL",
            ) from error
        except lmdb.DiskError as error:
            raise Unavailable(
                f"the feature store can't be written: {error}", reason="STORE_FULL"
            ) from error
        except _DAMAGE as error:
            raise self._damaged(error) from error
        except lmdb.Error as error:
            if not str(error).endswith(_SHORT_WRITE):
                raise
            raise Unavailable(
                f"the feature store can't be written, the disk is full or fails: {error}",
                reason="STORE_FULL",
            ) from error

    def tend(self) -> None:
        """Frees what readers that died have left, now and then: what they read can't be freed."""
        if self._monotonic_s() - self._tended_s >= TEND_S:
            self._tended_s = self._monotonic_s()
            self._environment.reader_check()

    def check(self) -> None:
        """Reads every entry. Raises ``Unavailable`` (STORE_DAMAGED)."""
        try:
            with self._environment.begin() as transaction:
                for table in self._tables.values():
                    with transaction.cursor(table) as cursor:
                        for _ in cursor:
                            pass
        except lmdb.Error as error:
            raise self._damaged(error) from error

    def leave(self) -> None:
        """Nothing to do: the directory goes with what lies in it."""

    def close(self) -> None:
        """Closes the environment."""
        self._environment.close()

    def _damaged(self, error: lmdb.Error) -> Unavailable:
        return Unavailable(
            f"the feature store is damaged ({error}); "
            f"remove {self._directory}, and it is filled again from the log",
            reason="STORE_DAMAGED",
        )


class EmbeddedView:
    """See ``StoreView``."""

    def __init__(self, transaction: lmdb.Transaction, tables: dict[str, lmdb._Database]) -> None:
        self._transaction = transaction
        self._tables = tables

    def position(self) -> int:
        return self._number(_POSITION)

    def last_record(self) -> tuple[int, bytes]:
        return self.position(), self._get("meta", _LAST_RECORD) or b""

    def schema(self) -> str:
        found = self._get("meta", _SCHEMA)
        return found.decode() if found is not None else ""

    def state(self, entity: str, identity: str) -> bytes | None:
        return self._get("states", _state_key(entity, identity))

    def states_at(self, keys: Sequence[Key]) -> list[bytes | None]:
        names = [_state_key(*key) for key in keys]
        with self._transaction.cursor(self._tables["states"]) as cursor:
            found: dict[Any, Any] = dict(cursor.getmulti(names))
        return [found.get(name) for name in names]

    def moment(self, keys: Sequence[Key]) -> Moment:
        return Moment(self.position(), self.states_at(keys))

    def states(self, entity: str) -> Iterator[tuple[str, bytes]]:
        beginning = len(_state_key(entity, ""))
        for key, data in self._states_from(_state_key(entity, "")):
            yield key[beginning:].decode(), data

    def _states_from(self, prefix: bytes) -> Iterator[tuple[bytes, bytes]]:
        """(key, state) of all states whose key begins with ``prefix``, in order."""
        with self._transaction.cursor(self._tables["states"]) as cursor:
            if not cursor.set_range(prefix):
                return
            for key, data in cursor:
                if bytes(key[: len(prefix)]) != prefix:
                    return
                yield bytes(key), bytes(data)

    def fingerprints(self, event_ids: Sequence[str], days: Sequence[int]) -> dict[str, bytes]:
        wanted = {_digest(event_id): event_id for event_id in event_ids}
        # In their order in the table one step of the cursor leads to the next.
        digests = sorted(wanted)
        known: dict[str, bytes] = {}
        with self._transaction.cursor(self._tables["event_ids"]) as cursor:
            for day in days:
                prefix = _DAY.pack(day)
                if not cursor.set_range(prefix) or bytes(cursor.key()[: _DAY.size]) != prefix:
                    continue
                for key, data in cursor.getmulti([prefix + digest for digest in digests]):
                    known.setdefault(wanted[bytes(key[_DAY.size :])], bytes(data))
        return known

    def next_change(self) -> int:
        return self._number(_NEXT_CHANGE)

    def changes(self, from_sequence: int, limit: int) -> list[Change]:
        found: list[Change] = []
        with self._transaction.cursor(self._tables["changes"]) as cursor:
            if not cursor.set_range(_U64.pack(from_sequence)):
                return found
            for key, data in cursor:
                if len(found) == limit:
                    break
                entity, _, identity = bytes(data[1:]).partition(b"\0")
                found.append(
                    Change(_U64.unpack(key)[0], entity.decode(), identity.decode(), data[0] == 1)
                )
        return found

    def next_sequences(self) -> dict[str, int]:
        with self._transaction.cursor(self._tables["producers"]) as cursor:
            return {bytes(key).decode(): _U64.unpack(data)[0] for key, data in cursor}

    def _get(self, table: str, key: bytes) -> bytes | None:
        found = self._transaction.get(key, db=self._tables[table])
        return bytes(found) if found is not None else None

    def _number(self, key: bytes) -> int:
        found = self._get("meta", key)
        return _U64.unpack(found)[0] if found is not None else 0


class EmbeddedTransaction(EmbeddedView):
    """See ``StoreTransaction``."""

    def clear(self, schema: str) -> None:
        for table in _TABLES:
            self._transaction.drop(self._tables[table], delete=False)
        self._put("meta", _SCHEMA, schema.encode())

    def put_position(self, position: int, last_record: bytes) -> None:
        self._put("meta", _POSITION, _U64.pack(position))
        self._put("meta", _LAST_RECORD, last_record)

    def put_state(self, entity: str, identity: str, data: bytes) -> None:
        self._put("states", _state_key(entity, identity), data)

    def pairs_of(self, entity: str, first: str) -> list[str]:
        beginning = len(_state_key(entity, ""))
        found = self._states_from(_state_key(entity, pair_id(first, "")))
        return [key[beginning:].decode() for key, _ in found]

    def delete_state(self, entity: str, identity: str) -> None:
        self._transaction.delete(_state_key(entity, identity), db=self._tables["states"])

    def prefetch(self, keys: Collection[Key], purchase_event_ids: Collection[str]) -> None:
        """Nothing to do: reading is cheap."""

    def folded_through(self, entity: str, identity: str) -> int:  # noqa: ARG002 - all are alike
        """Nothing is in any state that is not before the position."""
        return 0

    def ledger(self, purchase_event_id: str) -> bytes | None:
        return self._get("refunds", purchase_event_id.encode())

    def ledgers_with(self, text: bytes) -> list[tuple[str, bytes]]:
        with self._transaction.cursor(self._tables["refunds"]) as cursor:
            return [(bytes(k).decode(), bytes(data)) for k, data in cursor if text in bytes(data)]

    def put_ledger(self, purchase_event_id: str, data: bytes) -> None:
        self._put("refunds", purchase_event_id.encode(), data)

    def claim(self, claims: Sequence[Claim]) -> Sequence[bool]:
        # The log is this store's only one: it marks duplicates as they are written to it.
        # By key: neighbours share pages.
        items = sorted(
            (_DAY.pack(claim.day) + _digest(claim.event_id), claim.fingerprint) for claim in claims
        )
        with self._transaction.cursor(self._tables["event_ids"]) as cursor:
            cursor.putmulti(items)
        return [True] * len(claims)

    def notes(self) -> bytes:
        """Nothing: a transaction is whole or not at all."""
        return b""

    def put_notes(self, data: bytes) -> None:
        """Nothing to do."""

    def forget_fingerprints(self, before_day: int, limit: int) -> None:
        end = _DAY.pack(before_day)
        with self._transaction.cursor(self._tables["event_ids"]) as cursor:
            found = cursor.first()
            while found and limit > 0 and bytes(cursor.key()) < end:
                found = cursor.delete()
                limit -= 1

    def add_changes(self, changes: Sequence[tuple[str, str, bool]], keep: int) -> None:
        sequence = self.next_change()
        for entity, identity, described in changes:
            data = (b"\1" if described else b"\0") + _state_key(entity, identity)
            self._put("changes", _U64.pack(sequence), data)
            sequence += 1
        self._put("meta", _NEXT_CHANGE, _U64.pack(sequence))
        end = _U64.pack(max(0, sequence - keep))
        with self._transaction.cursor(self._tables["changes"]) as cursor:
            found = cursor.first()
            while found and bytes(cursor.key()) < end:
                found = cursor.delete()

    def put_next_sequence(self, producer: str, sequence: int) -> None:
        self._put("producers", producer.encode(), _U64.pack(sequence))

    def _put(self, table: str, key: bytes, data: bytes) -> None:
        self._transaction.put(key, data, db=self._tables[table])


def compact_store(directory: Path) -> None:
    """Writes a store anew, without what lies in freed pages. No process may have it open."""
    path, made = directory / STORE_FILE, directory / "compacted"
    made.mkdir(exist_ok=True)
    with lmdb.open(str(directory), readonly=True, create=False, max_dbs=len(_TABLES)) as found:
        found.copy(str(made), compact=True)
    with (made / path.name).open("rb") as file:
        os.fsync(file.fileno())
    (made / path.name).replace(path)
    made.rmdir()
    LOCAL_FILES.sync_directory(directory)


def _state_key(entity: str, identity: str) -> bytes:
    return f"{entity}\0{identity}".encode()


def _digest(event_id: str) -> bytes:
    return hashlib.blake2b(event_id.encode(), digest_size=16).digest()
