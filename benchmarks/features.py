"""How fast are features read, beside Feast's own online read?

    python -m benchmarks.features [--quick] [--feast-python PYTHON] [--redis-server PROGRAM]

50 features of mixed kinds (``benchmarks.features_workload``) of courses, read by 1 and by 100 rows
a call, by one caller alone and by four at once, which are threads of one process on both sides,
each making one call after another. Ours: GetFeatures over gRPC on loopback, decoded into numpy
arrays and lists; windows are summed as of the call. Feast: its
``FeatureStore.get_online_features`` and ``to_dict`` in process, of the very values that ours
answered, written through Feast; on SQLite beside our embedded store, and on the same Redis server
beside ours on Redis. Feast lives in an environment of its own, made by pip if none is given. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from rich.console import Console
from rich.table import Table

from benchmarks.features_workload import ENTITY, course_ids, write_domain, write_log
from benchmarks.processes import await_serving, child, cores, free_port
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.convert_feature_block import block_columns
from services.common.domain import Domain
from services.feature.definitions import compile_views

FEAST = "feast[redis]==0.67.0"
ROWS = (1, 100)
CALLERS = (1, 4)
WARM_CALLS = 50
_COLUMNS = ("store", "rows", "callers", "values/s", "p50 ms", "p99 ms", "Feast values/s", "ratio")


def main() -> None:
    """Prepares, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--feast-python", type=Path, help="a Python that has Feast")
    parser.add_argument("--redis-server", help="a redis-server program")
    arguments = parser.parse_args()
    courses, seconds = (300, 0.5) if arguments.quick else (3_000, 8.0)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="podium-features-") as directory:
        workspace = Path(directory)
        feast = arguments.feast_python or _make_feast(workspace, console)
        domain = write_domain(workspace / "domain.yaml")
        with console.status("writing the log"):
            events = write_log(workspace / "log", courses, time.time_ns() // 1_000_000)
        report: dict[str, Any] = {"benchmark": "features", "courses": courses, "events": events}
        backends: dict[str, str] = {"embedded": ""}
        with _redis(arguments.redis_server, workspace) as redis:
            if redis:
                backends["redis"] = redis
            for backend, address in backends.items():
                report[backend] = _measure(
                    workspace, domain, backend, address, courses, seconds, feast, console
                )
    _print(console, report)
    print(json.dumps(report))


def _make_feast(workspace: Path, console: Console) -> Path:
    environment = workspace / "feast"
    with console.status(f"pip install {FEAST}"):
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "pip"), "install", "--quiet", FEAST]
        subprocess.run(pip, check=True)
    return environment / "bin" / "python"


def _measure(
    workspace: Path,
    domain: Domain,
    backend: str,
    address: str,
    courses: int,
    seconds: float,
    feast: Path,
    console: Console,
) -> dict[str, Any]:
    """Ours, then Feast's, on one store."""
    server_core, other_core = cores()
    port = free_port()
    environment = {
        "PODIUM_LOG_LEVEL": "WARNING",
        "PODIUM_DOMAIN_FILE": str(workspace / "domain.yaml"),
        "PODIUM_FEATURE_PORT": str(port),
        "PODIUM_FEATURE_METRICS_PORT": "0",
        "PODIUM_LOG_DIR": str(workspace / "log"),
        "PODIUM_STORE_DIR": str(workspace / backend),
    } | _store_settings(address)
    with child(["-m", "services.feature"], server_core | other_core, environment) as service:
        with console.status(f"{backend}: the service applies the log"):
            await_serving(service, port, 900)
        reader = _Reader(domain, port)
        with console.status(f"{backend}: reading"):
            found = {
                (rows, callers): reader.measure(course_ids(courses), rows, seconds, callers)
                for rows in ROWS
                for callers in CALLERS
            }
        values = reader.table(course_ids(courses))
    pq.write_table(values, workspace / "values.parquet")
    with console.status(f"{backend}: Feast"):
        script = Path(__file__).with_name("feast_read.py")
        output = subprocess.run(
            [
                str(feast),
                str(script),
                str(workspace / "values.parquet"),
                str(workspace / f"feast-{backend}"),
                address or "sqlite",
                str(seconds),
            ],
            capture_output=True,
            text=True,
            check=True,
        ).stdout
    theirs = json.loads(output.strip().splitlines()[-1])
    report: dict[str, Any] = {"feast_version": theirs["version"]}
    for (rows, callers), ours in found.items():
        peer = theirs[f"{rows}x{callers}"]
        report[f"rows_{rows}_callers_{callers}"] = {
            **{key: round(value, 3) for key, value in ours.items()},
            "feast_values_per_s": round(peer["values_per_s"], 1),
            "feast_p50_ms": round(peer["p50_ms"], 3),
            "ratio": round(ours["values_per_s"] / peer["values_per_s"], 1),
        }
    return report


def _store_settings(address: str) -> dict[str, str]:
    if not address:
        return {}
    return {"PODIUM_STORE": "redis", "PODIUM_REDIS_URL": f"redis://{address}/0"}


class _Reader:
    """A caller of GetFeatures that decodes what it gets."""

    def __init__(self, domain: Domain, port: int) -> None:
        self._view = compile_views(domain)[ENTITY]
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self._stub = feature_pb2_grpc.FeatureServiceStub(self._channel)

    def measure(
        self, ids: Sequence[str], rows: int, seconds: float, callers: int
    ) -> dict[str, float]:
        """Values a second and latencies (ms) of calls for ``rows`` courses drawn anew."""

        def call(caller: int) -> list[float]:
            random = np.random.default_rng(caller)
            latencies: list[float] = []
            end = time.perf_counter() + seconds
            while time.perf_counter() < end or len(latencies) < 2 * WARM_CALLS:
                chosen = [ids[n] for n in random.integers(0, len(ids), rows)]
                before = time.perf_counter()
                columns = block_columns(self._call(chosen))
                strings, lists = list(columns.strings), list(columns.list_values)
                latencies.append(time.perf_counter() - before)
                if columns.rows != rows or not all(strings[::strings_a_row]) or not lists:
                    raise RuntimeError("not every course was found")
            return latencies[WARM_CALLS:]

        strings_a_row = len(self._view.names("string"))
        with ThreadPoolExecutor(callers) as pool:
            kept = list(pool.map(call, range(callers)))
        values = rows * len(self._view.features)
        together = np.concatenate(kept)
        return {
            "values_per_s": sum(values / float(np.mean(one)) for one in kept),
            "p50_ms": float(np.percentile(together, 50)) * 1e3,
            "p99_ms": float(np.percentile(together, 99)) * 1e3,
        }

    def table(self, ids: Sequence[str]) -> pa.Table:
        """Every course's values."""
        columns: dict[str, list[Any]] = {"course": list(ids)}
        for start in range(0, len(ids), 1_000):
            found = block_columns(self._call(ids[start : start + 1_000]))
            for row in range(found.rows):
                for name, value in found.values(row).items():
                    columns.setdefault(name, []).append(value)
        return pa.table(columns)

    def _call(self, ids: Sequence[str]) -> feature_pb2.FeatureBlock:
        view = self._view
        request = feature_pb2.GetFeaturesRequest(
            entity_type=ENTITY, ids=ids, view_name=view.name, view_hash=view.hash
        )
        return self._stub.GetFeatures(request, timeout=30).block


@contextmanager
def _redis(program: str | None, workspace: Path) -> Iterator[str]:
    """Address of a Redis server started for the run; empty without a program."""
    if program is None:
        yield ""
        return
    port = free_port()
    command = [program, "--port", str(port), "--dir", str(workspace), "--save", ""]
    server = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table(title=f"features: values read a second ({platform.machine()})")
    columns = (
        "store",
        "rows",
        "callers",
        "values/s",
        "p50 ms",
        "p99 ms",
        "Feast values/s",
        "ratio",
    )
    for column in columns:
        table.add_column(column, justify="right")
    for backend, rows, callers in product(("embedded", "redis"), ROWS, CALLERS):
        found = report.get(backend, {}).get(f"rows_{rows}_callers_{callers}")
        if found:
            table.add_row(
                backend,
                str(rows),
                str(callers),
                f"{found['values_per_s']:,.0f}",
                f"{found['p50_ms']:.2f}",
                f"{found['p99_ms']:.2f}",
                f"{found['feast_values_per_s']:,.0f}",
                f"{found['ratio']:.1f}",
            )
    console.print(table)


if __name__ == "__main__":
    main()
