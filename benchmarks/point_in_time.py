"""Point-in-time features of ten million events in bounded memory.

``python -m benchmarks.point_in_time [--events N] [--points N] [--memory LIMIT] [--engine NAME]
[--of ENTITY]``
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from offline.dataset.columns import EVENTS, Columns, CompactionState
from offline.dataset.log_tables import OpenTables, open_tables
from offline.dataset.point_in_time import point_in_time
from offline.dataset.schema import ColumnSchema
from services.common.domain import Domain

SEED = 7
START_MS = 1_760_000_000_000
SPAN_MS = 30 * 86_400_000
USERS, COURSES = 200_000, 20_000
CHUNK_ROWS = 1_000_000
TYPES = ("impression", "click", "watch", "purchase", "refund")
SHARES = (0.60, 0.25, 0.11, 0.035, 0.005)

_REQUIRED = ("entity_upsert", "entity_withdrawal", "slate_served", "exposure")
_ACTS = ["click", "watch", "purchase"]
_BOTH = {"entities": ["user", "course"]}
FEATURES: dict[str, Any] = {
    "recent": {
        "kind": "last_n",
        "entities": ["user"],
        "events": _ACTS,
        "of": "course",
        "limit": 20,
    },
    "actions": {
        "kind": "last_n",
        "entities": ["user"],
        "events": _ACTS,
        "of": "course",
        "limit": 20,
        "emit": "event_type",
    },
    "clicks_1h": {"kind": "count", **_BOTH, "events": ["click"], "window": "1h"},
    "clicks_7d": {"kind": "count", **_BOTH, "events": ["click"], "window": "7d"},
    "spent_30d": {
        "kind": "sum",
        **_BOTH,
        "events": ["purchase"],
        "value": "amount_minor",
        "window": "30d",
    },
    "paid_7d": {
        "kind": "mean",
        **_BOTH,
        "events": ["purchase"],
        "value": "amount_minor",
        "window": "7d",
    },
    "click_rate_7d": {
        "kind": "ratio",
        **_BOTH,
        "numerator": ["click"],
        "denominator": ["impression"],
        "window": "7d",
        "prior": {"numerator": 1, "denominator": 20},
    },
    "least_watch_1d": {
        "kind": "min",
        **_BOTH,
        "events": ["watch"],
        "value": "duration_ms",
        "window": "1d",
    },
    "last_watch_7d": {
        "kind": "last",
        **_BOTH,
        "events": ["watch"],
        "value": "duration_ms",
        "window": "7d",
    },
    "visitors_1d": {
        "kind": "distinct",
        "entities": ["course"],
        "events": ["click"],
        "of": "user",
        "window": "1d",
    },
    "since_click": {"kind": "recency", **_BOTH, "events": ["click"]},
    "value": {"kind": "expression", **_BOTH, "formula": "spent_30d / (clicks_7d + 1)"},
}


def domain() -> Domain:
    """Users and courses with a feature of most kinds."""
    return Domain.model_validate(
        {
            "name": "many_events",
            "entities": {"user": {}, "course": {"tower": {"fields": {"course": "id"}}}},
            "events": {
                **{name: {} for name in (*TYPES, *_REQUIRED)},
                "watch": {"attributes": {"duration_ms": "int"}},
            },
            "features": FEATURES,
            "objectives": {
                "click": {"events": ["click"], "weight": 1, "attribution": {"window": "1h"}}
            },
            "surfaces": {
                "courses": {"entity": "course", "sources": [{"kind": "personal", "quota": 10}]}
            },
            "model": {
                "sequence": {
                    "items": "recent",
                    "actions": "actions",
                    "entity": "course",
                    "length": 20,
                }
            },
            "split": {"kind": "leave_last"},
        }
    )


def write_events(directory: Path, schema: ColumnSchema, events: int) -> Columns:
    """A compacted log of ``events``: courses by Zipf's law, arrivals seconds late, some hours."""
    random = np.random.default_rng(SEED)
    files: list[str] = []
    for number, first in enumerate(range(0, events, CHUNK_ROWS)):
        rows = min(CHUNK_ROWS, events - first)
        share_ms = SPAN_MS * rows // events
        start_ms = START_MS + SPAN_MS * first // events
        table = _chunk(random, schema, first, rows, (start_ms, share_ms))
        files.append(f"{number}.parquet")
        pq.write_table(table, directory / files[-1])
    state = CompactionState(
        schema_hash=schema.hash, next_arrival=events, counted=events, files={EVENTS: files}
    )
    return Columns(directory, schema, state)


def _chunk(
    random: np.random.Generator,
    schema: ColumnSchema,
    first: int,
    rows: int,
    span: tuple[int, int],
) -> pa.Table:
    clock_ms = np.sort(span[0] + random.integers(0, span[1], rows))
    late_ms = random.exponential(2_000.0, rows)
    late_ms = np.where(random.random(rows) < 0.01, late_ms * 3_600.0, late_ms)
    time_ms = clock_ms - late_ms.astype(np.int64)
    kind = random.choice(len(TYPES), rows, p=SHARES)
    course = np.minimum(random.zipf(1.3, rows) - 1, COURSES - 1)
    amount = random.integers(100, 50_000, rows)
    arrival = np.arange(first, first + rows)
    refunds = kind == TYPES.index("refund")
    # A refund names a purchase id of its own: it may come first, or without its purchase.
    ids = np.char.add("e", arrival.astype(str))
    columns: dict[str, pa.Array] = {
        "arrival": pa.array(arrival),
        "event_id": pa.array(ids),
        "type": pa.array(np.array(TYPES)[kind]),
        "time_ms": pa.array(time_ms),
        "clock_ms": pa.array(clock_ms),
        "actor": pa.array(np.char.add("u", random.integers(0, USERS, rows).astype(str))),
        "subject_type": pa.array(np.full(rows, "course")),
        "subject_id": pa.array(np.char.add("c", course.astype(str))),
        "given_back_minor": _where(refunds, amount),
        "purchase_event_id": pa.array(np.where(refunds, np.char.add("p", ids), ""), mask=~refunds),
        "purchase_time_ms": _where(refunds, time_ms - 86_400_000),
        "purchase_amount_minor": _where(refunds, amount),
        "e_course": pa.array(np.char.add("c", course.astype(str))),
        "v_amount_minor": _where(kind == TYPES.index("purchase"), amount),
        "v_duration_ms": _where(kind == TYPES.index("watch"), amount * 10),
    }
    empty = pa.array(np.full(rows, ""))
    arrays = []
    for field in schema.event_schema:
        missing = pa.nulls(rows, field.type) if field.nullable else empty
        arrays.append(columns.get(field.name, missing).cast(field.type))
    return pa.Table.from_arrays(arrays, schema=schema.event_schema)


def _where(chosen: NDArray[np.bool_], values: NDArray[np.int64]) -> pa.Array:
    return pa.array(values, mask=~chosen)


def probes(columns: Columns, points: int) -> Iterator[tuple[str, pa.Table]]:
    """(entity, points of impressions spread over the log): as examples are made of them."""
    read = ["type", "actor", "e_course", "time_ms", "arrival"]
    tables = [pq.read_table(path, columns=read) for path in columns.files(EVENTS)]
    per_file = points // len(tables)
    random = np.random.default_rng(SEED + 1)
    chosen = []
    for table in tables:
        shown = np.flatnonzero(table["type"].to_numpy(zero_copy_only=False) == "impression")
        chosen.append(table.take(np.sort(random.choice(shown, per_file, replace=False))))
    taken = pa.concat_tables(chosen)
    for entity, column in (("user", "actor"), ("course", "e_course")):
        yield (
            entity,
            taken.select([column, "time_ms", "arrival"]).rename_columns(
                ["id", "time_ms", "arrival"]
            ),
        )


def main() -> None:
    """Makes the log, computes the features of both entity types, and prints what it took."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=10_000_000)
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--memory", default="4GB")
    parser.add_argument("--engine", nargs="+", choices=("duckdb", "spark"), default=["duckdb"])
    parser.add_argument("--of", nargs="+", choices=("user", "course"), default=["user", "course"])
    arguments = parser.parse_args()
    known = domain()
    figures: dict[str, Any] = {"events": arguments.events, "memory_limit": arguments.memory}
    with tempfile.TemporaryDirectory(prefix="podium-benchmark-") as directory:
        started = time.perf_counter()
        columns = write_events(Path(directory), ColumnSchema.of(known), arguments.events)
        print(f"log of {arguments.events:,} events: {time.perf_counter() - started:.0f} s")
        for engine in arguments.engine:
            with opener(engine, arguments.memory) as open_log:
                for entity, table in probes(columns, arguments.points):
                    if entity not in arguments.of:
                        continue
                    started, on_cores = time.perf_counter(), time.process_time()
                    with open_log(columns) as tables:
                        found = point_in_time(known, tables, entity, table)
                    seconds = time.perf_counter() - started
                    cpu_seconds = time.process_time() - on_cores
                    figures[f"{entity}_points"] = found.num_rows
                    figures[f"{entity}_features"] = found.num_columns - 3
                    figures[f"{engine}_{entity}_seconds"] = round(seconds, 1)
                    # Of this process: Spark's time and memory are those of its Java process.
                    figures[f"{engine}_{entity}_cpu_seconds"] = round(cpu_seconds, 1)
                    figures[f"{engine}_{entity}_peak_rss_gb"] = round(_peak_rss_gb(), 2)
                    print(
                        f"{engine}, {entity}: {found.num_rows:,} points in {seconds:.0f} s, "
                        f"{cpu_seconds:.0f} s on cores"
                    )
    print(json.dumps(figures))


@contextmanager
def opener(engine: str, memory: str) -> Iterator[OpenTables]:
    """What opens the log in an engine that may use ``memory``, such as 4GB."""
    if engine == "duckdb":
        yield partial(open_tables, memory_limit=memory)
        return
    from offline.dataset.spark import open_on_spark, spark_session

    settings = {
        "spark.driver.memory": memory.removesuffix("B").lower(),
        "spark.sql.shuffle.partitions": "8",
        "spark.ui.enabled": "false",
    }
    with spark_session(settings) as session:
        yield partial(open_on_spark, session)


def _peak_rss_gb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


if __name__ == "__main__":
    main()
