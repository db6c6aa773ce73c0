"""Do methods of analysis keep their promises?

    python -m benchmarks.validity [--runs N] [--seed N] [--world NAME ...] [--write]

Every method in pinned worlds (``benchmarks.validity_worlds``): how often it finds an effect where
there is none (type I), how often it finds the world's effect (power) and holds it in its interval
(coverage), and how wide a sequential interval ends over the fixed-horizon one.
Sequential methods look every day. ``--write`` keeps the table: in
offline/analysis/statistics/validity.json, which warnings are made of, and in docs/experiments.md.
The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.processes import ROOT
from benchmarks.validity_methods import Method, Verdict, methods_for
from benchmarks.validity_worlds import World, every_world
from offline.analysis.statistics.arrays import sample_skewness
from offline.analysis.statistics.validity import TABLE, Measured, as_json, markdown

RUNS, SEED = 2_000, 20_261_123
SKEWNESS_DRAWS = 51
STORED = ROOT / "offline" / "analysis" / "statistics" / TABLE
DOCS = ROOT / "docs" / "experiments.md"
BEGIN, END = "<!-- validity: begin -->\n", "<!-- validity: end -->\n"


def measure(
    world: World, methods: Sequence[Method], *, runs: int, seed: int
) -> Iterator[tuple[int, list[Measured] | None]]:
    """Yields runs done, and at last the table's rows: one draw of each run serves all methods."""
    verdicts: dict[tuple[str, float], list[Verdict]] = {
        (method.name, effect): [] for method in methods for effect in (0.0, 1.0)
    }
    for run in range(runs):
        for effect in (0.0, 1.0):
            # Draws with and without an effect are independent of one another.
            outcomes = world.draw(seed + int(effect), run, effect)
            for method in methods:
                verdicts[method.name, effect].append(method.judge(outcomes, world, effect))
        yield run + 1, None
    skewness = typical_skewness(world, seed)
    yield (
        runs,
        [
            _row(world, method, verdicts[method.name, 0.0], verdicts[method.name, 1.0], skewness)
            for method in methods
        ],
    )


def typical_skewness(world: World, seed: int) -> float:
    """Median sample skewness of a few draws; 0 where there are clusters or no values."""
    if world.clusters_an_arm is not None or math.isnan(world.effect):
        return 0.0
    draws = [world.draw(seed, run).values for run in range(SKEWNESS_DRAWS)]
    return round(statistics.median(sample_skewness(values) for values in draws), 1)


def _row(
    world: World,
    method: Method,
    without: Sequence[Verdict],
    effective: Sequence[Verdict],
    skewness: float,
) -> Measured:
    held = [verdict.covered for verdict in effective if verdict.covered is not None]
    widths = [verdict.width for verdict in without if verdict.width is not None]
    known = len(held) == len(effective)
    return Measured(
        world=world.name,
        method=method.name,
        kind=method.kind,
        runs=len(without),
        type_one=round(sum(v.found for v in without) / len(without), 4),
        coverage=round(sum(held) / len(held), 4) if known else None,
        power=round(sum(v.found for v in effective) / len(effective), 4),
        width=round(statistics.median(widths), 3) if widths else None,
        clusters_an_arm=world.clusters_an_arm,
        skewness=skewness,
        description=world.description,
    )


def measured_world(
    world: World, *, runs: int, seed: int, methods: Sequence[Method] | None = None
) -> list[Measured]:
    """All rows of one world, without a progress bar."""
    steps = measure(world, methods or methods_for(world), runs=runs, seed=seed)
    return [row for _, rows in steps for row in rows or ()]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--world", action="append", choices=[w.name for w in every_world()])
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args(arguments)
    if options.write and options.world:
        parser.error("--write keeps the whole table: leave out --world")
    console = Console()
    started_s = time.process_time()
    rows: list[Measured] = []
    for world in every_world():
        if options.world and world.name not in options.world:
            continue
        steps = measure(world, methods_for(world), runs=options.runs, seed=options.seed)
        for _, found in track(
            steps, description=world.name, total=options.runs + 1, console=console
        ):
            rows += found or []
    _show(rows, console)
    if options.write:
        write(rows, STORED, DOCS)
    console.print(f"{time.process_time() - started_s:.0f} s of processor time", highlight=False)
    summary = {
        "runs": options.runs,
        "seed": options.seed,
        "rows": [asdict(row) for row in rows],
        "faults": [f"{row.method} in {row.world}: {row.fault}" for row in rows if row.fault],
    }
    print(json.dumps(summary))


def write(rows: Sequence[Measured], stored: Path, docs: Path) -> None:
    """Keeps the table as JSON and in the documentation, between its marks."""
    stored.write_text(as_json(rows), encoding="utf-8")
    text = docs.read_text(encoding="utf-8")
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    docs.write_text(before + BEGIN + "\n" + markdown(rows) + "\n" + END + after, encoding="utf-8")


def _show(rows: Sequence[Measured], console: Console) -> None:
    table = Table(title="Validity")
    for column in ("world", "method"):
        table.add_column(column)
    for column in ("type I, %", "coverage, %", "power, %", "width"):
        table.add_column(column, justify="right")
    table.add_column("")
    for row in rows:
        table.add_row(
            row.world,
            row.method,
            f"{100 * row.type_one:.1f}",
            "" if row.coverage is None else f"{100 * row.coverage:.1f}",
            f"{100 * row.power:.1f}",
            "" if row.width is None else f"{row.width:.2f}",
            row.fault or "",
        )
    console.print(table)


if __name__ == "__main__":
    main()
