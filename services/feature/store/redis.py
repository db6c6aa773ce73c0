"""The store on Redis or Valkey, single or Cluster, which several feature replicas may fill.

**Partitions.** Every key belongs to one of 64 partitions (hash tags). A partition holds states,
ledgers, claims, and how far each log has been applied in it. A transaction is written partition by
partition: one script puts a partition's states and moves the log's position in it on, or does
nothing. So a partition is always at one position of each log, wherever an applier died, and when
the batch is applied again, ``folded_through`` tells which states hold it already. Since position
and states live in the same slot, this holds as well when a node comes back without its last
writes: applying resumes from the position of the partition that is farthest behind. The position
that readers see is written last. Every transaction moves every partition on, and ``tend`` looks at
them when nothing is written, so that a partition that is not where it was left is noticed within a
second.

**Moments.** Readers read states together with their partitions' positions: where these agree, the
states are those of that position. (On a single server the log tells where it is ``moving``; while
that is its position nobody needs to look into partitions.) A single server writes all partitions in
one transaction, so that they always agree, but for a transaction that met another writer. In a
Cluster they differ while a batch is written; readers then read again, for some 60 ms at most. Where
a writer was stopped half-way, rows are given with the position of the partition that is farthest
behind.

**What is known already** is not read again. A single server keeps the store's version, which the
transaction that changes a state changes with it (in a Cluster there is no such transaction, and no
version): a reader gets it together with the position, and with the states that it has not read in
that version yet. Without TLS this exchange runs on the event loop itself; while a batch is being
written, and whenever it fails, lookups take the way through a thread. Lookups on the event loop
that find all their states known take what was said within the last 20 ms for granted, unless this
process has seen a later position meanwhile.

**Two writers.** A value begins with a stamp of its last write. States are replaced only where the
stamp is still the one they were read with; else the partition stays as it was and the transaction
raises ``StoreConflict``, to be folded again from what is there now. Ledgers are written before the
states that were folded with them.

**Event ids** are claimed by (log, arrival) when a record is applied, so after it was synced in its
log; the first claim wins and expires after 8 days. A retry that reached another replica is told
there from the claim, or, where it came before the claim, when that replica applies its log. Logs
are told apart by an id that is kept with them. A log whose disk is lost between its claims and its
states (a fraction of a second) takes the events of that batch with it.

**Losing it.** Nothing here is the truth: emptied, or with a node lost, it is filled again from the
logs, of which every replica applies its own. Meanwhile readers that saw more before get
``Unavailable`` (STORE_BEHIND). Stores for other definitions have other names, side by side in one
Redis: each replica fills the one that it needs, which has all events once all replicas fill it,
and the last one to leave removes it. Redis must not evict (``maxmemory-policy noeviction``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

from services.feature.definitions import Key
from services.feature.store.protocol import Moment, StoreConflict
from services.feature.store.redis_known import KnownStates, Standing
from services.feature.store.redis_loop import LoopServer
from services.feature.store.redis_names import Names
from services.feature.store.redis_scripts import SCRIPTS
from services.feature.store.redis_servers import (
    Command,
    ServerCluster,
    Servers,
    SingleServer,
    plain_address,
)
from services.feature.store.redis_view import STATES_AT_ONCE, Horizon, QuietRead, RedisView
from services.feature.store.redis_writer import LogCursor, RedisTransaction

BATCH_RECORDS: Final = 4_096

STANDING_S: Final = 0.02
"""For so long what the server said of the store's version is taken for granted."""


class RedisStore:
    """The store called ``name``, as the process with the log ``log_id`` (16 hex digits) sees it.
    ``listed``: entity types that ``states`` can list. ``pause`` waits some seconds. ``on_loop``:
    the single server, to those who ask on an event loop; what it says of the store's version they
    take for granted for ``standing_s``. Views may be used by several threads, transactions by one.
    """

    shared = True
    batch_records = BATCH_RECORDS

    def __init__(
        self,
        servers: Servers,
        *,
        name: str,
        log_id: str,
        listed: Container[str],
        prefix: str = "podium",
        pause: Callable[[float], None] = time.sleep,
        on_loop: LoopServer | None = None,
        standing_s: float = STANDING_S,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._pause = pause
        self._on_loop = on_loop
        self._standing_s = standing_s
        self._monotonic_s = monotonic_s
        self._standing: Standing | None = None
        self._known = KnownStates()
        self.log_id = log_id
        self._servers = servers
        self._listed = listed
        self._names = Names(prefix, name, log_id)
        self._horizon = Horizon()
        self._cursor = LogCursor(servers, self._names)

    @contextmanager
    def read(self) -> Iterator[RedisView]:
        """A view; what it gives is read when it is asked for."""
        yield RedisView(self._horizon, self._servers, self._names, self._pause, self._known)

    async def moment_soon(self, keys: Sequence[Key]) -> Moment | None:
        """A moment of a single server while nothing is being written there."""
        if self._on_loop is None or len(keys) > STATES_AT_ONCE:
            return None
        names = [self._names.state(*key) for key in keys]
        at_least, asked_s = self._horizon.position, self._monotonic_s()
        standing = self._standing
        if standing is not None and self._stands(standing, at_least, asked_s):
            known = standing.version.known([key for _, key in names])
            if known is not None:
                return Moment(standing.position, known)
        read = QuietRead(self._names, names, self._known)
        while read.states is None:
            reply = await self._on_loop.ask(read.command)
            if reply is None:
                return None
            read.take(reply)
        self._horizon.saw(read.position, at_least)
        if not read.is_quiet:
            return None
        self._standing = Standing(read.version, read.position, asked_s)
        return Moment(read.position, read.states)

    def _stands(self, standing: Standing, at_least: int, now_s: float) -> bool:
        """Whether it was said lately, and by nothing that was seen meanwhile is it out of date."""
        lately = now_s - standing.asked_s < self._standing_s
        return lately and standing.position >= at_least and standing.version is self._known.version

    @contextmanager
    def write(self) -> Iterator[RedisTransaction]:
        """A transaction, written at the end of the block. Raises ``StoreConflict``, and
        ``FailedPrecondition`` (STORE_MOVED) when the store is not where this log left it."""
        try:
            self._cursor.load()
            transaction = RedisTransaction(self._servers, self._names, self._cursor, self._listed)
            yield transaction
            transaction.commit()
        except StoreConflict:
            raise
        except BaseException:
            self._cursor.forget()
            raise

    def tend(self) -> None:
        """Looks whether everything is where it was left. Raises as ``write``."""
        try:
            self._cursor.tend()
        except BaseException:
            self._cursor.forget()
            raise

    def check(self) -> None:
        """Nothing to do: a server that starts on damaged files says so itself."""

    def leave(self) -> None:
        """Removes all keys of the store when no other log is a member of it. Otherwise they stay,
        also where this log is: it may come back, and its events are in the states."""
        names = self._names
        _, others = self._servers.run(
            [
                Command(0, ("SREM", names.members, names.log_id)),
                Command(0, ("SCARD", names.members)),
            ]
        )
        if not others:
            for found in self._servers.keys(names.base + b"*"):
                self._servers.unlink(found)

    def close(self) -> None:
        """Closes the connections; where there is a ``on_loop``, on its event loop."""
        if self._on_loop is not None:
            self._on_loop.close()
        self._servers.close()


def connect(url: str, *, cluster: bool, timeout_s: float) -> Servers:
    """Servers behind ``redis://`` or ``rediss://`` (TLS); of a Cluster the URL names any node.

    Connects when it is first needed. Raises ``ConfigError`` for what is no such URL.
    """
    kind = ServerCluster if cluster else SingleServer
    return kind(url, timeout_s, SCRIPTS)


def loop_server(url: str, *, timeout_s: float) -> LoopServer | None:
    """A single server for those who ask on an event loop; None where the URL has TLS or options:
    those are asked through threads alone."""
    address = plain_address(url)
    return LoopServer(address, timeout_s) if address is not None else None
