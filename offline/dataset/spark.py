"""The tables of a log on Spark, for logs that outgrow one machine."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq
from ibis.backends import BaseBackend
from ibis.backends.pyspark.datatypes import PySparkSchema
from pyspark.sql import DataFrame, SparkSession

from offline.dataset.columns import Columns
from offline.dataset.log_tables import LogTables, tables_on


class Spark:
    """The engine ``log_tables.Engine`` on a session. ``scratch``: a folder that all of its workers
    see; tables in memory reach the session through it."""

    def __init__(self, session: SparkSession, scratch: Path) -> None:
        self.connection: BaseBackend = ibis.pyspark.connect(session)
        self._session = session
        self._scratch = scratch

    def opened(self, paths: list[Path], name: str) -> ir.Table:
        """See ``Engine``."""
        return self._named(self._session.read.parquet(*(str(path) for path in paths)), name)

    def imported(self, table: pa.Table, name: str) -> ir.Table:
        """See ``Engine``."""
        path = self._scratch / f"{name}.parquet"
        pq.write_table(table, path)
        return self.opened([path], name)

    def stored(self, expression: ir.Table, name: str) -> ir.Table:
        """See ``Engine``. The plan is cut here, or plans would grow with each table."""
        frame = self._session.sql(self.connection.compile(expression))
        # Spark numbers rows in 32 bits where the expression says 64.
        declared = PySparkSchema.from_ibis(expression.schema())
        columns = [frame[f"`{field.name}`"].cast(field.dataType) for field in declared]
        return self._named(frame.select(columns).localCheckpoint(), name)

    def _named(self, frame: DataFrame, name: str) -> ir.Table:
        frame.createOrReplaceTempView(name)
        return self.connection.table(name)


def local_session(cores: int = 2) -> SparkSession:
    """A session within this process. Needs Java 17."""
    settings = {
        "spark.sql.shuffle.partitions": str(cores),
        "spark.ui.enabled": "false",
        "spark.sql.ansi.enabled": "true",
        "spark.driver.bindAddress": "127.0.0.1",
        "spark.driver.host": "127.0.0.1",
        "spark.sql.execution.arrow.pyspark.enabled": "true",
    }
    builder = SparkSession.builder.master(f"local[{cores}]").appName("podium")
    for name, value in settings.items():
        builder = builder.config(name, value)
    return builder.getOrCreate()


@contextmanager
def open_on_spark(session: SparkSession, columns: Columns) -> Iterator[LogTables]:
    """Opens a compacted log in a Spark session of one machine."""
    with tempfile.TemporaryDirectory(prefix="podium-spark-") as scratch:
        yield tables_on(Spark(session, Path(scratch)), columns)
