"""What does a Rank call cost over its models?

    python -m benchmarks.rank [--quick] [--seconds S] [--workspace DIR]

100,000 items x 64 dimensions around 256 centres, IVF316,Flat with nprobe 16, 500 candidates,
network 500x128 -> 64 -> 32 -> 5, slate of 20. The ranker has one core; load generator and feature
service share another, and the feature service is really called. ``minimal`` is one source and
top-k as a dry run; ``default`` is the shipped surface ``courses`` with its sources, filters and
caps, with slates and exposures written to the spool.

``kernel_per_s`` is the best rate of the very models called bare (``benchmarks.rank_kernel``);
``overhead_us`` = 1e6 / rank_per_s - 1e6 / kernel_per_s; ``overhead_calls`` is that in empty calls.
Latencies are at half the rate seen; ``empty_p50_ms`` and ``empty_p99_ms`` are those of empty calls
at that very rate: what machine and generator add to any call. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import platform
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.empty_server import METHOD as EMPTY_METHOD
from benchmarks.load import Load, Outcome
from benchmarks.processes import child, cores, free_port
from benchmarks.rank_services import (
    CONCURRENCIES,
    measure_surface,
    off_the_server,
    prepare,
    services,
    workspace_at,
)
from benchmarks.rank_workload import Workload
from services.common.bundle.store import BundleStore
from services.common.domain import Domain


@dataclass(frozen=True)
class Size:
    """How large and how long."""

    items: int
    users: int
    seconds: float


FULL = Size(100_000, 2_000, 8.0)
QUICK = Size(20_000, 100, 0.5)


def main() -> None:
    """Prepares, measures, prints."""
    arguments = _arguments()
    size = QUICK if arguments.quick else FULL
    seconds = arguments.seconds or size.seconds
    console = Console()
    with workspace_at(arguments.workspace) as workspace:
        with console.status("writing bundle and log"):
            workload, domain = prepare(workspace, size.items, size.users)
        console.print(f"{size.items:,} items, {size.users:,} users")
        report = measure(workspace, domain, workload, seconds, console)
    print(json.dumps(report))


def measure(
    workspace: Path, domain: Domain, workload: Workload, seconds: float, console: Console
) -> dict[str, Any]:
    """Runs every part and prints the table; the report of the last line."""
    with console.status("empty call"):
        empty = measure_empty(seconds)
    with console.status("models called bare"):
        kernel = measure_kernel(workspace, workload, seconds / 4)
    with services(workspace, console) as ranker:
        variants = {
            name: measure_surface(ranker, name, workload, seconds, console)
            for name in ("minimal", "default")
        }
    with console.status("empty calls at the surfaces' rates"):
        alike = measure_empty_at([v.best.per_s / 2 for v in variants.values()], seconds)
    kernel_per_s = max(kernel["rates"].values())
    empty_call_us = 1e6 / empty.per_s
    report: dict[str, Any] = {
        "benchmark": "rank",
        "items": len(workload.items),
        "empty_call_us": round(empty_call_us, 1),
        "kernel_per_s": round(kernel_per_s, 1),
        "recall_at_500": round(kernel["recall"], 4),
    }
    for (name, variant), empty_half in zip(variants.items(), alike, strict=True):
        overhead_us = 1e6 / variant.best.per_s - 1e6 / kernel_per_s
        report[name] = {
            "rank_per_s": round(variant.best.per_s, 1),
            "overhead_us": round(overhead_us, 1),
            "overhead_calls": round(overhead_us / empty_call_us, 2),
            "p50_ms": round(variant.half.percentile_ms(0.5), 2),
            "p99_ms": round(variant.half.percentile_ms(0.99), 2),
            "empty_p50_ms": round(empty_half.percentile_ms(0.5), 2),
            "empty_p99_ms": round(empty_half.percentile_ms(0.99), 2),
            "concurrency": variant.concurrency,
            "server_cpu_share": round(variant.cpu_share, 2),
            "errors": dict(variant.best.errors + variant.half.errors),
        }
    _print(console, domain, report, kernel)
    return report


def measure_empty(seconds: float) -> Outcome:
    """Empty calls on the server's core, at the best concurrency."""
    with _empty_load() as load:
        outcomes = [load.closed_loop(n, seconds / 3) for n in CONCURRENCIES]
    return max(outcomes, key=lambda outcome: outcome.per_s)


def measure_empty_at(rates_per_s: Sequence[float], seconds: float) -> list[Outcome]:
    """Empty calls on the server's core, sent as steadily as those whose latency they explain."""
    with _empty_load() as load:
        return [load.open_loop(rate_per_s, seconds) for rate_per_s in rates_per_s]


@contextmanager
def _empty_load() -> Iterator[Load]:
    server_core, _ = cores()
    port = free_port()
    with child(["-m", "benchmarks.empty_server", str(port)], server_core, {}), off_the_server():
        load = Load(f"127.0.0.1:{port}", EMPTY_METHOD, [b""])
        load.once(b"")
        yield load
        load.close()


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
    latencies = ("p50_ms", "p99_ms", "empty_p50_ms", "empty_p99_ms")
    for key in ("rank_per_s", "overhead_us", "overhead_calls", *latencies):
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


if __name__ == "__main__":
    main()
