"""Does every watcher of the definitions see each change within a second, and what do the watchers
cost Assign?

    python -m benchmarks.watch_experiments [--quick] [--watchers N] [--flags N] [--seconds S]

An experiment service over a file of 100 experiments, one of which gets another revision every two
seconds; the file is replaced. Assign is called at a steady rate all the time: before the watchers
come, while they are there, and after they left. Watchers are real streams of WatchExperiments, and
``--flags`` of flagd's EventStream beside them, in several processes over several connections.

A change counts from the moment the file was replaced to the moment a watcher has the step that says
so: looking at the file, reading and checking it are in it. ``ratio`` is Assign's p99 with watchers
over the one without, from the same run: the mean of before and after. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.processes import await_serving, child, free_port
from benchmarks.watching import (
    Phase,
    ask,
    caller,
    cpu_report,
    percentiles_ms,
    phase,
    seen_by,
    streams_report,
    watchers,
)
from podium.common.v1.common_pb2 import Actor
from podium.experiment.v1 import experiment_pb2
from podium.flagd.evaluation.v2 import evaluation_pb2
from services.common.yaml_config import yaml_text

METHOD = "/podium.experiment.v1.ExperimentService/Assign"
EXPERIMENTS = 100
ASSIGNS_PER_S = 100.0
CHANGE_EVERY_S = 2.0


class Changes:
    """Replaces the file until stopped; ``at_s`` says when each experiment changed (epoch
    seconds)."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._experiments = {_key(n): _experiment(n) for n in range(EXPERIMENTS)}
        self.at_s: dict[str, float] = {}
        self.stopped = threading.Event()
        self._write()

    def run(self) -> None:
        """Changes one experiment after another."""
        for number in range(EXPERIMENTS):
            if self.stopped.wait(CHANGE_EVERY_S):
                return
            self._experiments[_key(number)]["revision"] += 1
            self._write()
            self.at_s[_key(number)] = time.time()

    def _write(self) -> None:
        beside = self._path.with_suffix(".new")
        beside.write_text(yaml_text({"experiments": self._experiments}), encoding="utf-8")
        beside.replace(self._path)


def main() -> None:
    """Prepares, measures, prints."""
    arguments = _arguments()
    console = Console()
    with tempfile.TemporaryDirectory(prefix="podium-watch-experiments-") as directory:
        report = measure(Path(directory), arguments, console)
    _print(console, report)
    print(json.dumps(report))


def measure(workspace: Path, arguments: argparse.Namespace, console: Console) -> dict[str, Any]:
    """Runs the three phases; the report of the last line."""
    path = workspace / "experiments.yaml"
    changes = Changes(path)
    watch = experiment_pb2.WatchExperimentsRequest().SerializeToString()
    stream = evaluation_pb2.EventStreamRequest().SerializeToString()
    assigns = [_request(number) for number in range(100)]
    with (
        _service(path) as (service, port),
        caller(target := f"127.0.0.1:{port}", METHOD, assigns) as load,
    ):
        console.print("without watchers")
        before = phase(service, load, ASSIGNS_PER_S, arguments.seconds / 2)
        console.print(f"{arguments.watchers} watchers and {arguments.flags} providers join")
        with (
            watchers("experiments", target, watch, arguments.watchers) as clients,
            watchers("flags", target, stream, arguments.flags) as providers,
        ):
            for processes in (clients, providers):
                ask(processes)
            thread = threading.Thread(target=changes.run)
            thread.start()
            try:
                every = [*clients, *providers]
                during = phase(service, load, ASSIGNS_PER_S, arguments.seconds, every)
            finally:
                changes.stopped.set()
                thread.join()
            time.sleep(2.0)
            seen, told = ask(clients), ask(providers)
        time.sleep(2.0)
        console.print("without watchers")
        after = phase(service, load, ASSIGNS_PER_S, arguments.seconds / 2)
    return _report(arguments, changes, (before, during, after), seen, told)


def _report(
    arguments: argparse.Namespace,
    changes: Changes,
    phases: tuple[Phase, Phase, Phase],
    seen: list[dict[str, Any]],
    told: list[dict[str, Any]],
) -> dict[str, Any]:
    before, during, after = phases
    without = (before.calls.percentile_ms(0.99) + after.calls.percentile_ms(0.99)) / 2
    watched = seen_by(seen, changes.at_s, arguments.watchers)
    events = seen_by(told, changes.at_s, arguments.flags)
    return {
        "benchmark": "watch_experiments",
        "experiments": EXPERIMENTS,
        "watchers": arguments.watchers,
        "providers": arguments.flags,
        "changes": len(changes.at_s),
        **{f"change_{key}": value for key, value in watched.items()},
        **{f"event_{key}": value for key, value in events.items()},
        "assign_p50_ms": percentiles_ms(phases, 0.5),
        "assign_p99_ms": percentiles_ms(phases, 0.99),
        "ratio": round(during.calls.percentile_ms(0.99) / without, 2),
        "assign_errors": dict(before.calls.errors + during.calls.errors + after.calls.errors),
        **streams_report([*seen, *told], during.calls.seconds + 2.0),
        **cpu_report(phases),
    }


@contextmanager
def _service(path: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    port = free_port()
    environment = {
        "PODIUM_EXPERIMENTS_FILE": str(path),
        "PODIUM_EXPERIMENT_PORT": str(port),
        "PODIUM_EXPERIMENT_METRICS_PORT": "0",
        "PODIUM_LOG_LEVEL": "ERROR",
    }
    with child(["-m", "services.experiment"], os.sched_getaffinity(0), environment) as process:
        await_serving(process, port, 60)
        yield process, port


def _key(number: int) -> str:
    return f"experiment_{number:03}"


def _experiment(number: int) -> dict[str, Any]:
    return {
        "unit": "user",
        "salt": f"salt_{number:03}",
        "running": True,
        "revision": 1,
        "condition": {"region": {"$in": ["US", "CA"]}},
        "variants": {"control": {"weight": 0.5}, "treatment": {"weight": 0.5}},
    }


def _request(number: int) -> bytes:
    request = experiment_pb2.AssignRequest(
        actor=Actor(user_id=f"user-{number}"), experiment_keys=[_key(n) for n in range(20)]
    )
    request.context.attributes.update({"region": "US"})
    return request.SerializeToString()


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="100 watchers, a few seconds")
    parser.add_argument("--watchers", type=int, default=None)
    parser.add_argument("--flags", type=int, default=None, help="streams of flagd's events")
    parser.add_argument("--seconds", type=float, default=None)
    arguments = parser.parse_args()
    arguments.watchers = arguments.watchers or (100 if arguments.quick else 2_000)
    arguments.flags = arguments.flags or (20 if arguments.quick else 400)
    arguments.seconds = arguments.seconds or (6.0 if arguments.quick else 30.0)
    return arguments


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table(title=f"{report['watchers']} watchers, {report['providers']} providers")
    table.add_column("")
    table.add_column("seen", justify="right")
    for key, value in report.items():
        if key not in ("benchmark", "watchers", "providers"):
            table.add_row(key, str(value))
    console.print(table)


if __name__ == "__main__":
    main()
