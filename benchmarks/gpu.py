"""What does a GPU do for ranking?

    python -m benchmarks.gpu [--quick] [--seconds S] [--device cuda|cpu] [--workspace DIR]

Prints "no GPU" and ends well where there is none that ONNX Runtime or FAISS can use. The bundle of
``benchmarks.rank`` (100,000 items, 128 -> 64 -> 32 -> 5), on one CPU thread and on the GPU:

- items scored a second by rows of a run, and how much of a run is its kernels: the time with inputs
  and output held on the device over the time with their copies;
- searches for 500 a second by batch, FAISS on the CPU and on the GPU, and the recall of both;
- Rank calls a second by ``max_batch`` on the surface ``minimal``, twice as many calls in flight,
  and the share of that time in which kernels run: search, and the graph in the ranker's runs.

``at_1024`` stands beside what NVIDIA reports of HPS + TensorRT for DLRM on an A100 at batch 1,024:
0.79 ms, 1.25 million items/s; another, larger model, so the two tell the order of magnitude only.
``--device cpu`` does all of it without a GPU. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.gpu_models import BATCHES, ROWS
from benchmarks.load import Load
from benchmarks.processes import child, cores
from benchmarks.rank_services import (
    RANK_METHOD,
    check_slate,
    off_the_server,
    prepare,
    rank_requests,
    services,
    workspace_at,
)
from benchmarks.rank_workload import CANDIDATES, Workload
from services.common.bundle.index import gpus
from services.common.bundle.loaded import providers
from services.common.bundle.store import BundleStore
from services.ranker.scoring.chunks import SCORED_ROWS

MAX_BATCHES = (1, 8, 16, 32, 64)
_SURFACE = "minimal"


def main() -> None:
    """Prepares, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--seconds", type=float, help="length of each measurement")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--workspace", type=Path, help="a directory that is kept and used again")
    arguments = parser.parse_args()
    console = Console()
    if arguments.device == "cuda" and (reason := missing(Path("/dev"))):
        console.print(f"no GPU: {reason}")
        print(json.dumps({"benchmark": "gpu", "gpu": False}))
        return
    items, users, seconds = (20_000, 100, 0.05) if arguments.quick else (100_000, 2_000, 2.0)
    seconds = arguments.seconds or seconds
    with workspace_at(arguments.workspace) as workspace:
        with console.status("writing bundle and log"):
            workload, _ = prepare(workspace, items, users)
        devices = ("cpu", "cuda") if arguments.device == "cuda" else ("cpu",)
        models = {
            device: measure_models(workspace, workload, device, seconds, console)
            for device in devices
        }
        ranks = {
            str(batch): measure_rank(workspace, workload, arguments.device, batch, seconds, console)
            for batch in MAX_BATCHES
        }
    measured = models[arguments.device]
    report: dict[str, Any] = {
        "benchmark": "gpu",
        "gpu": measured["models_on_gpu"] or measured["index_on_gpu"],
        "items": items,
        "models": models,
        "rank": {
            batch: {
                "rank_per_s": round(rank_per_s, 1),
                "kernel_share": round(rank_per_s * kernel_s(measured, int(batch)), 3),
            }
            for batch, rank_per_s in ranks.items()
        },
        "at_1024": measured["score"]["1024"],
    }
    _print(console, report)
    print(json.dumps(report))


def missing(devices: Path) -> str:
    """Why no GPU can be used; empty when one can. ``devices`` is the directory of device files."""
    if not gpus() and not any(devices.glob("nvidia[0-9]*")):
        return "there is no card"
    if not gpus() and len(providers("auto")) == 1:
        return "neither this ONNX Runtime nor this FAISS can use the card"
    return ""


def kernel_s(models: dict[str, Any], batch: int) -> float:
    """Seconds of kernels of one Rank in a micro-batch: its search, and its part of the runs."""
    at_once = max(1, SCORED_ROWS // CANDIDATES)
    runs = -(-batch // at_once)
    rows = min(batch, at_once) * CANDIDATES
    run_ms = float(models["score"][str(rows)]["kernel_ms"])
    search_ms = float(models["search"][str(batch)]["ms"])
    return (runs * run_ms + search_ms) / batch / 1e3


def measure_models(
    workspace: Path, workload: Workload, device: str, seconds: float, console: Console
) -> dict[str, Any]:
    """The graph and the index on one device, from a process of their own."""
    queries = workspace / "queries.npy"
    np.save(queries, workload.user_vectors())
    store = BundleStore(workspace / "bundles")
    bundle = store.path(str(store.current()))
    server_core, _ = cores()
    arguments = ["-m", "benchmarks.gpu_models", str(bundle), str(queries), device, str(seconds)]
    with console.status(f"models on {device}"), child(arguments, server_core, {}) as process:
        output, _ = process.communicate()
    found: dict[str, Any] = json.loads(output)
    return found


def measure_rank(
    workspace: Path,
    workload: Workload,
    device: str,
    batch: int,
    seconds: float,
    console: Console,
) -> float:
    """Rank calls a second of a ranker with that ``max_batch``."""
    settings = {
        "PODIUM_DEVICE": "cpu" if device == "cpu" else "auto",
        "PODIUM_MAX_BATCH": str(batch),
        "PODIUM_QUEUE_LIMIT": str(4 * batch),
        "PODIUM_MAX_CONCURRENT_CALLS": str(max(64, 4 * batch)),
    }
    requests = rank_requests(_SURFACE, workload.user_ids())
    with services(workspace, console, settings=settings) as ranker, off_the_server():
        load = Load(ranker.target, RANK_METHOD, requests)
        check_slate(load.once(requests[0]))
        load.closed_loop(2 * batch, seconds)
        outcome = load.closed_loop(2 * batch, 4 * seconds)
        load.close()
    return outcome.per_s


def _print(console: Console, report: dict[str, Any]) -> None:
    models = report["models"]
    devices = list(models)
    scored = Table("rows a run", *(f"{d}: {c}" for d in devices for c in ("items/s", "kernels")))
    for rows in map(str, ROWS):
        cells = []
        for device in devices:
            found = models[device]["score"][rows]
            share = found["kernel_ms"] / found["ms"]
            cells += [f"{found['items_per_s']:,.0f}", f"{share:.0%}"]
        scored.add_row(rows, *cells)
    console.print(scored)
    searched = Table("batch", *(f"{device}: searches/s" for device in devices))
    for batch in map(str, BATCHES):
        rates = (models[device]["search"][batch]["queries_per_s"] for device in devices)
        searched.add_row(batch, *(f"{rate:,.0f}" for rate in rates))
    searched.add_row("recall", *(f"{models[device]['recall_at_500']:.4f}" for device in devices))
    console.print(searched)
    ranked = Table("max_batch", "Rank/s", "time in kernels")
    for batch, found in report["rank"].items():
        ranked.add_row(batch, f"{found['rank_per_s']:,}", f"{found['kernel_share']:.0%}")
    console.print(ranked)


if __name__ == "__main__":
    main()
