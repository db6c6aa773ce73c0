"""A real PostgreSQL on a socket, from the binaries in the ``pgserver`` wheel."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

DATABASE = "podium"
ROOT = Path(__file__).parents[2]
_BREAK = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname IS NOT NULL AND datname <> current_database()"
)


class PostgreSql:
    """One server, with a database that can be emptied, and taken away and brought back.
    ``crash`` ends the server, ``start`` starts it again."""

    def __init__(self, uri: str, crash: Callable[[], object], start: Callable[[], object]) -> None:
        self.crash, self.start = crash, start
        self._admin = create_engine(
            make_url(uri).set(drivername="postgresql+psycopg"),
            isolation_level="AUTOCOMMIT",
            poolclass=NullPool,
        )
        url = make_url(uri).set(database=DATABASE)
        self.url = url.render_as_string(hide_password=False)

    def empty(self) -> None:
        """Nothing is in the database any more."""
        self._run(f"DROP DATABASE IF EXISTS {DATABASE} WITH (FORCE)", f"CREATE DATABASE {DATABASE}")

    def take_away(self) -> None:
        """Every connection breaks, and no new one is made."""
        self._run(
            f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS false",
            _BREAK,
        )

    def break_connections(self) -> None:
        """Every connection breaks; new ones may be made."""
        self._run(_BREAK)

    def processes(self) -> list[int]:
        """Processes of the server that serve a connection to the database."""
        asked = text("SELECT pid FROM pg_stat_activity WHERE datname = :name")
        with self._admin.connect() as connection:
            return [*connection.execute(asked, {"name": DATABASE}).scalars()]

    def bring_back(self) -> None:
        """The database is there again."""
        self._run(f"ALTER DATABASE {DATABASE} ALLOW_CONNECTIONS true")

    def close(self) -> None:
        """Closes the connections."""
        self._admin.dispose()

    def _run(self, *statements: str) -> None:
        with self._admin.connect() as connection:
            for statement in statements:
                connection.execute(text(statement))


@contextmanager
def postgresql_server() -> Iterator[PostgreSql]:
    """A server until the block ends. Skips the test where there is none; under CI=true it fails."""
    if importlib.util.find_spec("pgserver") is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no PostgreSQL: the pgserver wheel carries one")
        pytest.skip("no PostgreSQL")
    # Root's server runs as another user, for whom pytest's own directories are closed.
    with TemporaryDirectory(prefix="podium-postgresql-") as name:
        yield from _served(Path(name))


def _served(directory: Path) -> Iterator[PostgreSql]:
    command = [sys.executable, "-m", "tests.support.postgresql_process", str(directory)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        asked, told = process.stdin, process.stdout

        def tell(line: str) -> None:
            asked.write(f"{line}\n")
            asked.flush()
            assert told.readline() == "done\n", f"PostgreSQL did not {line}"

        uri = told.readline().strip()
        assert uri, "PostgreSQL did not start"
        found = PostgreSql(uri, lambda: tell("crash"), lambda: tell("start"))
        try:
            yield found
        finally:
            found.close()
            asked.close()
            process.wait(60)
