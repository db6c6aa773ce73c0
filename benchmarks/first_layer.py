"""What does it save to compute the items' half of the ranker's first layer once an item?

    python -m benchmarks.first_layer [--seconds S]

500 candidates of one user out of 100,000 items, 64 dimensions, one thread: rows are gathered and
scored by the whole graph (``whole_us``), and by the graph that takes the precomputed half
(``split_us``), by turns, for the network of ``benchmarks.rank`` (128 -> 64 -> 32 -> 5) and for a
wider one (128 -> 256 -> 128 -> 5). ``ratio`` is the one over the other; best of the turns, since
other work on the machine only adds. Both answers are compared. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.rank_workload import (
    CANDIDATES,
    DIM,
    HIDDEN,
    SEED,
    FloatArray,
    first_layer_graph,
    ranker_graph,
    ranker_weights,
    save_graph,
    whole_ranker_graph,
)
from services.common.bundle.loaded import GraphSession

ITEMS = 100_000
NETWORKS = (HIDDEN, (256, 128))
TURNS = 40


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--seconds", type=float, default=4.0, help="for each network")
    seconds = parser.parse_args().seconds
    table = Table("network", "whole, µs", "split, µs", "ratio")
    report: dict[str, object] = {"benchmark": "first_layer", "candidates": CANDIDATES}
    for hidden in NETWORKS:
        whole_us, split_us = measure(hidden, seconds)
        name = "-".join(map(str, (2 * DIM, *hidden, 5)))
        figures = {"whole_us": round(whole_us, 1), "split_us": round(split_us, 1)}
        report[name] = figures | {"ratio": round(whole_us / split_us, 2)}
        table.add_row(name, f"{whole_us:,.0f}", f"{split_us:,.0f}", f"{whole_us / split_us:.2f}")
    Console().print(table)
    print(json.dumps(report))


def measure(hidden: tuple[int, int], seconds: float) -> tuple[float, float]:
    """Microseconds a request of the whole graph and of the split one."""
    random = np.random.default_rng(SEED)
    weights = ranker_weights(random, hidden)
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / f"{name}.onnx" for name in ("whole", "split", "first")]
        for path, graph in zip(
            paths, (whole_ranker_graph, ranker_graph, first_layer_graph), strict=True
        ):
            save_graph(graph(weights), path)
        whole, split, first = (GraphSession(path, threads=1, device="cpu") for path in paths)
    vectors = random.normal(size=(ITEMS, DIM)).astype(np.float32)
    parts = first.run({"item_vector": vectors})
    user = random.normal(size=(1, DIM)).astype(np.float32)
    owner = np.zeros(CANDIDATES, np.int64)
    slots = random.integers(0, ITEMS, CANDIDATES)

    def with_whole() -> FloatArray:
        return whole.run(
            {"user_vector": user, "owner": owner, "item_vector": vectors.take(slots, 0)}
        )

    def with_split() -> FloatArray:
        return split.run({"user_vector": user, "owner": owner, "item_part": parts.take(slots, 0)})

    np.testing.assert_allclose(with_whole(), with_split(), atol=1e-5)
    turn_s = seconds / TURNS / 2
    turns = [
        (_microseconds(with_whole, turn_s), _microseconds(with_split, turn_s)) for _ in range(TURNS)
    ]
    return min(turn[0] for turn in turns), min(turn[1] for turn in turns)


def _microseconds(work: Callable[[], object], seconds: float) -> float:
    done, started_s = 0, time.perf_counter()
    while (elapsed_s := time.perf_counter() - started_s) < seconds:
        work()
        done += 1
    return elapsed_s / done * 1e6


if __name__ == "__main__":
    main()
