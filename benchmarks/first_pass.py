"""What does the first pass cost beside the ranker?

    python -m benchmarks.first_pass [--seconds S]

Candidates of one user out of 100,000 items, 64 dimensions, five objectives, one thread. The first
pass gathers vectors and item logits, multiplies, takes the sigmoids and weighs them
(``first_pass_us``), and 500 are chosen (``cut_us``, in it); the ranker gathers the precomputed half
of its first layer and runs the rest of the network of ``benchmarks.rank`` in chunks
(``ranker_us``). CPU time of the process, by turns, best of the turns; all a 1,000 candidates. The
last line is JSON.
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

from benchmarks.rank_workload import DIM, SEED, first_layer_graph, ranker_graph, ranker_weights
from benchmarks.rank_workload import save_graph as save
from services.common.bundle.loaded import GraphSession
from services.ranker.scoring.chunks import SCORED_ROWS
from services.ranker.scoring.first_pass import FirstPass, best, learned_values

ITEMS, SCORED, OBJECTIVES = 100_000, 500, 5
COUNTS = (1_000, 2_000, 5_000)
TURNS = 15


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seconds", type=float, default=3.0, help="for each number of candidates")
    seconds = parser.parse_args().seconds
    table = Table("candidates", "first pass, µs", "of it the cut, µs", "ranker, µs", "ratio")
    report: dict[str, object] = {"benchmark": "first_pass", "scored": SCORED}
    for count in COUNTS:
        found = measure(count, seconds)
        per_thousand = [us * 1_000 / count for us in found]
        first_us, cut_us, ranker_us = (round(us, 1) for us in per_thousand)
        ratio = round(ranker_us / first_us, 1)
        names = ("first_pass_us", "cut_us", "ranker_us", "ratio")
        report[str(count)] = dict(zip(names, (first_us, cut_us, ranker_us, ratio), strict=True))
        table.add_row(f"{count:,}", f"{first_us:,}", f"{cut_us:,}", f"{ranker_us:,}", f"{ratio}")
    table.caption = "a 1,000 candidates"
    Console().print(table)
    print(json.dumps(report))


def measure(count: int, seconds: float) -> tuple[float, float, float]:
    """Microseconds of CPU of the first pass, of the cut in it, and of the ranker."""
    random = np.random.default_rng(SEED)
    weights = ranker_weights(random)
    with tempfile.TemporaryDirectory() as directory:
        paths = [Path(directory) / f"{name}.onnx" for name in ("ranker", "first")]
        for path, graph in zip(paths, (ranker_graph, first_layer_graph), strict=True):
            save(graph(weights), path)
        ranker, first = (GraphSession(path, threads=1, device="cpu") for path in paths)
    vectors = random.normal(size=(ITEMS, DIM)).astype(np.float32)
    parts = first.run({"item_vector": vectors})
    logits = random.normal(size=(ITEMS, OBJECTIVES)).astype(np.float32)
    bound = FirstPass(SCORED, np.full(OBJECTIVES, 0.3, np.float32), logits)
    tie = random.integers(0, 2**63, ITEMS).astype(np.uint64)
    user = random.normal(size=(1, DIM)).astype(np.float32)
    slots = random.permutation(ITEMS)[:count]
    of_objectives = np.ones(OBJECTIVES, np.float32)

    def values() -> np.ndarray:
        nearness = vectors.take(slots, 0) @ user[0]
        return learned_values(bound, nearness, slots, of_objectives, None).values.astype(np.float64)

    found = values()

    def cut() -> object:
        return best(found, tie[slots], SCORED)

    def first_pass() -> object:
        return best(values(), tie[slots], SCORED)

    def score() -> None:
        for start in range(0, count, SCORED_ROWS):
            some = slots[start : start + SCORED_ROWS]
            owner = np.zeros(len(some), np.int64)
            ranker.run({"user_vector": user, "owner": owner, "item_part": parts.take(some, 0)})

    turn_s = seconds / TURNS / 3
    turns = [[_cpu_us(work, turn_s) for work in (first_pass, cut, score)] for _ in range(TURNS)]
    one, two, three = (min(turn[at] for turn in turns) for at in range(3))
    return one, two, three


def _cpu_us(work: Callable[[], object], seconds: float) -> float:
    done, started_s = 0, time.process_time()
    while (elapsed_s := time.process_time() - started_s) < seconds:
        work()
        done += 1
    return elapsed_s / done * 1e6


if __name__ == "__main__":
    main()
