"""What does measuring an experiment of many units need?

    python -m benchmarks.analysis_units [--units 1000000 10000000] [--memory 2GB]

Columns of a log in which each unit is exposed once, and does five things, three of which count: for
each size a process of its own measures conversion, revenue, a ratio and a covariate. What the query
engine may hold is bounded by ``--memory``; what is left grows by the arrays of numbers alone. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.processes import ROOT
from benchmarks.validity_events import DAY_MS, START_MS
from offline.analysis.plan import AnalysisPlan, plan_of
from offline.analysis.units.build import unit_table
from offline.dataset.columns import Columns, CompactionState
from offline.dataset.schema import EXPOSURES, ColumnSchema, value_column
from services.common.assign.model import Definitions, Experiment, Variant
from services.common.assign.registered import Analysis, Covariate
from services.common.domain import Domain, load_domain

KEY, SEED, PART, DAYS = "scale", 6, 500_000, 14
SHARES = (("impression", 1.0), ("click", 0.3), ("purchase", 0.03))


def _plan(domain: Domain) -> AnalysisPlan:
    experiment = Experiment(
        KEY,
        "user",
        "salt",
        (Variant("control", 0.5), Variant("treatment", 0.5)),
        analysis=Analysis(
            "revenue_7d",
            secondary=("buyers_7d", "click_rate_3d"),
            covariates={"spent": Covariate("revenue_7d", 28 * DAY_MS)},
        ),
    )
    return plan_of(Definitions({KEY: experiment}, ""), KEY, domain)


def write_columns(directory: Path, domain: Domain, units: int) -> Columns:
    """Columns of a log as ``compact`` leaves them, of which no row was ever a record."""
    schema = ColumnSchema.of(domain)
    random = np.random.default_rng(SEED)
    files: dict[str, list[str]] = {EXPOSURES: [], "events": []}
    arrival = 0
    for part, first in enumerate(range(0, units, PART)):
        count = min(PART, units - first)
        person = pc_texts(np.arange(first, first + count))
        at_ms = START_MS + random.integers(0, DAYS * DAY_MS, count)
        arm = pa.array(np.array(["control", "treatment"])[random.integers(0, 2, count)])
        exposures = {
            "arrival": pa.array(np.arange(arrival, arrival + count)),
            "time_ms": pa.array(at_ms),
            "clock_ms": pa.array(at_ms),
            "actor": person,
            "experiment": pa.array([KEY] * count),
            "variant": arm,
            "other_variant": pa.array([""] * count),
            "forced": pa.array(np.zeros(count, bool)),
            "revision": pa.array(np.ones(count, np.int32)),
            "attributes": pa.array([{}] * count, pa.map_(pa.string(), pa.string())),
        }
        tables = {EXPOSURES: _table(schema.exposure_schema, exposures, count)}
        arrival += count
        parts = []
        for kind, share in SHARES:
            for hours in (-24, 24):
                doers = np.flatnonzero(random.random(count) < share)
                when = at_ms[doers] + hours * 3_600_000
                did = {
                    "arrival": pa.array(np.arange(arrival, arrival + len(doers)) * (hours > 0)),
                    "event_id": pc_texts(np.arange(arrival, arrival + len(doers))),
                    "type": pa.array([kind] * len(doers)),
                    "time_ms": pa.array(when),
                    "clock_ms": pa.array(when),
                    "actor": person.take(pa.array(doers)),
                    **{n: pa.array([""] * len(doers)) for n in _EMPTY},
                    value_column("amount_minor"): pa.array(random.integers(1, 9_999, len(doers))),
                }
                arrival += len(doers)
                parts.append(_table(schema.event_schema, did, len(doers)))
        tables["events"] = pa.concat_tables(parts)
        for name, table in tables.items():
            files[name].append(f"{name}-{part}.parquet")
            pq.write_table(table, directory / files[name][-1])
    state = CompactionState(
        schema_hash=schema.hash, next_arrival=arrival, counted=arrival, files=files
    )
    return Columns(directory, schema, state)


_EMPTY = ("rank_id", "surface", "subject_type", "subject_id")


def pc_texts(numbers: np.ndarray) -> pa.Array:
    """Ids made of numbers."""
    return pa.array(np.char.add("u", numbers.astype(str)))


def _table(schema: pa.Schema, columns: dict[str, pa.Array], rows: int) -> pa.Table:
    arrays = [
        columns[field.name].cast(field.type)
        if field.name in columns
        else pa.nulls(rows, field.type)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def measure(units: int, memory: str) -> dict[str, float]:
    """Writes columns and measures them; peak memory is that of this process while it measures."""
    domain = load_domain(ROOT / "config" / "live_courses.yaml")
    with tempfile.TemporaryDirectory(prefix="podium-units-") as directory:
        columns = write_columns(Path(directory), domain, units)
        before_mib = _peak_mib()
        started_s = time.process_time()
        table = unit_table(columns, _plan(domain), memory_limit=memory)
        cpu_s = time.process_time() - started_s
    if table.rows != units:
        raise ValueError(f"{table.rows} rows of {units} units")
    return {
        "units": units,
        "cpu_s": round(cpu_s, 1),
        "before_mib": before_mib,
        "peak_mib": _peak_mib(),
    }


def _peak_mib() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1_024


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--units", type=int, nargs="+", default=[1_000_000, 10_000_000])
    parser.add_argument("--memory", default="2GB")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    if options.one:
        print(json.dumps(measure(options.units[0], options.memory)))
        return
    found = []
    for units in options.units:
        command = [sys.executable, "-m", "benchmarks.analysis_units", "--one"]
        command += ["--units", str(units), "--memory", options.memory]
        done = subprocess.run(command, check=True, capture_output=True, text=True)
        found.append(json.loads(done.stdout.splitlines()[-1]))
    shown = Table(title=f"Units of an experiment, the engine within {options.memory}")
    for column in ("units", "processor, s", "µs a unit", "peak, MiB"):
        shown.add_column(column, justify="right")
    for one in found:
        each = 1e6 * one["cpu_s"] / one["units"]
        shown.add_row(f"{one['units']:,}", f"{one['cpu_s']}", f"{each:.1f}", f"{one['peak_mib']:,}")
    Console().print(shown)
    print(json.dumps({"memory": options.memory, "sizes": found}))


if __name__ == "__main__":
    main()
