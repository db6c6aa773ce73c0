"""The tables as they are now. How they came to be stands in ``migrations``."""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Integer, MetaData, Table, Text
from sqlalchemy.types import TypeEngine

METADATA: Final = MetaData()

# SQLite numbers rows by itself only where the column is its INTEGER.
_NUMBER: TypeEngine[int] = BigInteger().with_variant(Integer, "sqlite")

REGISTRY: Final = Table(
    "registry",
    METADATA,
    Column("id", Integer, primary_key=True),
    Column("version", BigInteger, nullable=False),
)
"""One row. Every change of definitions takes it first, so that there is one at a time."""

DEFINITIONS: Final = Table(
    "definitions",
    METADATA,
    Column("kind", Text, primary_key=True),
    Column("key", Text, primary_key=True),
    Column("version", BigInteger, nullable=False),
    Column("state", Text),
    Column("revision", Integer, nullable=False),
    Column("evaluator_version", Integer, nullable=False),
    Column("canonical_json", Text, nullable=False),
    Column("authored_json", Text, nullable=False),
    Column("winner", Text, nullable=False),
    Column("rolled_out", Boolean, nullable=False),
    Column("created_ms", BigInteger, nullable=False),
    Column("updated_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger),
    Column("concluded_ms", BigInteger),
)

AUDIT: Final = Table(
    "audit",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("at_ms", BigInteger, nullable=False),
    Column("caller", Text, nullable=False),
    Column("action", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("key", Text, nullable=False, index=True),
    Column("version_before", BigInteger, nullable=False),
    Column("version_after", BigInteger, nullable=False),
    Column("changed_fields", Text, nullable=False),
    Column("state_before", Text),
    Column("state_after", Text),
    Column("remark", Text, nullable=False),
)
"""Triggers refuse to change what it holds."""

REPORTS: Final = Table(
    "reports",
    METADATA,
    Column("number", _NUMBER, primary_key=True, autoincrement=True),
    Column("experiment_key", Text, nullable=False, index=True),
    Column("created_ms", BigInteger, nullable=False),
    Column("caller", Text, nullable=False),
    Column("revision", Integer, nullable=False),
    Column("json", Text, nullable=False),
    Column("html", Text, nullable=False),
)
