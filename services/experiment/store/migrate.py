"""Brings the tables up to date."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.util import CommandError
from sqlalchemy import Engine, text

from services.common.errors import Unavailable
from services.experiment.store.engine import transaction

_LOCK: Final = 0x706F6469756D
"""Number of the advisory lock; any that nobody else takes."""


def migrate(engine: Engine) -> None:
    """Runs what is missing, in one transaction. Whoever comes second finds it done.

    Raises ``Unavailable`` where the database is gone, or its tables are newer than this replica.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with transaction(engine, writes=True) as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": _LOCK})
        config.attributes["connection"] = connection
        try:
            command.upgrade(config, "head")
        except CommandError as error:
            raise Unavailable(
                f"the registry's tables are of a version that is not known here: {error}",
                reason="REGISTRY_TABLES_UNKNOWN",
            ) from error
