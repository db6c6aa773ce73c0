"""Real servers, one of a kind for all tests; each test has keys of its own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.redis_servers import RedisServer, redis_cluster, redis_server


@pytest.fixture(scope="session")
def single(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """One Redis server."""
    with redis_server(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[RedisServer]]:
    """A Redis Cluster of three nodes."""
    with redis_cluster(tmp_path_factory.mktemp("cluster")) as servers:
        yield servers
