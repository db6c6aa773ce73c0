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
from collections.abc import Callable, Container, Iterator
from contextlib import contextmanager
from typing import Final

from services.feature.store.protocol import StoreConflict
from services.feature.store.redis_names import Names
from services.feature.store.redis_scripts import SCRIPTS
from services.feature.store.redis_servers import Command, ServerCluster, Servers, SingleServer
from services.feature.store.redis_view import Horizon, RedisView
from services.feature.store.redis_writer import LogCursor, RedisTransaction

BATCH_RECORDS: Final = 4_096


class RedisStore:
    """The store called ``name``, as the process with the log ``log_id`` (16 hex digits) sees it.
    ``listed``: entity types that ``states`` can list. ``pause`` waits some seconds. Views may be
    used by several threads, transactions by one."""

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
    ) -> None:
        self._pause = pause
        self.log_id = log_id
        self._servers = servers
        self._listed = listed
        self._names = Names(prefix, name, log_id)
        self._horizon = Horizon()
        self._cursor = LogCursor(servers, self._names)

    @contextmanager
    def read(self) -> Iterator[RedisView]:
        """A view; what it gives is read when it is asked for."""
        yield RedisView(self._horizon, self._servers, self._names, self._pause)

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
        """Closes the connections."""
        self._servers.close()


def connect(url: str, *, cluster: bool, timeout_s: float) -> Servers:
    """Servers behind ``redis://`` or ``rediss://`` (TLS); of a Cluster the URL names any node.

    Connects when it is first needed. Raises ``ConfigError`` for what is no such URL.
    """
    kind = ServerCluster if cluster else SingleServer
    return kind(url, timeout_s, SCRIPTS)
