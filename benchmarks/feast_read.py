"""Feast's own online read, for ``benchmarks.features``; runs in an environment that has Feast.

    PYTHON feast_read.py VALUES.parquet REPOSITORY STORE SECONDS

``VALUES.parquet``: column ``course`` and one column a feature. STORE: "sqlite", or HOST:PORT of a
Redis. Writes the values through Feast, then reads rows of 1 and of 100 courses, by one caller
and by four threads at once, with ``FeatureStore.get_online_features(...).to_dict()``. Prints a line
of JSON.
"""

from __future__ import annotations

import json
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import feast
import numpy as np
import pandas as pd
from feast import Entity, FeatureStore, FeatureView, Field, FileSource, RepoConfig
from feast.types import Array, Float32, Int64, String

ROWS = (1, 100)
CALLERS = (1, 4)


def main() -> None:
    """Prepares, reads, prints."""
    values_file, repository, store, seconds = sys.argv[1:5]
    values = pd.read_parquet(values_file)
    online: dict[str, Any] = {"type": "sqlite", "path": f"{repository}/online.db"}
    if store != "sqlite":
        online = {"type": "redis", "connection_string": store}
    Path(repository).mkdir(parents=True, exist_ok=True)
    found = FeatureStore(
        config=RepoConfig(
            project="benchmark",
            provider="local",
            registry=f"{repository}/registry.db",
            online_store=online,
            entity_key_serialization_version=3,
        )
    )
    names = [name for name in values.columns if name != "course"]
    course = Entity(name="course", join_keys=["course"])
    values["event_timestamp"] = datetime.now(UTC)
    source_file = f"{repository}/source.parquet"
    values.to_parquet(source_file)
    view = FeatureView(
        name="courses",
        entities=[course],
        ttl=timedelta(days=1),
        schema=[Field(name=name, dtype=_dtype(values[name])) for name in names],
        source=FileSource(path=source_file, timestamp_field="event_timestamp"),
    )
    found.apply([course, view])
    found.write_to_online_store("courses", values)
    wanted = [f"courses:{name}" for name in names]
    ids = values["course"].tolist()
    report: dict[str, Any] = {"version": feast.__version__, "features": len(names)}
    for rows in ROWS:
        for callers in CALLERS:
            read = partial(_read, found, wanted, ids, rows, float(seconds))
            with ThreadPoolExecutor(callers) as pool:
                kept = list(pool.map(read, range(callers)))
            together = np.concatenate(kept)
            report[f"{rows}x{callers}"] = {
                "values_per_s": sum(rows * len(wanted) / float(np.mean(one)) for one in kept),
                "p50_ms": float(np.percentile(together, 50)) * 1e3,
                "p99_ms": float(np.percentile(together, 99)) * 1e3,
            }
    print(json.dumps(report))


def _dtype(column: pd.Series) -> Any:
    if pd.api.types.is_integer_dtype(column):
        return Int64
    if pd.api.types.is_float_dtype(column):
        return Float32
    return String if isinstance(column.iloc[0], str) else Array(String)


def _read(
    store: FeatureStore, wanted: list[str], ids: list[str], rows: int, seconds: float, caller: int
) -> list[float]:
    """Seconds of each call of one caller; the first calls, which fill caches, are left out."""
    random = np.random.default_rng(caller)
    latencies: list[float] = []
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or len(latencies) < 8:
        chosen = [{"course": ids[n]} for n in random.integers(0, len(ids), rows)]
        before = time.perf_counter()
        answer = store.get_online_features(features=wanted, entity_rows=chosen).to_dict()
        latencies.append(time.perf_counter() - before)
        if len(answer["title"]) != rows or None in answer["title"]:
            raise RuntimeError("Feast did not answer every row")
    return latencies[3:]


if __name__ == "__main__":
    main()
