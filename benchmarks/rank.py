"""What does a Rank call cost over its models?

    python -m benchmarks.rank [--quick] [--seconds S] [--workspace DIR]

100,000 items x 64 dimensions around 256 centres, IVF316,Flat with nprobe 16, 500 candidates,
network 500x128 -> 64 -> 32 -> 5, slate of 20. The ranker has one core; load generator and feature
service share another, and the feature service is really called. ``minimal`` is one source and
top-k as a dry run; ``default`` is the shipped surface ``courses`` with its sources, filters and
caps, with slates and exposures written to the spool.

``kernel_per_s`` is the best rate of the very models called bare (``benchmarks.rank_kernel``);
``overhead_us`` = 1e6 / rank_per_s - 1e6 / kernel_per_s; ``overhead_calls`` is that in empty calls.
Latencies are at half the rate seen. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.empty_server import METHOD as EMPTY_METHOD
from benchmarks.load import Load, Outcome
from benchmarks.processes import ROOT, await_serving, child, cores, cpu_seconds, free_port
from benchmarks.rank_workload import (
    SLATE,
    Workload,
    draw,
    write_bundle,
    write_domain,
    write_log,
)
from podium.common.v1 import common_pb2
from podium.ranker.v1 import ranker_pb2
from services.common.bundle.store import BundleStore
from services.common.domain import Domain

RANK_METHOD = "/podium.ranker.v1.RankerService/Rank"
CONCURRENCIES = (8, 16, 32)


@dataclass(frozen=True)
class Size:
    """How large and how long."""

    items: int
    users: int
    seconds: float


FULL = Size(100_000, 2_000, 8.0)
QUICK = Size(20_000, 100, 0.5)


@dataclass(frozen=True)
class Variant:
    """What one surface showed."""

    best: Outcome
    concurrency: int
    cpu_share: float
    half: Outcome


def main() -> None:
    """Prepares, measures, prints."""
    arguments = _arguments()
    size = QUICK if arguments.quick else FULL
    seconds = arguments.seconds or size.seconds
    console = Console()
    workspace = arguments.workspace or Path(tempfile.mkdtemp(prefix="podium-rank-"))
    workspace.mkdir(parents=True, exist_ok=True)
    try:
        workload = draw(size.items, size.users)
        domain = write_domain(workspace / "domain.yaml", ROOT / "config" / "live_courses.yaml")
        if not (workspace / "bundles" / "current").exists():
            with console.status("writing bundle and log"):
                write_log(workspace / "log", workload, domain, _now_ms())
                write_bundle(workspace / "bundles", domain, workload)
        console.print(f"{size.items:,} items, {size.users:,} users")
        report = measure(workspace, domain, workload, seconds, console)
    finally:
        if arguments.workspace is None:
            shutil.rmtree(workspace, ignore_errors=True)
    print(json.dumps(report))


def measure(
    workspace: Path, domain: Domain, workload: Workload, seconds: float, console: Console
) -> dict[str, Any]:
    """Runs every part and prints the table; the report of the last line."""
    with console.status("empty call"):
        empty = measure_empty(seconds)
    with console.status("models called bare"):
        kernel = measure_kernel(workspace, workload, seconds / 4)
    with _services(workspace, console) as (ranker, target):
        variants = {
            name: measure_surface(ranker, target, name, workload, seconds, console)
            for name in ("minimal", "default")
        }
    kernel_per_s = max(kernel["rates"].values())
    empty_call_us = 1e6 / empty.per_s
    report: dict[str, Any] = {
        "benchmark": "rank",
        "items": len(workload.items),
        "empty_call_us": round(empty_call_us, 1),
        "kernel_per_s": round(kernel_per_s, 1),
        "recall_at_500": round(kernel["recall"], 4),
    }
    for name, variant in variants.items():
        overhead_us = 1e6 / variant.best.per_s - 1e6 / kernel_per_s
        report[name] = {
            "rank_per_s": round(variant.best.per_s, 1),
            "overhead_us": round(overhead_us, 1),
            "overhead_calls": round(overhead_us / empty_call_us, 2),
            "p50_ms": round(variant.half.percentile_ms(0.5), 2),
            "p99_ms": round(variant.half.percentile_ms(0.99), 2),
            "concurrency": variant.concurrency,
            "server_cpu_share": round(variant.cpu_share, 2),
            "errors": dict(variant.best.errors + variant.half.errors),
        }
    _print(console, domain, report, kernel)
    return report


def measure_empty(seconds: float) -> Outcome:
    """Empty calls on the server's core, at the best concurrency."""
    server_core, _ = cores()
    port = free_port()
    with child(["-m", "benchmarks.empty_server", str(port)], server_core, {}), _pinned():
        load = Load(f"127.0.0.1:{port}", EMPTY_METHOD, [b""])
        load.once(b"")
        outcomes = [load.closed_loop(n, seconds / 3) for n in CONCURRENCIES]
        load.close()
    return max(outcomes, key=lambda outcome: outcome.per_s)


def measure_kernel(workspace: Path, workload: Workload, seconds: float) -> dict[str, Any]:
    """Rates of the models by batch size, and recall, from a process on the server's core."""
    queries = workspace / "queries.npy"
    np.save(queries, workload.user_vectors())
    store = BundleStore(workspace / "bundles")
    bundle = store.path(str(store.current()))
    server_core, _ = cores()
    arguments = ["-m", "benchmarks.rank_kernel", str(bundle), str(queries), str(seconds)]
    with child(arguments, server_core, {}) as process:
        output, _ = process.communicate()
    found: dict[str, Any] = json.loads(output)
    return found


def measure_surface(
    ranker: subprocess.Popen[str],
    target: str,
    surface: str,
    workload: Workload,
    seconds: float,
    console: Console,
) -> Variant:
    """The best throughput over some concurrencies, then latencies at half of it."""
    requests = [
        ranker_pb2.RankRequest(
            actor=common_pb2.Actor(user_id=user_id),
            surface=surface,
            k=SLATE,
            traffic_class=common_pb2.TRAFFIC_CLASS_LOAD,
            dry_run=surface == "minimal",
        ).SerializeToString()
        for user_id in workload.user_ids()
    ]
    with _pinned(), console.status(f"surface {surface}"):
        load = Load(target, RANK_METHOD, requests)
        _check(load.once(requests[0]))
        load.closed_loop(8, seconds / 4)
        best, concurrency, cpu_share = Outcome(), 0, 0.0
        for tried in CONCURRENCIES:
            before_s = cpu_seconds(ranker)
            outcome = load.closed_loop(tried, seconds)
            if outcome.per_s > best.per_s:
                best, concurrency = outcome, tried
                cpu_share = (cpu_seconds(ranker) - before_s) / outcome.seconds
        half = load.open_loop(best.per_s / 2, seconds)
        load.close()
    return Variant(best, concurrency, cpu_share, half)


def _check(answer: bytes) -> None:
    """A figure is worth nothing if the answer is wrong."""
    response = ranker_pb2.RankResponse.FromString(answer)
    if len(response.slate.ids) != SLATE or response.degraded:
        raise RuntimeError(f"not a whole slate: {response}")


@contextmanager
def _services(workspace: Path, console: Console) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Feature service and ranker; yields the ranker's process and target."""
    server_core, other_core = cores()
    ports = free_port(), free_port()
    environment = {
        "PODIUM_LOG_LEVEL": "WARNING",
        "PODIUM_DOMAIN_FILE": str(workspace / "domain.yaml"),
        "PODIUM_FEATURE_PORT": str(ports[0]),
        "PODIUM_FEATURE_METRICS_PORT": "0",
        "PODIUM_RANKER_PORT": str(ports[1]),
        "PODIUM_RANKER_METRICS_PORT": "0",
        "PODIUM_FEATURE_TARGET": f"127.0.0.1:{ports[0]}",
        "PODIUM_LOG_DIR": str(workspace / "log"),
        "PODIUM_STORE_DIR": str(workspace / "store"),
        "PODIUM_BUNDLES_DIR": str(workspace / "bundles"),
        "PODIUM_SPOOL_DIR": str(workspace / "spool"),
        "PODIUM_REPLICA_DIR": str(workspace / "replica"),
        "PODIUM_FEATURE_TIMEOUT_MS": "2000",
    }
    with child(["-m", "services.feature"], other_core, environment) as feature:
        started_s = time.monotonic()
        with console.status("feature service applies the log"):
            await_serving(feature, ports[0], 900)
        console.print(f"feature service ready after {time.monotonic() - started_s:.1f} s")
        with child(["-m", "services.ranker"], server_core, environment) as ranker:
            started_s = time.monotonic()
            with console.status("ranker takes catalogue and bundle"):
                await_serving(ranker, ports[1], 300)
            console.print(f"ranker ready after {time.monotonic() - started_s:.1f} s")
            yield ranker, f"127.0.0.1:{ports[1]}"


@contextmanager
def _pinned() -> Iterator[None]:
    """Keeps this process, the load generator, off the server's core."""
    _, other_core = cores()
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, other_core)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


def _print(
    console: Console, domain: Domain, report: dict[str, Any], kernel: dict[str, Any]
) -> None:
    shipped = domain.surfaces["default"]
    sources = ", ".join(f"{source.kind} {source.quota}" for source in shipped.sources)
    filters = ", ".join(rule.kind for rule in shipped.filters)
    caps = ", ".join(f"{name} {limit}" for name, limit in shipped.caps.items())
    console.print(f"default: sources {sources}; filters {filters}; caps {caps}; spool on")
    console.print("minimal: source personal 500; no filters, no caps; dry run")
    rates = ", ".join(f"{batch}: {rate:,.0f}/s" for batch, rate in kernel["rates"].items())
    console.print(f"models bare, by batch: {rates}; {platform.machine()}, {platform.system()}")
    table = Table("", "minimal", "default")
    for key in ("rank_per_s", "overhead_us", "overhead_calls", "p50_ms", "p99_ms"):
        table.add_row(key, f"{report['minimal'][key]:,}", f"{report['default'][key]:,}")
    for key in ("server_cpu_share", "concurrency"):
        table.add_row(key, str(report["minimal"][key]), str(report["default"][key]))
    for key in ("empty_call_us", "kernel_per_s", "recall_at_500"):
        table.add_row(key, f"{report[key]:,}", "")
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a small smoke test")
    parser.add_argument("--seconds", type=float, help="length of each measurement")
    parser.add_argument(
        "--workspace",
        type=Path,
        help="a directory that is kept, and used again by a run of the same size",
    )
    return parser.parse_args()


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


if __name__ == "__main__":
    main()
