"""Builds a dataset from an event log."""

from __future__ import annotations

from pathlib import Path

import ibis.expr.types as ir
import pyarrow.compute as pc
import pyarrow.parquet as pq

from offline.archive.target import Target
from offline.dataset.columns import Columns, compact
from offline.dataset.examples import ExampleTables
from offline.dataset.leak_check import LeakReport, check_leaks
from offline.dataset.log_tables import LogTables, OpenTables, open_tables
from offline.dataset.schema import ColumnSchema
from offline.dataset.tables import (
    FORMAT_VERSION,
    META_FILE,
    SPLITS,
    DatasetMeta,
    ViewReference,
    described_entities,
)
from offline.progress import Progress, no_progress
from services.common.domain import Domain
from services.common.durations import duration_ms
from services.common.errors import FailedPrecondition, NotFound
from services.feature.definitions import compile_views

COLUMNS_DIRECTORY = "columns"
LEAK_SAMPLE = 64
_BATCH_ROWS = 65_536


def build_dataset(
    domain: Domain,
    log_dir: Path,
    out_dir: Path,
    *,
    archive: Target | None = None,
    open_log: OpenTables = open_tables,
    progress: Progress = no_progress,
    leak_sample: int = LEAK_SAMPLE,
) -> DatasetMeta:
    """Writes the dataset of ``log_dir`` to ``out_dir``; ``offline.dataset.tables`` says what it is.

    What was removed from the log is read from its ``archive``. The compacted columns stay in
    ``out_dir/columns``, so that a later build of a grown log reads only what is new. ``open_log``:
    the engine that computes the tables. ``meta.json`` is written last: a directory without it is no
    dataset. Equal logs give equal files.

    Raises ``NotFound`` without a log or any event in it, ``FailedPrecondition`` (FEATURE_LEAK) when
    a sampled example is not what the log up to its point gives.
    """
    (out_dir / META_FILE).unlink(missing_ok=True)
    schema = ColumnSchema.of(domain)
    columns = compact(
        log_dir, out_dir / COLUMNS_DIRECTORY, schema, archive=archive, progress=progress
    )
    if columns.state.next_arrival == 0:
        raise NotFound(f"{log_dir} holds no events")
    with open_log(columns) as tables:
        start_ms, end_ms = _time_range(tables)
        starts = split_starts(domain, end_ms)
        expressions = ExampleTables(domain, tables, end_ms, starts)
        rows: dict[str, int] = {}
        stages = [f"catalogue/{entity}" for entity in described_entities(domain)]
        stages += ["interactions", "examples"]
        for number, stage in enumerate(stages):
            progress("tables", number, len(stages))
            table = _expression(expressions, stage)
            rows |= _write(tables, table, out_dir / f"{stage}.parquet", stage.replace("/", "."))
        progress("tables", len(stages), len(stages))
        leaks = check_leaks(
            domain, tables, pq.read_table(out_dir / "examples.parquet"), leak_sample
        )
    if leaks.differing_values:
        raise FailedPrecondition(_leak_message(leaks), reason="FEATURE_LEAK")
    meta = _meta(domain, columns, (start_ms, end_ms), starts, rows, leaks)
    staged = out_dir / (META_FILE + ".new")
    staged.write_text(meta.model_dump_json(indent=2) + "\n", encoding="utf-8")
    staged.replace(out_dir / META_FILE)
    return meta


def split_starts(domain: Domain, end_ms: int) -> tuple[int, int] | None:
    """(validation, test) start in epoch ms of a split by time that ends at ``end_ms``."""
    split = domain.split
    if split.kind != "time" or split.test is None or split.validation is None:
        return None
    test_ms = end_ms - duration_ms(split.test)
    return test_ms - duration_ms(split.validation), test_ms


def _expression(expressions: ExampleTables, stage: str) -> ir.Table:
    if stage == "interactions":
        return expressions.interactions()
    if stage == "examples":
        return expressions.examples()
    return expressions.catalogue(stage.removeprefix("catalogue/"))


def _time_range(tables: LogTables) -> tuple[int, int]:
    events = tables.events
    found = tables.engine.read(
        events.aggregate(start=events.time_ms.min(), end=events.time_ms.max())
    ).to_pylist()[0]
    return found["start"] or 0, found["end"] or 0


def _write(tables: LogTables, table: ir.Table, path: Path, name: str) -> dict[str, int]:
    """Streams ``table`` to a file; returns its rows, and those of each split it has."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = {name: 0}
    batches = tables.engine.batches(table, _BATCH_ROWS)
    with pq.ParquetWriter(path, batches.schema) as writer:
        for batch in batches:
            writer.write_batch(batch)
            rows[name] += batch.num_rows
            if "split" in batch.schema.names:
                for split in SPLITS:
                    number = pc.sum(pc.equal(batch["split"], split)).as_py() or 0
                    rows[f"{name}.{split}"] = rows.get(f"{name}.{split}", 0) + number
    return rows


def _leak_message(leaks: LeakReport) -> str:
    return (
        f"{leaks.differing_values} of {leaks.compared_values} values in {leaks.sampled} sampled"
        f" examples are not what was known at their time: {'; '.join(leaks.differences)}"
    )


def _meta(
    domain: Domain,
    columns: Columns,
    time_range: tuple[int, int],
    starts: tuple[int, int] | None,
    rows: dict[str, int],
    leaks: LeakReport,
) -> DatasetMeta:
    views = compile_views(domain).items()
    return DatasetMeta(
        format_version=FORMAT_VERSION,
        domain=domain.name,
        config_hash=domain.config_hash,
        log_position=columns.state.next_arrival,
        start_ms=time_range[0],
        end_ms=time_range[1],
        validation_start_ms=starts[0] if starts else None,
        test_start_ms=starts[1] if starts else None,
        rows=rows,
        feature_views={e: ViewReference(name=view.name, hash=view.hash) for e, view in views},
        leak_check=leaks.result(),
    )
