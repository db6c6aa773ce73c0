"""The ranker's graph and the index on one device, without a service; for ``benchmarks.gpu``.

``python -m benchmarks.gpu_models BUNDLE QUERIES DEVICE SECONDS`` prints a JSON line: for every
number of rows what a run of the graph costs with its copies (``ms``) and with inputs and output
held where it runs (``kernel_ms``); for every batch what a search for 500 costs; the index's recall.
DEVICE is "cpu", or "cuda" for what can run there; ``models_on_gpu`` and ``index_on_gpu`` say what
does.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.rank_kernel import ENTITY
from benchmarks.rank_workload import CANDIDATES, FloatArray
from services.common.bundle.index import ItemIndex, gpus, recall_at_k
from services.common.bundle.loaded import GraphSession, providers
from services.common.bundle.manifest import (
    FIRST_LAYER_FILE,
    RANKER_FILE,
    index_file,
    vectors_file,
)

ROWS = (500, 1_000, 1_024, 4_096, 16_384, 65_536)
BATCHES = (1, 2, 4, 8, 16, 32, 64, 256)
_RECALL_QUERIES = 50


def main() -> None:
    """Measures and prints."""
    directory, queries_file = Path(sys.argv[1]), Path(sys.argv[2])
    device, seconds = sys.argv[3], float(sys.argv[4])
    vectors = np.load(directory / vectors_file(ENTITY), allow_pickle=False)
    queries = np.load(queries_file, allow_pickle=False)
    graph = GraphSession(
        directory / RANKER_FILE, threads=1, device="cpu" if device == "cpu" else _best()
    )
    first_layer = GraphSession(directory / FIRST_LAYER_FILE, threads=1, device="cpu")
    parts = first_layer.run({"item_vector": vectors})
    index = ItemIndex.read(directory / index_file(ENTITY), threads=1)
    index_on_gpu = device == "cuda" and gpus() > 0
    if index_on_gpu:
        index = index.on_gpu()
    report = {
        "models_on_gpu": graph.on_gpu,
        "index_on_gpu": index_on_gpu,
        "score": {rows: score(graph, parts, queries, rows, seconds) for rows in ROWS},
        "search": {batch: search(index, queries, batch, seconds) for batch in BATCHES},
        "recall_at_500": recall_at_k(index, vectors, queries[:_RECALL_QUERIES], CANDIDATES),
    }
    print(json.dumps(report))


def score(
    graph: GraphSession, parts: FloatArray, queries: FloatArray, rows: int, seconds: float
) -> dict[str, float]:
    """One run of the graph over a number of rows, 500 of a user (fewer of the last)."""
    owner = np.arange(rows) // CANDIDATES
    chosen = np.random.default_rng(rows).integers(0, len(parts), rows)
    inputs: dict[str, NDArray[Any]] = {
        "user_vector": np.resize(queries, (int(owner[-1]) + 1, queries.shape[1])),
        "owner": owner,
        "item_part": parts[chosen],
    }
    whole_s = seconds_a_time(lambda: graph.run(inputs), seconds)
    kernel_s = seconds_a_time(graph.bound(inputs).run, seconds)
    return {"ms": whole_s * 1e3, "kernel_ms": kernel_s * 1e3, "items_per_s": rows / whole_s}


def search(index: ItemIndex, queries: FloatArray, batch: int, seconds: float) -> dict[str, float]:
    """One search for a number of users."""
    asked = np.resize(queries, (batch, queries.shape[1]))
    took_s = seconds_a_time(lambda: index.search(asked, CANDIDATES), seconds)
    return {"ms": took_s * 1e3, "queries_per_s": batch / took_s}


def seconds_a_time(work: Callable[[], object], seconds: float) -> float:
    """Mean time of ``work``, after it has been done three times."""
    for _ in range(3):
        work()
    done = 0
    started_s = time.perf_counter()
    while not done or time.perf_counter() - started_s < seconds:
        work()
        done += 1
    return (time.perf_counter() - started_s) / done


def _best() -> Any:
    return "cuda" if len(providers("auto")) > 1 else "cpu"


if __name__ == "__main__":
    main()
