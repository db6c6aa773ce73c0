"""What the feature service needs of a store. Bytes in, bytes out: what they mean is decided above.

A store is filled from logs. ``EmbeddedStore`` (LMDB) belongs to one log: one process writes, others
on the machine read, and a transaction commits everything or nothing, the log position among it.
``RedisStore`` is shared: several replicas, each with a log of its own, fill it. There an event
touches keys in different places, so that a transaction may end half written. Applying is therefore
idempotent: a state says up to which arrival of a log its events are in it (``folded_through``),
event ids are claimed before anything is folded (``claim``), and a transaction that met another
writer raises ``StoreConflict`` and is made again. The position is written last.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from services.feature.definitions import Key


class StoreConflict(Exception):
    """Another writer changed what a transaction had read: part of it is not written, make it
    again. What was written stays, and ``folded_through`` tells it."""


class Change(NamedTuple):
    """An entity that events touched. ``described``: the catalogue changed, not only windows."""

    sequence: int
    entity: str
    identity: str
    described: bool


class Moment(NamedTuple):
    """States as they were at one moment, when this process's log was applied up to ``position``."""

    position: int
    states: list[bytes | None]


class Claim(NamedTuple):
    """An event id to be remembered: the record at ``arrival`` brought it on ``day`` (since the
    epoch), with this content."""

    event_id: str
    day: int
    fingerprint: bytes
    arrival: int


class StoreView(Protocol):
    """What is stored. In an embedded store nothing written meanwhile shows; in a shared one each
    state is whole, and holds at least what was applied up to ``position``."""

    def position(self) -> int:
        """Arrival of the first logged event that is not applied yet."""
        ...

    def last_record(self) -> tuple[int, bytes]:
        """What ``put_position`` said last; (0, b"") in a new store."""
        ...

    def schema(self) -> str:
        """Hash of what the states were written for; empty in a new store."""
        ...

    def state(self, entity: str, identity: str) -> bytes | None:
        """State of an entity or user."""
        ...

    def states_at(self, keys: Sequence[Key]) -> list[bytes | None]:
        """The states of ``keys``, in their order."""
        ...

    def moment(self, keys: Sequence[Key]) -> Moment:
        """The states of ``keys`` with the position that they hold, not a record of this log more
        or less. In a shared store it may be ahead of ``position``, and a later call's of this
        one's; where the store stays half written it is one that they hold at least."""
        ...

    def states(self, entity: str) -> Iterator[tuple[str, bytes]]:
        """(id, state) of every entity of a catalogue type, by id."""
        ...

    def fingerprints(self, event_ids: Sequence[str], days: Sequence[int]) -> Mapping[str, bytes]:
        """Fingerprints of the events stored under these ids on one of ``days`` (since the epoch),
        by id; ids that are not remembered are left out."""
        ...

    def next_change(self) -> int:
        """Sequence that the next change gets."""
        ...

    def changes(self, from_sequence: int, limit: int) -> list[Change]:
        """At most ``limit`` changes from ``from_sequence`` on that are still kept, oldest first."""
        ...

    def next_sequences(self) -> Mapping[str, int]:
        """Next sequence expected of each producer that numbers its events."""
        ...


class StoreTransaction(StoreView, Protocol):
    """A view that writes, and sees the states and ledgers it wrote."""

    def clear(self, schema: str) -> None:
        """Empties the store, for states of another ``schema``, from log position 0."""
        ...

    def put_position(self, position: int, last_record: bytes) -> None:
        """Sets ``position``, and the digest of the last record before it."""
        ...

    def prefetch(self, keys: Collection[Key], purchase_event_ids: Collection[str]) -> None:
        """Tells which states and ledgers will be asked for, so that they can come at once."""
        ...

    def folded_through(self, entity: str, identity: str) -> int:
        """Records of this log that arrived earlier are in this state already."""
        ...

    def put_state(self, entity: str, identity: str, data: bytes) -> None:
        """Sets a state, which then holds all records before the ``put_position`` to come."""
        ...

    def ledger(self, purchase_event_id: str) -> bytes | None:
        """Ledger of the refunds known of a purchase."""
        ...

    def pairs_of(self, entity: str, first: str) -> list[str]:
        """Ids of a pair's type that have a state and whose first member is ``first``."""
        ...

    def delete_state(self, entity: str, identity: str) -> None:
        """Removes a state; one that is not there is no error."""
        ...

    def ledgers_with(self, text: bytes) -> list[tuple[str, bytes]]:
        """(purchase event id, ledger) of all ledgers with these bytes in them. It goes through all
        there are."""
        ...

    def put_ledger(self, purchase_event_id: str, data: bytes) -> None:
        """Sets a ledger. It may stay where the states of the transaction do not."""
        ...

    def claim(self, claims: Sequence[Claim]) -> Sequence[bool]:
        """Remembers event ids; False where the id belongs to another record. Claims are made by
        records that are on disk, so that none can swallow an event that is nowhere."""
        ...

    def notes(self) -> bytes:
        """What ``put_notes`` said last, in this transaction's earlier attempt maybe."""
        ...

    def put_notes(self, data: bytes) -> None:
        """Keeps what has to be the same when the transaction is made again."""
        ...

    def forget_fingerprints(self, before_day: int, limit: int) -> None:
        """Forgets at most ``limit`` event ids that arrived before a day."""
        ...

    def add_changes(self, changes: Sequence[tuple[str, str, bool]], keep: int) -> None:
        """Appends (entity, id, described) and drops all but the last ``keep`` changes."""
        ...

    def put_next_sequence(self, producer: str, sequence: int) -> None:
        """Sets the next sequence expected of a producer."""
        ...


class ReadableStore(Protocol):
    """A store to those who only read, or what stands for one."""

    @property
    def shared(self) -> bool:
        """Whether it lies behind a network, where other logs fill it too."""
        ...

    def read(self) -> AbstractContextManager[StoreView]:
        """Opens a view, which is only valid inside the ``with`` block."""
        ...


class FeatureStore(ReadableStore, Protocol):
    """A store; views are only valid inside their ``with`` block. Its methods raise ``Unavailable``
    while it can't be reached, and with the reason STORE_FULL while it takes no more."""

    @property
    def log_id(self) -> str:
        """Tells the log that this process applies from others in the same store."""
        ...

    @property
    def batch_records(self) -> int:
        """How many records a transaction should apply at most."""
        ...

    async def moment_soon(self, keys: Sequence[Key]) -> Moment | None:
        """``moment`` for those who must not hold an event loop up; None where only a view can tell
        it."""
        ...

    def write(self) -> AbstractContextManager[StoreTransaction]:
        """Opens a transaction: committed at the end of the block, undone by an exception."""
        ...

    def tend(self) -> None:
        """Upkeep, to be called now and then by the process that writes."""
        ...

    def check(self) -> None:
        """Reads all that is stored. Raises ``Unavailable`` where it is damaged."""
        ...

    def leave(self) -> None:
        """Gives the store up, once nothing of this log is applied to it any more: what nobody else
        uses is removed. The directory of an embedded one is its owner's to remove."""
        ...

    def close(self) -> None:
        """Frees the store; no view may be open."""
        ...
