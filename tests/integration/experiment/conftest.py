"""Databases of a registry: SQLite, and a real PostgreSQL that starts once."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.support.postgresql import PostgreSql, postgresql_server


class Database(NamedTuple):
    """An empty database that can be taken away and brought back."""

    url: str
    take_away: Callable[[], None]
    bring_back: Callable[[], None]


@pytest.fixture(scope="session")
def postgresql() -> Iterator[PostgreSql]:
    with postgresql_server() as server:
        yield server


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "postgresql":
        server: PostgreSql = request.getfixturevalue("postgresql")
        server.empty()
        return Database(server.url, server.take_away, server.bring_back)
    return sqlite_database(tmp_path)


def sqlite_database(directory: Path) -> Database:
    path, aside = directory / "registry" / "registry.db", directory / "aside.db"

    def take_away() -> None:
        path.replace(aside)
        path.mkdir()

    def bring_back() -> None:
        path.rmdir()
        aside.replace(path)

    return Database(f"sqlite:///{path}", take_away, bring_back)
