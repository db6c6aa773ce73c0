"""Reading what Redis holds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any, Final

from services.common.errors import Unavailable
from services.feature.definitions import Key
from services.feature.store.protocol import Change, Moment
from services.feature.store.redis_known import KnownStates, Version
from services.feature.store.redis_names import Names
from services.feature.store.redis_scripts import CHANGES, READ_AT, READ_WITH_LOG
from services.feature.store.redis_servers import PARTITIONS, Command, Servers, call

STAMP_BYTES: Final = 8
"""Every value begins with the stamp of its last write."""

CLAIMANT_BYTES: Final = 16
"""A claim begins with the log (8 bytes) and the arrival (8 bytes) of the record that made it."""

STATES_AT_ONCE: Final = 512

PAUSES_S: Final = (0, 0, *(0.001 * 2**number for number in range(6)))
"""How long to wait each time that states are read again, their partitions being at different
positions: 63 ms in all."""

Name = tuple[int, bytes]
"""Partition and name of a key."""


class Horizon:
    """How far readers of a process have seen. What is behind it is older than what was served."""

    def __init__(self) -> None:
        self.position = 0

    def saw(self, position: int, at_least: int) -> None:
        """Takes note of a position read. Raises ``Unavailable`` (STORE_BEHIND) when it is behind
        what the horizon was before."""
        check_not_behind(position, at_least)
        self.position = max(self.position, position)


def check_not_behind(position: int, at_least: int) -> None:
    """Raises ``Unavailable`` (STORE_BEHIND) for a position that is less than what there was."""
    if position < at_least:
        raise Unavailable(
            f"the store lost what it held and is filled again: {position} of {at_least} "
            "records are applied",
            reason="STORE_BEHIND",
        )


class QuietRead:
    """Reads values of keys on a single server while nothing is being written there: then all
    partitions are where the log is.

    ``command`` is to be run and its reply taken; where that does not give the states, the store has
    another version than those that are known, and it is done once more.
    """

    def __init__(self, names: Names, wanted: Sequence[Name], known: KnownStates) -> None:
        self._names = names
        self._keys = [key for _, key in wanted]
        self._known = known
        version = known.version
        self._stamp, self._held = version.stamp, version.states
        self._asked = [key for key in self._keys if key not in self._held]
        self.position = 0
        """Where the log is."""
        self.is_quiet = False
        """Whether nothing was being written."""
        self.version = version
        """What is known of the version that was found, once the states are."""
        self.states: list[bytes | None] | None = None
        """The values without their stamps, once they are found."""

    @property
    def command(self) -> Command:
        """What to ask."""
        names = self._names
        keys = [names.log, names.version, *self._asked]
        return call(names.home, READ_WITH_LOG, keys, [])

    def take(self, reply: Sequence[Any]) -> None:
        """Takes a reply to ``command``."""
        (position, moving), stamp, values = reply
        self.position = int(position or 0)
        self.is_quiet = position == moving
        asked, self.states = self._asked, None
        found = [content(value) for value in values]
        if len(asked) == len(self._keys):
            self.states = found
        elif stamp == self._stamp:
            new, held = dict(zip(asked, found, strict=True)), self._held
            self.states = [new[key] if key in new else held[key] for key in self._keys]
        else:
            self._asked = self._keys
            return
        if self.is_quiet and asked:
            self._known.add(stamp, asked, found)
            # A thread may have met another version meanwhile.
            known = self._known.version
            self.version = known if known.stamp == stamp else Version(None)


class RedisView:
    """See ``StoreView``."""

    def __init__(
        self,
        horizon: Horizon,
        servers: Servers,
        names: Names,
        pause: Callable[[float], None] = time.sleep,
        known: KnownStates | None = None,
    ) -> None:
        self._pause = pause
        self._known = known if known is not None else KnownStates()
        self._horizon = horizon
        self._servers = servers
        self._names = names
        self._at_least = horizon.position
        self._position: int | None = None

    def position(self) -> int:
        if self._position is None:
            (reply,) = self._servers.run([self._position_command()])
            self._position = int(reply or 0)
        return self._position

    def last_record(self) -> tuple[int, bytes]:
        names = self._names
        command = Command(names.home, ("HMGET", names.log, b"last_position", b"last_record"))
        ((position, digest),) = self._servers.run([command])
        return (int(position), digest) if position is not None else (0, b"")

    def schema(self) -> str:
        (reply,) = self._servers.run([Command(0, ("GET", self._names.schema))])
        return reply.decode() if reply is not None else ""

    def state(self, entity: str, identity: str) -> bytes | None:
        return self.states_at([(entity, identity)])[0]

    def states_at(self, keys: Sequence[Key]) -> list[bytes | None]:
        names = [self._names.state(*key) for key in keys]
        if self._position is None and self._servers.single:
            # The position is read first, in the same round trip.
            commands = (self._position_command(), *many(names, self._servers))
            reply, *replies = self._servers.run(commands)
            self._position = int(reply or 0)
            held = placed(names, self._servers, replies)
        else:
            self.position()
            held = values(self._servers, names)
        self._look_out()
        return [content(value) for value in held]

    def moment(self, keys: Sequence[Key]) -> Moment:
        names = [self._names.state(*key) for key in keys]
        quiet = self._quiet_moment(names) if self._servers.single else None
        if quiet is not None:
            return quiet
        # A partition's states and position change together. Where partitions are at different ones
        # a batch is being written (or its writer was stopped): soon it is in all of them.
        self._look_out()
        commands = self._read_at_commands(names)
        replies = self._servers.run(commands)
        positions = _positions(replies)
        for pause_s in PAUSES_S:
            if len(positions) <= 1:
                break
            if pause_s:
                self._pause(pause_s)
            replies = self._servers.run(commands, together=True)
            positions = _positions(replies)
        position = min(positions, default=self.position())
        check_not_behind(position, self.position())
        held = placed(names, self._servers, [found for _, found in replies])
        return Moment(position, [content(value) for value in held])

    def states(self, entity: str) -> Iterator[tuple[str, bytes]]:
        self._look_out()
        listed = self._servers.run(
            [
                Command(partition, ("SMEMBERS", self._names.identities(partition, entity)))
                for partition in range(PARTITIONS)
            ]
        )
        identities = sorted(member.decode() for members in listed for member in members)
        for start in range(0, len(identities), STATES_AT_ONCE):
            some = identities[start : start + STATES_AT_ONCE]
            found = values(self._servers, [self._names.state(entity, i) for i in some])
            for identity, value in zip(some, found, strict=True):
                if value is not None:
                    yield identity, value[STAMP_BYTES:]

    def fingerprints(
        self,
        event_ids: Sequence[str],
        days: Sequence[int],  # noqa: ARG002 - claims expire by themselves
    ) -> dict[str, bytes]:
        held = values(self._servers, [self._names.claim(event_id) for event_id in event_ids])
        return {
            event_id: value[CLAIMANT_BYTES:]
            for event_id, value in zip(event_ids, held, strict=True)
            if value is not None
        }

    def next_change(self) -> int:
        (reply,) = self._servers.run([Command(0, ("GET", self._names.next_change))])
        return int(reply or 0)

    def changes(self, from_sequence: int, limit: int) -> list[Change]:
        # What is applied later may be missing from the changes, and counts as not seen.
        self._look_out()
        keys = [self._names.next_change, self._names.changes]
        ((first, found),) = self._servers.run([call(0, CHANGES, keys, [from_sequence, limit])])
        changes = []
        for sequence, data in enumerate(found, int(first)):
            entity, _, identity = data[1:].partition(b"\0")
            changes.append(Change(sequence, entity.decode(), identity.decode(), data[0] == 1))
        return changes

    def next_sequences(self) -> dict[str, int]:
        names = self._names
        (reply,) = self._servers.run([Command(names.home, ("HGETALL", names.producers))])
        return {producer.decode(): int(sequence) for producer, sequence in reply.items()}

    def _quiet_moment(self, names: Sequence[Name]) -> Moment | None:
        """Values of keys on a single server, if nothing is being written there."""
        reads = [QuietRead(self._names, some, self._known) for some in _parts(names)]
        while any(read.states is None for read in reads):
            replies = self._servers.run([read.command for read in reads], together=len(reads) > 1)
            for read, reply in zip(reads, replies, strict=True):
                read.take(reply)
        at = reads[0].position
        if self._position is None:
            self._position = at
        self._look_out()
        check_not_behind(at, self._position)
        if not reads[0].is_quiet:
            return None
        return Moment(at, list(chain.from_iterable(read.states or () for read in reads)))

    def _read_at_commands(self, names: Sequence[Name]) -> list[Command]:
        commands = []
        for group in _groups(names, self._servers):
            partitions = sorted({names[index][0] for index in group})
            keys = [self._names.positions(partition) for partition in partitions]
            keys += [names[index][1] for index in group]
            arguments: list[bytes | int] = [self._names.log_id, len(partitions)]
            commands.append(call(partitions[0], READ_AT, keys, arguments))
        return commands

    def _look_out(self) -> None:
        self._horizon.saw(self.position(), self._at_least)

    def _position_command(self) -> Command:
        return Command(self._names.home, ("HGET", self._names.log, b"position"))


def _positions(replies: Sequence[tuple[Sequence[bytes], Sequence[bytes | None]]]) -> set[int]:
    """The different positions in replies of ``READ_AT``."""
    return {int(position) for positions, _ in replies for position in positions}


def content(value: bytes | None) -> bytes | None:
    """What follows a value's stamp."""
    return value[STAMP_BYTES:] if value is not None else None


def values(servers: Servers, names: Sequence[Name]) -> list[bytes | None]:
    """Values of keys, in their order; None for one that is not there."""
    return placed(names, servers, servers.run(many(names, servers)))


def many(names: Sequence[Name], servers: Servers) -> list[Command]:
    """Commands that read keys; ``placed`` puts their replies in order."""
    return [
        Command(names[group[0]][0], ("MGET", *(names[index][1] for index in group)))
        for group in _groups(names, servers)
    ]


def placed(
    names: Sequence[Name], servers: Servers, replies: Sequence[Sequence[bytes | None]]
) -> list[bytes | None]:
    """Values in the order of ``names`` from the replies to ``many``."""
    found: list[bytes | None] = [None] * len(names)
    for group, reply in zip(_groups(names, servers), replies, strict=True):
        for index, value in zip(group, reply, strict=True):
            found[index] = value
    return found


def _parts(names: Sequence[Name]) -> list[Sequence[Name]]:
    """Keys that are read at once; one part if there are none."""
    return [
        names[start : start + STATES_AT_ONCE] for start in range(0, len(names) or 1, STATES_AT_ONCE)
    ]


def _groups(names: Sequence[Name], servers: Servers) -> list[Sequence[int]]:
    """Indices of keys that can be read by one command."""
    together: dict[int, list[int]] = {}
    for index, (partition, _) in enumerate(names):
        together.setdefault(0 if servers.single else partition, []).append(index)
    return [
        some[start : start + STATES_AT_ONCE]
        for some in together.values()
        for start in range(0, len(some), STATES_AT_ONCE)
    ]
