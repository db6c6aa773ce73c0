"""Names of keys, and the partitions they belong to."""

from __future__ import annotations

import hashlib
import zlib
from functools import lru_cache
from typing import Final

from services.feature.store.redis_servers import PARTITIONS, TAGS

KEPT_NAMES: Final = 65_536
"""Names of states that are not made anew each time."""


class Names:
    """Names of keys. ``home``: the partition of what concerns one log."""

    def __init__(self, prefix: str, name: str, log_id: str) -> None:
        short = hashlib.blake2b(name.encode(), digest_size=4).hexdigest()
        self.base = f"{prefix}:{short}:".encode()
        self.state = lru_cache(KEPT_NAMES)(self._state)
        """Partition and name of a state, by entity type and id."""
        self.log_id = bytes.fromhex(log_id)
        self.home = zlib.crc32(self.log_id) % PARTITIONS
        self.log = self._name(self.home, b"log:" + self.log_id)
        self.notes = self._name(self.home, b"notes:" + self.log_id)
        self.producers = self._name(self.home, b"producers:" + self.log_id)
        self.members = self._name(0, b"members")
        self.schema = self._name(0, b"schema")
        self.version = self._name(0, b"version")
        self.next_change = self._name(0, b"next_change")
        self.changes = self._name(0, b"changes")

    def positions(self, partition: int) -> bytes:
        """Positions of the logs in a partition."""
        return self._name(partition, b"positions")

    def identities(self, partition: int, entity: str) -> bytes:
        """Ids of a partition's entities of a listed type."""
        return self._name(partition, b"ids:" + entity.encode())

    def _state(self, entity: str, identity: str) -> tuple[int, bytes]:
        name = f"{entity}\0{identity}".encode()
        partition = zlib.crc32(name) % PARTITIONS
        return partition, self._name(partition, b"s:" + name)

    def pairs(self, entity: str, first: str) -> tuple[int, bytes]:
        """Partition and name of the ids of a pair's type with one first member."""
        name = f"{entity}\0{first}".encode()
        partition = zlib.crc32(name) % PARTITIONS
        return partition, self._name(partition, b"pairs:" + name)

    def ledger(self, purchase_event_id: str) -> tuple[int, bytes]:
        """Partition and name of a ledger of refunds."""
        name = purchase_event_id.encode()
        partition = zlib.crc32(name) % PARTITIONS
        return partition, self._name(partition, b"r:" + name)

    @property
    def ledgers(self) -> bytes:
        """Glob pattern of all ledgers; what it matches beside them ``purchase_of`` tells."""
        return self.base + b"{??}:r:*"

    def purchase_of(self, key: bytes) -> str | None:
        """The purchase event id in the name of a ledger; None for another key."""
        identity = key[len(self.base) + len(TAGS[0]) + len(b":r:") :].decode(errors="replace")
        return identity if self.ledger(identity)[1] == key else None

    def claim(self, event_id: str) -> tuple[int, bytes]:
        """Partition and name of an event id's claim."""
        digest = hashlib.blake2b(event_id.encode(), digest_size=16).digest()
        partition = digest[0] % PARTITIONS
        return partition, self._name(partition, b"e:" + digest)

    def _name(self, partition: int, rest: bytes) -> bytes:
        return self.base + TAGS[partition] + b":" + rest
