"""The compacted log as tables of a query engine."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

import ibis
import ibis.expr.types as ir
import pyarrow as pa
from ibis.backends import BaseBackend

from offline.dataset.columns import EVENTS, Columns
from offline.dataset.schema import ENDING_SCHEMA, ENDINGS, changes_table

MEMORY_LIMIT = "4GB"


class Engine(Protocol):
    """What the tables need of a backend."""

    def opened(self, paths: list[Path], name: str) -> ir.Table:
        """Parquet files of one schema as a table."""

    def imported(self, table: pa.Table, name: str) -> ir.Table:
        """A table in memory as one of the engine."""

    def stored(self, expression: ir.Table, name: str) -> ir.Table:
        """Computes ``expression`` once, into a table that lives as long as the engine."""

    def read(self, expression: ir.Table) -> pa.Table:
        """What ``expression`` gives, in its order, with the types it declares."""

    def batches(self, expression: ir.Table, rows: int) -> pa.RecordBatchReader:
        """As ``read``, up to ``rows`` at a time, without holding more of it in memory."""


OpenTables = Callable[[Columns], AbstractContextManager["LogTables"]]
"""Opens a compacted log in an engine."""


@dataclass(frozen=True)
class LogTables:
    """The events and changes that count, as expressions on one engine.

    Columns are those of ``ColumnSchema.event_schema`` and ``change_schema``. ``endings``:
    ``ENDING_SCHEMA``, None where no history has ended.
    """

    engine: Engine
    events: ir.Table
    changes: dict[str, ir.Table]
    endings: ir.Table | None
    next_arrival: int
    _numbers: Iterator[int] = field(default_factory=itertools.count)
    _kept: dict[str, ir.Table] = field(default_factory=dict)

    def stored(self, expression: ir.Table) -> ir.Table:
        """Computes ``expression`` once, into a table that lives as long as the connection."""
        return self.engine.stored(expression, f"stored_{next(self._numbers)}")

    def once(self, name: str, expression: Callable[[], ir.Table]) -> ir.Table:
        """A stored table that is computed when it is first asked for under this name."""
        if name not in self._kept:
            self._kept[name] = self.stored(expression())
        return self._kept[name]

    def imported(self, table: pa.Table) -> ir.Table:
        """A table in memory as one of the engine."""
        return self.engine.imported(_nullable(table), f"imported_{next(self._numbers)}")

    def has_rows(self, expression: ir.Table) -> bool:
        """Whether ``expression`` has any row."""
        return bool(self.engine.read(expression.limit(1)).num_rows)


def tables_on(engine: Engine, columns: Columns) -> LogTables:
    """A compacted log on an engine."""
    schema = columns.schema
    ended = columns.files(ENDINGS)

    def table(files: list[Path], fields: pa.Schema, name: str) -> ir.Table:
        if not files:
            return engine.imported(_nullable(fields.empty_table()), name)
        return engine.opened(files, name)

    return LogTables(
        engine,
        table(columns.files(EVENTS), schema.event_schema, EVENTS),
        {
            entity: table(
                columns.files(changes_table(entity)),
                schema.change_schema(entity),
                f"changes_{entity}",
            )
            for entity in schema.catalogue
        },
        table(ended, ENDING_SCHEMA, ENDINGS) if ended else None,
        columns.state.next_arrival,
    )


def _nullable(table: pa.Table) -> pa.Table:
    """The table with the types that every other one has: columns that may be null."""
    return table.cast(pa.schema([field.with_nullable(True) for field in table.schema]))


class DuckDB:
    """The embedded engine."""

    def __init__(self, connection: BaseBackend) -> None:
        self.connection = connection

    def opened(self, paths: list[Path], name: str) -> ir.Table:
        """See ``Engine``."""
        files = [str(path) for path in paths]
        return self.connection.read_parquet(files, table_name=name, hive_partitioning=False)

    def imported(self, table: pa.Table, name: str) -> ir.Table:
        """See ``Engine``."""
        return self.connection.create_table(name, ibis.memtable(table), temp=True)

    def stored(self, expression: ir.Table, name: str) -> ir.Table:
        """See ``Engine``."""
        # With an expression ``create_table`` copies its query again and again.
        query = self.connection.compiler.to_sqlglot(expression).sql("duckdb", copy=False)
        table = self.connection.create_table(name, schema=expression.schema(), temp=True)
        self.connection.con.execute(f'INSERT INTO "{name}" {query}')
        return table

    def read(self, expression: ir.Table) -> pa.Table:
        """See ``Engine``."""
        return self.connection.to_pyarrow(expression)

    def batches(self, expression: ir.Table, rows: int) -> pa.RecordBatchReader:
        """See ``Engine``."""
        return self.connection.to_pyarrow_batches(expression, chunk_size=rows)


@contextmanager
def open_tables(columns: Columns, *, memory_limit: str = MEMORY_LIMIT) -> Iterator[LogTables]:
    """Opens a compacted log in an embedded engine that spills to a temporary directory."""
    with _selects_as_written(), tempfile.TemporaryDirectory(prefix="podium-dataset-") as spill:
        connection = ibis.duckdb.connect(memory_limit=memory_limit, temp_directory=spill)
        try:
            yield tables_on(DuckDB(connection), columns)
        finally:
            connection.disconnect()


@contextmanager
def _selects_as_written() -> Iterator[None]:
    """Ibis merges no selects: DuckDB does that itself, and many times faster."""
    options = ibis.options.sql
    before = options.fuse_selects
    options.fuse_selects = False
    try:
        yield
    finally:
        options.fuse_selects = before
