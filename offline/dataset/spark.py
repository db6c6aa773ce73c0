"""The tables of a log on Spark, for logs that outgrow one machine.

The log, and the folder for what is computed, must be where all of Spark's workers see them.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

import ibis
import ibis.expr.types as ir
import pyarrow as pa
import pyarrow.parquet as pq

from offline.dataset.columns import Columns
from offline.dataset.log_tables import LogTables, tables_on
from services.common.errors import FailedPrecondition

if TYPE_CHECKING:
    from ibis.backends import BaseBackend
    from pyspark.sql import DataFrame, SparkSession

_SETTINGS = {
    "spark.app.name": "podium",
    "spark.sql.session.timeZone": "UTC",
    # A sum that overflows or a division by zero is an error, as it is to the embedded engine.
    "spark.sql.ansi.enabled": "true",
    # What holds of each table is derived anew of all that it is made of, which grows without bound.
    "spark.sql.constraintPropagation.enabled": "false",
    "spark.log.level": "ERROR",
    "spark.ui.showConsoleProgress": "false",
}


class Spark:
    """``log_tables.Engine`` on a session. ``scratch``: a folder for what is read back."""

    def __init__(self, session: SparkSession, scratch: Path) -> None:
        self._connection: BaseBackend = ibis.pyspark.connect(session)
        self._session = session
        self._scratch = scratch
        self._numbers = count()

    def opened(self, paths: list[Path], name: str) -> ir.Table:
        """See ``Engine``."""
        files = [_located(path) for path in paths]
        return self._named(self._session.read.parquet(*files), name)

    def imported(self, table: pa.Table, name: str) -> ir.Table:
        """See ``Engine``."""
        return self._named(self._session.createDataFrame(table), name)

    def stored(self, expression: ir.Table, name: str) -> ir.Table:
        """See ``Engine``. The plan is cut here, or plans would grow with each table."""
        from ibis.backends.pyspark.datatypes import PySparkSchema

        frame = self._frame(expression)
        # Spark numbers rows in 32 bits where the expression says 64.
        declared = PySparkSchema.from_ibis(expression.schema())
        columns = [frame[f"`{field.name}`"].cast(field.dataType) for field in declared]
        return self._named(frame.select(columns).localCheckpoint(), name)

    def read(self, expression: ir.Table) -> pa.Table:
        """See ``Engine``."""
        return self._frame(expression).toArrow().cast(expression.schema().to_pyarrow())

    def batches(self, expression: ir.Table, rows: int) -> pa.RecordBatchReader:
        """See ``Engine``. It goes through files: collecting would hold all of it here."""
        directory = self._scratch / f"batches_{next(self._numbers)}"
        self._frame(expression).write.parquet(_located(directory))
        schema = expression.schema().to_pyarrow()
        # Parts are numbered in the order of the rows.
        parts = sorted(directory.glob("part-*.parquet"))
        return pa.RecordBatchReader.from_batches(schema, _batches_of(parts, schema, rows))

    def _frame(self, expression: ir.Table) -> DataFrame:
        return self._session.sql(self._connection.compile(expression))

    def _named(self, frame: DataFrame, name: str) -> ir.Table:
        frame.createOrReplaceTempView(name)
        return self._connection.table(name)


def _located(path: Path) -> str:
    # Spark takes the text as it is: a quoted one names another file.
    return f"file://{path.absolute()}"


def _batches_of(parts: list[Path], schema: pa.Schema, rows: int) -> Iterator[pa.RecordBatch]:
    for part in parts:
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(batch_size=rows):
                yield batch.cast(schema)


@contextmanager
def spark_session(settings: Mapping[str, str]) -> Iterator[SparkSession]:
    """A session, stopped at the end. ``settings``: of Spark, over those of its own configuration;
    where neither names a master, all cores of this machine.

    Raises ``FailedPrecondition`` (SPARK_MISSING) without PySpark or a Java that runs it.
    """
    try:
        from pyspark.errors import PySparkRuntimeError
        from pyspark.sql import SparkSession
    except ImportError as error:
        raise FailedPrecondition(
            f"Spark needs the extra spark (pip install 'podium[spark]'): {error}",
            reason="SPARK_MISSING",
        ) from error
    builder = SparkSession.builder
    for name, value in {**_SETTINGS, **settings}.items():
        builder = builder.config(name, value)
    try:
        session = builder.getOrCreate()
    except PySparkRuntimeError as error:
        raise FailedPrecondition(
            "Spark did not start: it needs Java 17 or 21, as java on the PATH or in JAVA_HOME"
            " (Debian: apt-get install openjdk-17-jre-headless)",
            reason="SPARK_MISSING",
        ) from error
    try:
        yield session
    finally:
        session.stop()


@contextmanager
def open_on_spark(session: SparkSession, columns: Columns) -> Iterator[LogTables]:
    """Opens a compacted log in a session. What is read back goes through a folder beside it."""
    with tempfile.TemporaryDirectory(prefix="spark-", dir=columns.directory) as scratch:
        yield tables_on(Spark(session, Path(scratch)), columns)
