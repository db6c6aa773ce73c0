"""Reaching Redis or Valkey: one server, or a Cluster. Commands go out in pipelines by partition.

A partition is a hash tag: keys that carry the same one live in one slot, so that a script may touch
several of them, there as in a Cluster. There are 64; they move between nodes as wholes.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple, Protocol

from redis import Redis, RedisCluster, exceptions
from redis.backoff import NoBackoff
from redis.connection import parse_url
from redis.retry import Retry

from services.common.errors import ConfigError, Unavailable
from services.feature.store.redis_scripts import name_of

PARTITIONS: Final = 64
TAGS: Final = tuple(b"{%02x}" % partition for partition in range(PARTITIONS))
"""The hash tag of each partition."""

CONNECT_TIMEOUT_S = 1.0
DEFAULT_PORT: Final = 6379
ATTEMPTS = 3

_Argument = bytes | str | int
_ELSEWHERE = (exceptions.AskError, exceptions.TryAgainError)
"""What a node answers for a slot that it does not hold, or hands over now. MOVED is an ASK."""

_ERRORS = (exceptions.RedisError, exceptions.RedisClusterException)


class Command(NamedTuple):
    """A command whose keys all belong to one partition."""

    partition: int
    arguments: tuple[_Argument, ...]


@dataclass(frozen=True)
class PlainAddress:
    """A single server that is reached without TLS, and what to tell it first."""

    host: str
    port: int
    greeting: tuple[tuple[_Argument, ...], ...] = field(default=(), repr=False)


class Servers(Protocol):
    """Where partitions live. Thread-safe. Methods raise ``Unavailable`` when no answer comes, and
    with the reason STORE_FULL when the memory that Redis may use is taken."""

    @property
    def single(self) -> bool:
        """Whether one server holds all partitions: commands are then executed in order, and may
        name keys of several."""
        ...

    def run(self, commands: Sequence[Command], *, together: bool = False) -> list[Any]:
        """Replies of all commands, in order. They are not atomic: where this raises, any of them
        may have been executed, and a command may be executed twice. ``together``: where there is a
        single server, others see what all of them did or nothing of it."""
        ...

    def keys(self, pattern: bytes) -> Iterator[list[bytes]]:
        """Keys that match a glob pattern, some at a time."""
        ...

    def unlink(self, keys: Sequence[bytes]) -> None:
        """Removes keys of any partition."""
        ...

    def close(self) -> None:
        """Closes the connections."""
        ...


class SingleServer:
    """One server (or whatever speaks like one, a proxy or the primary behind a name)."""

    single = True

    def __init__(self, url: str, timeout_s: float, scripts: Mapping[str, str]) -> None:
        self._scripts = tuple(scripts.values())
        try:
            self._client = Redis.from_url(url, **_options(timeout_s))
        except ValueError as error:
            raise _wrong_url(error) from error

    def run(self, commands: Sequence[Command], *, together: bool = False) -> list[Any]:
        try:
            return _replies(self._client, commands, self._scripts, together=together)
        except exceptions.RedisError as error:
            raise unavailable(error) from error

    def keys(self, pattern: bytes) -> Iterator[list[bytes]]:
        try:
            yield from _scan(self._client, pattern)
        except exceptions.RedisError as error:
            raise unavailable(error) from error

    def unlink(self, keys: Sequence[bytes]) -> None:
        try:
            self._client.unlink(*keys)
        except exceptions.RedisError as error:
            raise unavailable(error) from error

    def close(self) -> None:
        self._client.close()


class ServerCluster:
    """A Redis Cluster, reached through any of its nodes."""

    single = False

    def __init__(self, url: str, timeout_s: float, scripts: Mapping[str, str]) -> None:
        self._url = url
        self._timeout_s = timeout_s
        self._scripts = tuple(scripts.values())
        self._lock = threading.Lock()
        self._cluster: RedisCluster | None = None
        with suppress(Unavailable):
            self._connected()

    def run(
        self,
        commands: Sequence[Command],
        *,
        together: bool = False,  # noqa: ARG002 - nodes have no transactions in common
    ) -> list[Any]:
        replies: list[Any] = [None] * len(commands)
        left = list(range(len(commands)))
        for attempt in range(ATTEMPTS):
            left = self._run_some(commands, left, replies, last=attempt == ATTEMPTS - 1)
            if not left:
                return replies
            self._forget()
        raise Unavailable("the cluster moves its slots", reason="STORE_UNAVAILABLE")

    def keys(self, pattern: bytes) -> Iterator[list[bytes]]:
        try:
            for client in self._primaries():
                yield from _scan(client, pattern)
        except _ERRORS as error:
            raise unavailable(error) from error

    def unlink(self, keys: Sequence[bytes]) -> None:
        partitions = {tag: partition for partition, tag in enumerate(TAGS)}
        self.run([Command(partitions[_tag(key)], ("UNLINK", key)) for key in keys])

    def close(self) -> None:
        self._forget()

    def _run_some(
        self, commands: Sequence[Command], wanted: Sequence[int], replies: list[Any], *, last: bool
    ) -> list[int]:
        """Runs the wanted commands; returns those that have to be tried again."""
        cluster: Any = self._connected()
        by_node: dict[str, tuple[Redis, list[int]]] = {}
        try:
            for index in wanted:
                node = cluster.get_node_from_key(TAGS[commands[index].partition])
                if node.name not in by_node:
                    by_node[node.name] = (cluster.get_redis_connection(node), [])
                by_node[node.name][1].append(index)
            for client, indices in by_node.values():
                got = _replies(client, [commands[index] for index in indices], self._scripts)
                for index, reply in zip(indices, got, strict=True):
                    replies[index] = reply
        except exceptions.TimeoutError as error:
            raise unavailable(error) from error
        except (
            exceptions.ConnectionError,
            exceptions.ClusterError,
            exceptions.RedisClusterException,
        ) as error:
            # The node may be gone and another one stand in for it by now.
            if last:
                raise unavailable(error) from error
            return list(wanted)
        except exceptions.RedisError as error:
            raise unavailable(error) from error
        return [index for index in wanted if isinstance(replies[index], _ELSEWHERE)]

    def _primaries(self) -> list[Redis]:
        cluster: Any = self._connected()
        return [cluster.get_redis_connection(node) for node in cluster.get_primaries()]

    def _connected(self) -> RedisCluster:
        with self._lock:
            if self._cluster is None:
                try:
                    self._cluster = RedisCluster.from_url(self._url, **_options(self._timeout_s))
                except ValueError as error:
                    raise _wrong_url(error) from error
                except _ERRORS as error:
                    raise unavailable(error) from error
            return self._cluster

    def _forget(self) -> None:
        """Closes what is known of the cluster; it is asked anew."""
        with self._lock:
            cluster, self._cluster = self._cluster, None
        if cluster is not None:
            with suppress(*_ERRORS):
                cluster.close()


def unavailable(error: Exception) -> Unavailable:
    """The domain error for a Redis error."""
    if isinstance(error, exceptions.OutOfMemoryError):
        return Unavailable("Redis uses all the memory it may (maxmemory)", reason="STORE_FULL")
    return Unavailable(f"Redis does not answer: {error}", reason="STORE_UNAVAILABLE")


def plain_address(url: str) -> PlainAddress | None:
    """Where a URL of a single server leads; None where it says more than host, port, database,
    user and password, such as a URL with TLS, of a socket's path, or with options."""
    try:
        parts: dict[str, Any] = dict(parse_url(url))  # type: ignore[no-untyped-call]
    except ValueError as error:
        raise _wrong_url(error) from error
    if not parts.keys() <= {"host", "port", "db", "username", "password"}:
        return None
    greeting: list[tuple[_Argument, ...]] = []
    if "password" in parts:
        user = (parts["username"],) if "username" in parts else ()
        greeting.append(("AUTH", *user, parts["password"]))
    if parts.get("db"):
        greeting.append(("SELECT", parts["db"]))
    return PlainAddress(
        parts.get("host") or "localhost", parts.get("port") or DEFAULT_PORT, tuple(greeting)
    )


def _options(timeout_s: float) -> dict[str, Any]:
    # One try more, at once: a pooled connection may have died with a restarted server.
    return {
        "socket_timeout": timeout_s,
        "socket_connect_timeout": min(timeout_s, CONNECT_TIMEOUT_S),
        "retry": Retry(NoBackoff(), 1),
        "protocol": 2,
    }


def _replies(
    client: Redis, commands: Sequence[Command], scripts: Sequence[str], *, together: bool = False
) -> list[Any]:
    """Replies of one server; those of commands that belong elsewhere are the errors."""
    for attempt in range(2):
        pipeline: Any = client.pipeline(transaction=together)
        for command in commands:
            pipeline.execute_command(*command.arguments)
        replies: list[Any] = pipeline.execute(raise_on_error=False)
        if attempt == 0 and any(isinstance(reply, exceptions.NoScriptError) for reply in replies):
            for script in scripts:
                client.script_load(script)
            continue
        break
    for reply in replies:
        if isinstance(reply, Exception) and not isinstance(reply, _ELSEWHERE):
            raise reply
    return replies


def _scan(client: Any, pattern: bytes) -> Iterator[list[bytes]]:
    cursor = 0
    while True:
        cursor, found = client.scan(cursor, match=pattern, count=1_000)
        if found:
            yield found
        if not int(cursor):
            return


def _tag(key: bytes) -> bytes:
    start = key.index(b"{")
    return key[start : start + 4]


def _wrong_url(error: ValueError) -> ConfigError:
    return ConfigError("environment", 0, "PODIUM_REDIS_URL", str(error))


def call(
    partition: int, script: str, keys: Sequence[bytes], arguments: Sequence[_Argument]
) -> Command:
    """The command that runs a script of ``redis_scripts``."""
    return Command(partition, ("EVALSHA", name_of(script), len(keys), *keys, *arguments))
