"""A real PostgreSQL on a socket, from the binaries in the ``pgserver`` wheel."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from sqlalchemy import NullPool, create_engine, make_url, text

DATABASE = "podium"
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
    private = directory / "run"
    private.mkdir(mode=0o700)
    with pytest.MonkeyPatch.context() as patch:
        # Where the wheel keeps its locks; it warns where that is not said.
        patch.setenv("XDG_RUNTIME_DIR", str(private))
        import pgserver

        server = pgserver.get_server(directory / "data", cleanup_mode="stop")

    def crash() -> None:
        pgserver.pg_ctl(
            ["-w", "-m", "immediate", "stop"], pgdata=server.pgdata, user=server.system_user
        )

    found = PostgreSql(server.get_uri(), crash, server.ensure_postgres_running)
    try:
        yield found
    finally:
        found.close()
        server.cleanup()
