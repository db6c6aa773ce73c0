"""The compacted log as tables of a query engine."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends import BaseBackend

from offline.dataset.columns import EVENTS, Columns
from offline.dataset.schema import changes_table, entity_column
from services.feature.definitions import USER_ENTITY

MEMORY_LIMIT = "4GB"


@dataclass(frozen=True)
class LogTables:
    """The events and catalogue changes that count, as expressions on one connection.

    Columns are those of ``ColumnSchema.event_schema`` and ``change_schema``.
    """

    connection: BaseBackend
    events: ir.Table
    changes: dict[str, ir.Table]
    next_arrival: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)

    def stored(self, expression: ir.Table) -> ir.Table:
        """Computes ``expression`` once, into a table that lives as long as the connection."""
        return self.connection.create_table(f"stored_{next(self._numbers)}", expression, temp=True)

    def has_rows(self, expression: ir.Table) -> bool:
        """Whether ``expression`` has any row."""
        found: pa.Table = self.connection.to_pyarrow(expression.limit(1))
        return bool(found.num_rows)

    def about(self, entity: str) -> ir.Table:
        """Events that concern an entity of this type, its id in ``id``: a user is the actor, any
        other entity is one that the event names."""
        column = "actor" if entity == USER_ENTITY else entity_column(entity)
        identity = self.events[column]
        return self.events.mutate(id=identity).filter(identity.notnull() & (identity != ""))


@contextmanager
def open_tables(columns: Columns) -> Iterator[LogTables]:
    """Opens a compacted log in an embedded engine that spills to a temporary directory."""
    with tempfile.TemporaryDirectory(prefix="podium-dataset-") as spill:
        connection = ibis.duckdb.connect(memory_limit=MEMORY_LIMIT, temp_directory=spill)
        try:
            schema = columns.schema
            yield LogTables(
                connection,
                _table(connection, columns.files(EVENTS), schema.event_schema, EVENTS),
                {
                    entity: _table(
                        connection,
                        columns.files(changes_table(entity)),
                        schema.change_schema(entity),
                        f"changes_{entity}",
                    )
                    for entity in schema.catalogue
                },
                columns.state.next_arrival,
            )
        finally:
            connection.disconnect()


def _table(connection: BaseBackend, files: list[Path], schema: pa.Schema, name: str) -> ir.Table:
    if not files:
        return ibis.memtable(schema.empty_table())
    paths = [str(path) for path in files]
    return connection.read_parquet(paths, table_name=name, hive_partitioning=False)
