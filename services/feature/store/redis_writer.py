"""Writing to Redis: where a log is in every partition, and the transaction that moves it on."""

from __future__ import annotations

import itertools
import secrets
import time
from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Final

from services.common.errors import FailedPrecondition
from services.feature.definitions import (
    DAY_MS,
    DEDUPLICATION_MS,
    USER_ENTITY,
    Key,
    is_pair_id,
    pair_id,
    pair_members,
)
from services.feature.store.protocol import Claim, StoreConflict
from services.feature.store.redis_names import Names
from services.feature.store.redis_scripts import ADD_CHANGES, CLAIM, COMMIT, REPLACE
from services.feature.store.redis_servers import PARTITIONS, Command, Servers, call
from services.feature.store.redis_view import (
    STAMP_BYTES,
    Horizon,
    Name,
    RedisView,
    content,
    values,
)

CLAIM_SECONDS: Final = (DEDUPLICATION_MS + DAY_MS) // 1_000
"""A day more than event ids are remembered, whatever time of day they came."""

TEND_S: Final = 1.0

Replacements = Mapping[bytes, tuple[bytes, bytes]]
"""(stamp it was read with, new value) by key; the stamp is empty where nothing was."""


class LogCursor:
    """Where one log is in each partition. It has one owner, the process that applies the log."""

    def __init__(
        self, servers: Servers, names: Names, monotonic_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._servers = servers
        self._names = names
        self._monotonic_s = monotonic_s
        self._positions: list[int] | None = None
        self._tended_s = monotonic_s()
        # Stamps never come again, not even when a restored server has forgotten some.
        self._stamps = itertools.count(secrets.randbits(63))
        self.next_position = 0
        """Where the log goes on: in the partition that is farthest behind."""
        self.notes = b""
        """What the transaction made last has noted."""

    def load(self) -> None:
        """Reads where the log is, if that is not known."""
        if self._positions is not None:
            return
        names = self._names
        commands = [
            Command(partition, ("HGET", names.positions(partition), names.log_id))
            for partition in range(PARTITIONS)
        ]
        commands.append(Command(names.home, ("HGET", names.log, b"position")))
        commands.append(Command(names.home, ("GET", names.notes)))
        commands.append(Command(0, ("SADD", names.members, names.log_id)))
        *found, position, notes, _ = self._servers.run(commands)
        positions = [int(number or 0) for number in found]
        self.next_position = min(positions)
        if position is not None and self.next_position < int(position):
            # Part of the store is lost: readers are told.
            lowered = ("HSET", names.log, b"position", self.next_position)
            self._servers.run([Command(names.home, lowered)])
        self.notes = notes or b""
        self._positions = positions

    def forget(self) -> None:
        """Has it read anew, after anything that went wrong."""
        self._positions = None

    def position_in(self, partition: int) -> int:
        """Where the log is in a partition."""
        return self._known()[partition]

    def stamp(self) -> bytes:
        """A stamp that no other write has."""
        return (next(self._stamps) % (1 << 64)).to_bytes(STAMP_BYTES)

    def move_on(self, states: Mapping[int, Replacements], position: int) -> None:
        """Moves every partition on to ``position``, where it is not there yet, with its states,
        which give a store on a single server another version.

        Raises ``StoreConflict`` when some could not be written for another writer's sake,
        ``FailedPrecondition`` (STORE_MOVED) when one is not where it was left.
        """
        positions, names = self._known(), self._names
        # Before anything else: readers of a single server know from it that they look too early.
        moving = ("HSET", names.log, b"moving", max(position, *positions))
        commands = [Command(names.home, moving)]
        if states and self._servers.single:
            commands.append(Command(0, ("SET", names.version, self.stamp())))
        for partition, at in enumerate(positions):
            arguments: list[bytes | int] = [names.log_id, at, max(at, position)]
            replacements = states.get(partition, {})
            for replacement in replacements.values():
                arguments += replacement
            keys = [names.positions(partition), *replacements]
            commands.append(call(partition, COMMIT, keys, arguments))
        conflicts = 0
        replies = self._servers.run(commands, together=True)[-PARTITIONS:]
        for partition, reply in enumerate(replies):
            if reply == [-1]:
                raise FailedPrecondition(
                    "the store is not where this log left it", reason="STORE_MOVED"
                )
            if reply:
                conflicts += 1
            else:
                positions[partition] = max(positions[partition], position)
        if conflicts:
            raise StoreConflict(f"{conflicts} partitions were written meanwhile")

    def tend(self) -> None:
        """Looks, at most once a second, whether every partition is where it was left."""
        if self._positions is None or self._monotonic_s() - self._tended_s < TEND_S:
            return
        self._tended_s = self._monotonic_s()
        self.move_on({}, self.next_position)

    def _known(self) -> list[int]:
        if self._positions is None:
            raise RuntimeError("load comes first")
        return self._positions


class RedisTransaction(RedisView):
    """See ``StoreTransaction``. Claims are made, and ``clear`` acts, at once; the rest is written
    by ``commit``."""

    def __init__(
        self, servers: Servers, names: Names, cursor: LogCursor, listed: Container[str]
    ) -> None:
        super().__init__(Horizon(), servers, names)
        self._cursor = cursor
        self._listed = listed
        self._read: dict[Name, bytes | None] = {}
        self._states: dict[Key, bytes | None] = {}
        self._ledgers: dict[str, bytes] = {}
        self._changes: Sequence[tuple[str, str, bool]] = ()
        self._kept_changes = 0
        self._sequences: dict[str, int] = {}
        self._notes: bytes | None = None
        self._schema: str | None = None
        self._moved: tuple[int, bytes] | None = None

    def position(self) -> int:
        return self._cursor.next_position

    def schema(self) -> str:
        if self._schema is None:
            self._schema = super().schema()
        return self._schema

    def state(self, entity: str, identity: str) -> bytes | None:
        if (entity, identity) in self._states:
            return self._states[entity, identity]
        return self._value(self._names.state(entity, identity))

    def ledger(self, purchase_event_id: str) -> bytes | None:
        written = self._ledgers.get(purchase_event_id)
        if written is not None:
            return written
        return self._value(self._names.ledger(purchase_event_id))

    def prefetch(self, keys: Collection[Key], purchase_event_ids: Collection[str]) -> None:
        names = [self._names.state(*key) for key in keys]
        names += [self._names.ledger(identity) for identity in purchase_event_ids]
        self._read.update(zip(names, values(self._servers, names), strict=True))

    def folded_through(self, entity: str, identity: str) -> int:
        return self._cursor.position_in(self._names.state(entity, identity)[0])

    def claim(self, claims: Sequence[Claim]) -> list[bool]:
        by_partition: dict[int, list[tuple[int, bytes, bytes]]] = {}
        for index, claim in enumerate(claims):
            partition, name = self._names.claim(claim.event_id)
            value = self._names.log_id + claim.arrival.to_bytes(8) + claim.fingerprint
            by_partition.setdefault(partition, []).append((index, name, value))
        replies = self._servers.run(
            [
                call(
                    partition,
                    CLAIM,
                    [n for _, n, _ in some],
                    [CLAIM_SECONDS, *(v for *_, v in some)],
                )
                for partition, some in by_partition.items()
            ]
        )
        ours = [False] * len(claims)
        for some, holders in zip(by_partition.values(), replies, strict=True):
            for (index, _, value), holder in zip(some, holders, strict=True):
                ours[index] = holder == value
        return ours

    def notes(self) -> bytes:
        return self._cursor.notes

    def put_notes(self, data: bytes) -> None:
        self._notes = data

    def put_position(self, position: int, last_record: bytes) -> None:
        self._moved = (position, last_record)

    def put_state(self, entity: str, identity: str, data: bytes) -> None:
        self._states[entity, identity] = data

    def pairs_of(self, entity: str, first: str) -> list[str]:
        partition, name = self._names.pairs(entity, first)
        (members,) = self._servers.run([Command(partition, ("SMEMBERS", name))])
        beginning = pair_id(first, "")
        found = {member.decode() for member in members}
        found |= {i for e, i in self._states if e == entity and i.startswith(beginning)}
        return sorted(i for i in found if self.state(entity, i) is not None)

    def delete_state(self, entity: str, identity: str) -> None:
        self._states[entity, identity] = None

    def ledgers_with(self, text: bytes) -> list[tuple[str, bytes]]:
        purchases = set(self._ledgers)
        for keys in self._servers.keys(self._names.ledgers):
            purchases.update(p for p in map(self._names.purchase_of, keys) if p is not None)
        every = sorted(purchases)
        self._read.update(self._unread([self._names.ledger(purchase) for purchase in every]))
        found = ((purchase, self.ledger(purchase)) for purchase in every)
        return [(p, data) for p, data in found if data is not None and text in data]

    def put_ledger(self, purchase_event_id: str, data: bytes) -> None:
        self._ledgers[purchase_event_id] = data

    def forget_fingerprints(self, before_day: int, limit: int) -> None:
        """Nothing to do: claims expire."""

    def add_changes(self, changes: Sequence[tuple[str, str, bool]], keep: int) -> None:
        self._changes, self._kept_changes = changes, keep

    def put_next_sequence(self, producer: str, sequence: int) -> None:
        self._sequences[producer] = sequence

    def clear(self, schema: str) -> None:
        names = self._names
        if not self.schema():
            # Nothing is here, or what another log has just begun: that stays.
            self._servers.run([Command(0, ("SET", names.schema, schema, "NX"))])
            return
        for found in self._servers.keys(names.base + b"*"):
            self._servers.unlink(found)
        self._servers.run([Command(0, ("SET", names.schema, schema))])
        self._cursor.forget()
        self._cursor.load()

    def commit(self) -> None:
        """Writes notes and ledgers, states partition by partition, then what follows from them,
        last the position. Raises ``StoreConflict`` and ``FailedPrecondition`` (STORE_MOVED)."""
        names = self._names
        if self._notes is not None and self._notes != self._cursor.notes:
            self._servers.run([Command(names.home, ("SET", names.notes, self._notes))])
            self._cursor.notes = self._notes
        self._write_ledgers()
        if self._moved is None:
            if self._states:
                raise ValueError("states come with the position they hold")
            return
        position, last_record = self._moved
        self._write_states(position)
        commands = []
        if self._changes:
            commands.append(self._changes_command())
        for producer, sequence in self._sequences.items():
            commands.append(Command(names.home, ("HSET", names.producers, producer, sequence)))
        self._servers.run(commands)
        record = (b"position", position, b"last_position", position, b"last_record", last_record)
        self._servers.run([Command(names.home, ("HSET", names.log, *record))])
        self._cursor.next_position = position

    def _write_ledgers(self) -> None:
        commands = []
        for purchase_event_id, data in self._ledgers.items():
            partition, key = name = self._names.ledger(purchase_event_id)
            arguments = [self._stamp_of(name), self._cursor.stamp() + data]
            commands.append(call(partition, REPLACE, [key], arguments))
        conflicts = sum(1 for reply in self._servers.run(commands) if reply)
        if conflicts:
            raise StoreConflict(f"{conflicts} ledgers were written meanwhile")

    def _write_states(self, position: int) -> None:
        partitions: dict[int, dict[bytes, tuple[bytes, bytes]]] = {}
        listed: list[Command] = []
        gone: list[Command] = []
        for (entity, identity), data in self._states.items():
            partition, key = name = self._names.state(entity, identity)
            before = self._stamp_of(name)
            index = self._index_of(entity, identity, partition)
            if index is not None and data is None:
                gone.append(Command(index[0], ("SREM", index[1], identity)))
            elif index is not None and not before:
                listed.append(Command(index[0], ("SADD", index[1], identity)))
            value = self._cursor.stamp() + data if data is not None else b""
            partitions.setdefault(partition, {})[key] = (before, value)
        # An id without a state is passed over, a state without its id would be overlooked.
        self._servers.run(listed)
        self._cursor.move_on(partitions, position)
        self._servers.run(gone)

    def _index_of(self, entity: str, identity: str, partition: int) -> Name | None:
        """Where the ids of such entities are listed; users' are nowhere."""
        if entity in self._listed:
            return partition, self._names.identities(partition, entity)
        if entity == USER_ENTITY or not is_pair_id(identity):
            return None
        return self._names.pairs(entity, pair_members(identity)[0])

    def _changes_command(self) -> Command:
        # Sequences go on rising where the store was lost: watchers then look at everything.
        arguments: list[bytes | int] = [time.time_ns() // 1_000, self._kept_changes]
        for entity, identity, described in self._changes:
            mark = b"\1" if described else b"\0"
            arguments.append(mark + f"{entity}\0{identity}".encode())
        return call(0, ADD_CHANGES, [self._names.next_change, self._names.changes], arguments)

    def _unread(self, names: Sequence[Name]) -> dict[Name, bytes | None]:
        """Values of keys that were not read yet."""
        wanted = [name for name in names if name not in self._read]
        return dict(zip(wanted, values(self._servers, wanted), strict=True))

    def _value(self, name: Name) -> bytes | None:
        if name not in self._read:
            (self._read[name],) = values(self._servers, [name])
        return content(self._read[name])

    def _stamp_of(self, name: Name) -> bytes:
        self._value(name)
        return (self._read[name] or b"")[:STAMP_BYTES]
