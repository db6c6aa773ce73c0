"""What is every part of the ranker worth, in closed loop, in worlds whose truth is known?

    python -m benchmarks.closed_loop [--quick] [--workspace DIR] [--processes N]

A world is simulated, its log made into a dataset, a bundle trained and published. Then the world
goes on for a week: visitors come, the pipeline that serves ranks courses for them, what they do
reaches the feature service's own windows, and so the slates that follow. At each visit the slate of
every arm (the shipped surface changed in one respect) is made of the same state and valued by the
truth: purchases to expect of it, at once or later. Differences are paired, with 95 % intervals over
worlds and visitors (two-stage bootstrap). Seeds are ones that nothing was tuned on.

Worlds with strong position bias hold the shipped bundle against one that was trained without
positions. A further loop in the first world guarantees new courses fewer impressions, as many as
its traffic can pay, within three days. With a workspace, worlds that are done are not repeated. The
last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import tempfile
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.closed_loop_jobs import Job, WorldResult, jobs_of, run_job
from benchmarks.closed_loop_report import show


def run_jobs(
    jobs: Sequence[Job], workspace: Path, processes: int, console: Console
) -> list[WorldResult]:
    """The results of all jobs, in their order; ``processes`` worlds at a time."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    # Fresh interpreters: a fork would share the threads of torch.
    context = multiprocessing.get_context("spawn")
    with (
        Progress(*columns, TimeElapsedColumn(), console=console) as bar,
        ProcessPoolExecutor(processes, mp_context=context) as pool,
    ):
        task = bar.add_task("worlds", total=len(jobs))
        running = {pool.submit(run_job, job, workspace): job for job in jobs}
        for done in as_completed(running):
            seconds = sum(done.result().seconds.values())
            bar.update(task, description=f"{running[done].name} took {seconds:.0f} s")
            bar.advance(task)
        return [done.result() for done in running]


def main() -> None:
    """Runs what is missing in the workspace, then prints the tables of all worlds."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two small worlds, a day each")
    parser.add_argument("--processes", type=int, default=2, help="worlds at a time")
    parser.add_argument("--workspace", type=Path, help="keep results here, and use those there")
    arguments = parser.parse_args()
    console = Console(width=140)
    with tempfile.TemporaryDirectory() as temporary:
        workspace = arguments.workspace or Path(temporary)
        workspace.mkdir(parents=True, exist_ok=True)
        results = run_jobs(jobs_of(quick=arguments.quick), workspace, arguments.processes, console)
    print(json.dumps(show(console, results)))


if __name__ == "__main__":
    main()
