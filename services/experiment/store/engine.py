"""Connections to the registry's database."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Connection, Engine, NullPool, create_engine, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from services.common.errors import ConfigError, Unavailable

SETTING: Final = "PODIUM_EXPERIMENT_DATABASE_URL"
RETRY_AFTER_MS: Final = 1_000
_WAIT_S: Final = 4
"""Longest wait for a connection, a lock or an answer."""

_WRITES: Final = "podium_writes"


def open_engine(url_text: str) -> Engine:
    """An engine for ``sqlite:///PATH`` or ``postgresql://...``; connects to nothing yet.

    Raises ``ConfigError`` for another address.
    """
    try:
        url = make_url(url_text)
    except ArgumentError as error:
        raise ConfigError("environment", 0, SETTING, "is no database URL") from error
    if url.get_backend_name() == "sqlite" and url.database not in (None, "", ":memory:"):
        return _sqlite(url)
    if url.get_backend_name() == "postgresql":
        return _postgresql(url)
    raise ConfigError(
        "environment", 0, SETTING, "must be sqlite:///PATH or postgresql://USER@HOST/DATABASE"
    )


def _sqlite(url: URL) -> Engine:
    # A connection a use: what became of the file is seen, and none is open while nothing is done.
    engine = create_engine(
        url, poolclass=NullPool, connect_args={"timeout": _WAIT_S}, hide_parameters=True
    )
    directory = Path(url.database or "").parent

    @event.listens_for(engine, "do_connect")
    def _make_directory(*_: object) -> None:
        if not directory.exists():
            directory.mkdir(parents=True, exist_ok=True)

    @event.listens_for(engine, "connect")
    def _leave_transactions_to_us(connection: sqlite3.Connection, _: object) -> None:
        connection.isolation_level = None

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # A transaction that begins by reading could not write after somebody else did.
        writes = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _postgresql(url: URL) -> Engine:
    # Needed with PostgreSQL alone.
    from services.experiment.store.bounded import BoundedConnection

    limits_ms = _WAIT_S * 1_000
    engine = create_engine(
        url.set(drivername="postgresql+psycopg"),
        pool_size=4,
        max_overflow=0,
        pool_timeout=_WAIT_S,
        pool_pre_ping=True,
        # Definitions may name users: errors show none of what was sent.
        hide_parameters=True,
        connect_args={
            "connect_timeout": _WAIT_S,
            "tcp_user_timeout": limits_ms,
            "application_name": "podium-experiment",
            "options": f"-c statement_timeout={limits_ms} -c lock_timeout={limits_ms}",
        },
    )

    @event.listens_for(engine, "do_connect")
    def _connect(
        _dialect: object, _record: object, arguments: tuple[Any, ...], named: dict[str, Any]
    ) -> BoundedConnection:
        connection = BoundedConnection.connect(*arguments, **named)
        # The server's own limits come first: they say what was waited for.
        connection.longest_wait_s = _WAIT_S + 1
        return connection

    return engine


@contextmanager
def transaction(
    engine: Engine, *, writes: bool = False, whole: bool = False
) -> Iterator[Connection]:
    """A transaction, kept where the block ends without an error. ``whole``: all that is read in it
    is of one moment. Raises ``Unavailable`` where the database fails."""
    options: dict[str, Any] = {_WRITES: writes}
    if whole and engine.dialect.name == "postgresql":
        options["isolation_level"] = "REPEATABLE READ"
    try:
        with engine.connect() as connection:
            connection = connection.execution_options(**options)  # noqa: PLW2901 - the same one
            with connection.begin():
                yield connection
    except (SQLAlchemyError, OSError, UnicodeDecodeError) as error:
        # What is wrong with a damaged file SQLite may tell in bytes that are no text.
        raise unavailable(error) from error


def unavailable(error: Exception) -> Unavailable:
    """The database failed."""
    return Unavailable(
        f"the registry's database fails ({type(error).__name__}); what is in force stays",
        retry_after_ms=RETRY_AFTER_MS,
        reason="REGISTRY_UNAVAILABLE",
    )
