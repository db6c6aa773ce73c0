"""What the feature service needs of a store. Bytes in, bytes out: what they mean is decided above.

One process writes, others read. A transaction commits everything or nothing, the log position
among it, so that applying an event and having applied it cannot come apart.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol


class Change(NamedTuple):
    """An entity that events touched. ``described``: the catalogue changed, not only windows."""

    sequence: int
    entity: str
    identity: str
    described: bool


class StoreView(Protocol):
    """A consistent view: nothing written meanwhile shows."""

    def position(self) -> int:
        """Arrival of the first logged event that is not applied yet."""
        ...

    def last_record(self) -> bytes:
        """Digest of the record applied last; empty in a new store."""
        ...

    def schema(self) -> str:
        """Hash of what the states were written for; empty in a new store."""
        ...

    def state(self, entity: str, identity: str) -> bytes | None:
        """State of an entity or user."""
        ...

    def states(self, entity: str) -> Iterator[tuple[str, bytes]]:
        """(id, state) of every entity of a type, by id."""
        ...

    def refunds(self, purchase_event_id: str) -> bytes | None:
        """Ledger of the refunds known of a purchase."""
        ...

    def fingerprint(self, event_id: str, days: Sequence[int]) -> bytes | None:
        """Fingerprint of the event stored under an id on one of ``days`` (since the epoch)."""
        ...

    def next_change(self) -> int:
        """Sequence that the next change gets."""
        ...

    def changes(self, from_sequence: int, limit: int) -> list[Change]:
        """At most ``limit`` changes from ``from_sequence`` on that are still kept, oldest first."""
        ...

    def next_sequences(self) -> dict[str, int]:
        """Next sequence expected of each producer that numbers its events."""
        ...


class StoreTransaction(StoreView, Protocol):
    """A view that writes."""

    def clear(self, schema: str) -> None:
        """Empties the store, for states of another ``schema``, from log position 0."""
        ...

    def put_position(self, position: int, last_record: bytes) -> None:
        """Sets ``position`` and ``last_record``."""
        ...

    def put_state(self, entity: str, identity: str, data: bytes) -> None:
        """Sets a state."""
        ...

    def put_refunds(self, purchase_event_id: str, data: bytes) -> None:
        """Sets a ledger."""
        ...

    def put_fingerprint(self, event_id: str, day: int, fingerprint: bytes) -> None:
        """Remembers an event id under the day it arrived."""
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


class FeatureStore(Protocol):
    """A store; views are only valid inside their ``with`` block."""

    def read(self) -> AbstractContextManager[StoreView]:
        """Opens a view."""
        ...

    def write(self) -> AbstractContextManager[StoreTransaction]:
        """Opens a transaction: committed at the end of the block, undone by an exception."""
        ...

    def close(self) -> None:
        """Frees the store; no view may be open."""
        ...
