"""Events as one flat file."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from offline.archive.columns import FLAT_NAMES, SCHEMA
from offline.archive.source import EventFilter, EventSource
from offline.progress import Progress, no_progress
from services.common.errors import InvalidArgument, NotFound

_FLAT = pa.schema([SCHEMA.field(name) for name in FLAT_NAMES])
_Write = Callable[[pa.Table], None]


def export_events(
    source: EventSource,
    out: Path,
    wanted: EventFilter,
    *,
    progress: Progress = no_progress,
) -> int:
    """Writes the wanted events to ``out``, by its suffix ``.parquet`` or ``.jsonl``; returns how
    many.

    A row has the columns ``FLAT_NAMES``; in JSON times are ISO 8601 and what is null is left out.
    Ids are the pseudonyms that the log holds. The file shows when it is whole. Raises
    ``InvalidArgument`` for another suffix, ``NotFound`` where its folder is missing.
    """
    formats = {".parquet": _parquet, ".jsonl": _json_lines}
    opened = formats.get(out.suffix)
    if opened is None:
        raise InvalidArgument.field("to", f"{out} ends neither in .parquet nor in .jsonl")
    if not out.parent.is_dir():
        raise NotFound(f"there is no folder {out.parent}")
    staged = out.with_name(out.name + ".new")
    written = 0
    try:
        with opened(staged) as write:
            for table in source.tables(wanted, progress):
                write(table)
                written += table.num_rows
        staged.replace(out)
    finally:
        staged.unlink(missing_ok=True)
    return written


@contextmanager
def _parquet(path: Path) -> Iterator[_Write]:
    with pq.ParquetWriter(path, _FLAT, compression="zstd") as writer:
        yield lambda table: writer.write_table(table) if table.num_rows else None


@contextmanager
def _json_lines(path: Path) -> Iterator[_Write]:
    with path.open("w", encoding="utf-8") as file:

        def write(table: pa.Table) -> None:
            for row in table.to_pylist():
                said = {
                    name: _json(name, value) for name, value in row.items() if value is not None
                }
                file.write(json.dumps(said, ensure_ascii=False) + "\n")

        yield write


def _json(name: str, value: Any) -> Any:
    if isinstance(value, datetime):
        return value.isoformat()
    return dict(value) if name == "attributes" else value
