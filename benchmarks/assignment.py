"""How fast are units assigned, beside GrowthBook's SDK and flagd's own evaluation?

    python -m benchmarks.assignment [--quick] [--growthbook-python PYTHON] [--flagd-python PYTHON]

Twenty experiments (``benchmarks.assignment_workload``) with the same weights, conditions and layers
in all three, each with its own default hash: xxh3 here, FNV-1a (version 1) in GrowthBook's SDK,
murmur3 in ``openfeature-flagd-core``. In process, in turns, CPU time of the best pass: each user is
asked about in all twenty. Beside it what GrowthBook's payload imports, so FNV-1a here, too, and its
version 2. That the three decide alike shows in the share of decisions that gave a variant. Then
Assign over gRPC, the service on one core and the load on the other: the best of several calls in
flight, and percentiles at half of that. The others live in environments of their own, made by pip
unless a Python that has them is given. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks import assignment_workload as workload
from benchmarks.assignment_peer import Decide, measured
from benchmarks.load import Load
from benchmarks.processes import await_serving, child, cores, cpu_seconds, free_port
from podium.common.v1.common_pb2 import Actor
from podium.experiment.v1 import experiment_pb2
from services.common.assign.assign import assign
from services.common.assign.canonical import hashed
from services.common.assign.definitions import ExperimentsFile, definitions_in
from services.common.assign.growthbook import imported
from services.common.yaml_config import yaml_text

REQUIREMENTS = {"growthbook": "growthbook==4.0.0", "flagd": "openfeature-flagd-core==2.0.0"}
METHOD = "/podium.experiment.v1.ExperimentService/Assign"
CONCURRENCIES = (4, 8, 16)
ROUNDS = 4


def main() -> None:
    """Prepares, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    for name in REQUIREMENTS:
        parser.add_argument(f"--{name}-python", type=Path, help=f"a Python that has {name}")
    arguments = parser.parse_args()
    users, seconds = (200, 0.5) if arguments.quick else (1_000, 8.0)
    console = Console()
    with tempfile.TemporaryDirectory(prefix="podium-assignment-") as directory:
        workspace = Path(directory)
        pythons = {
            name: getattr(arguments, f"{name}_python") or _made(workspace, name, console)
            for name in REQUIREMENTS
        }
        report: dict[str, Any] = {
            "benchmark": "assignment",
            "experiments": workload.EXPERIMENTS,
            "users": users,
            **_in_process(workspace, workload.users(users), pythons, seconds, console),
            **_over_grpc(workspace, workload.users(users), seconds, console),
        }
    _print(console, report)
    print(json.dumps(report))


def _made(workspace: Path, name: str, console: Console) -> Path:
    environment = workspace / name
    with console.status(f"pip install {REQUIREMENTS[name]}"):
        subprocess.run([sys.executable, "-m", "venv", str(environment)], check=True)
        pip = [str(environment / "bin" / "pip"), "install", "--quiet", REQUIREMENTS[name]]
        subprocess.run(pip, check=True)
    return environment / "bin" / "python"


def _in_process(
    workspace: Path,
    users: list[dict[str, Any]],
    pythons: Mapping[str, Path],
    seconds: float,
    console: Console,
) -> dict[str, Any]:
    """Microseconds an experiment, and what is made of them."""
    ours = {
        "xxh3": _decider(workload.ours()),
        "fnv1": _decider(imported(workload.growthbook(1), {"id": "user"}).file),
        "fnv2": _decider(imported(workload.growthbook(2), {"id": "user"}).file),
    }
    peers = {
        "growthbook": ("growthbook", workload.growthbook(1)),
        "growthbook_v2": ("growthbook", workload.growthbook(2)),
        "flagd": ("flagd", workload.flagd()),
    }
    best: dict[str, dict[str, float]] = {}
    for number in range(ROUNDS):
        with console.status(f"in process, round {number + 1} of {ROUNDS}"):
            for name, decide in ours.items():
                found = measured(decide, users, workload.EXPERIMENTS, seconds / ROUNDS)
                _keep(best, name, found)
            for name, (system, definitions) in peers.items():
                run = _Peer(pythons[system], system, workspace)
                _keep(best, name, run.measured(definitions, users, seconds / ROUNDS))
    us = {name: found["us_per_experiment"] for name, found in best.items()}
    return {
        "us_per_experiment": round(us["xxh3"], 2),
        "growthbook_us": round(us["growthbook"], 2),
        "flagd_us": round(us["flagd"], 2),
        "ratio": round(min(us["growthbook"], us["flagd"]) / us["xxh3"], 1),
        "fnv1_us": round(us["fnv1"], 2),
        "fnv2_us": round(us["fnv2"], 2),
        "growthbook_v2_us": round(us["growthbook_v2"], 2),
        "fnv_ratio": round(us["growthbook"] / us["fnv1"], 1),
        "fnv2_ratio": round(us["growthbook_v2"] / us["fnv2"], 1),
        "shares": {name: round(found["share"], 3) for name, found in best.items()},
    }


def _keep(best: dict[str, dict[str, float]], name: str, found: dict[str, float]) -> None:
    kept = best.setdefault(name, found)
    if found["us_per_experiment"] < kept["us_per_experiment"]:
        best[name] = found


def _decider(content: dict[str, Any]) -> Decide:
    definitions = hashed(definitions_in(ExperimentsFile.model_validate(content)))

    def decide(user: dict[str, Any]) -> int:
        found = assign(definitions, {"user": user["id"]}, attributes=user)
        return sum(assignment.variant_key != "" for assignment in found)

    return decide


class _Peer:
    """Another system, in its environment."""

    def __init__(self, python: Path, system: str, workspace: Path) -> None:
        self._python = python
        self._system = system
        self._workspace = workspace

    def measured(
        self, definitions: dict[str, Any], users: list[dict[str, Any]], seconds: float
    ) -> dict[str, float]:
        """The best pass."""
        files: list[Path] = []
        for name, content in (("definitions", definitions), ("users", users)):
            files.append(self._workspace / f"{name}.json")
            files[-1].write_text(json.dumps(content), encoding="utf-8")
        script = Path(__file__).with_name("assignment_peer.py")
        command = [*map(str, (self._python, script, self._system, *files, seconds))]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
        return found


def _over_grpc(
    workspace: Path, users: list[dict[str, Any]], seconds: float, console: Console
) -> dict[str, Any]:
    """Calls a second of a service on one core, its CPU time a call, and latencies at half load."""
    experiments_file = workspace / "experiments.yaml"
    experiments_file.write_text(yaml_text(workload.ours()), encoding="utf-8")
    server_core, _ = cores()
    port = free_port()
    environment = {
        "PODIUM_LOG_LEVEL": "ERROR",
        "PODIUM_EXPERIMENTS_FILE": str(experiments_file),
        "PODIUM_EXPERIMENT_PORT": str(port),
        "PODIUM_EXPERIMENT_METRICS_PORT": "0",
    }
    with (
        console.status("Assign over gRPC"),
        child(["-m", "services.experiment"], server_core, environment, is_heard=False) as service,
    ):
        await_serving(service, port, 60)
        load = Load(f"127.0.0.1:{port}", METHOD, [_request(user) for user in users])
        _check(load, users[0])
        load.closed_loop(8, seconds / 8)
        outcomes = []
        for concurrency in CONCURRENCIES:
            used_s = cpu_seconds(service)
            outcome = load.closed_loop(concurrency, seconds / 2)
            used_s = cpu_seconds(service) - used_s
            outcomes.append((outcome.per_s, used_s / max(1, len(outcome.latencies_ms)) * 1e6))
        per_s = max(outcomes)[0]
        half = load.open_loop(per_s / 2, seconds)
        load.close()
    return {
        "assign_per_s": round(per_s),
        "assign_cpu_us": round(min(cpu_us for _, cpu_us in outcomes)),
        "p50_ms": round(half.percentile_ms(0.5), 2),
        "p99_ms": round(half.percentile_ms(0.99), 2),
        "errors": dict(half.errors),
    }


def _request(user: dict[str, Any]) -> bytes:
    request = experiment_pb2.AssignRequest(actor=Actor(user_id=user["id"]))
    request.context.attributes.update({k: v for k, v in user.items() if k != "id"})
    return request.SerializeToString()


def _check(load: Load, user: dict[str, Any]) -> None:
    """A figure is worth nothing if the answer is wrong."""
    answer = experiment_pb2.AssignResponse.FromString(load.once(_request(user)))
    assert len(answer.assignments) == workload.EXPERIMENTS
    given = sum(a.variant_key != "" for a in answer.assignments)
    assert given == _decider(workload.ours())(user)


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table("in process", "us an experiment", "share in a variant")
    rows = (
        ("Podium, xxh3", "us_per_experiment", "xxh3"),
        ("GrowthBook's SDK", "growthbook_us", "growthbook"),
        ("flagd", "flagd_us", "flagd"),
        ("Podium, imported (fnv1)", "fnv1_us", "fnv1"),
        ("Podium, imported (fnv2)", "fnv2_us", "fnv2"),
        ("GrowthBook's SDK, version 2", "growthbook_v2_us", "growthbook_v2"),
    )
    for title, key, share in rows:
        table.add_row(title, str(report[key]), str(report["shares"][share]))
    console.print(table)
    console.print(
        f"{report['ratio']} times the faster of the two; {report['fnv_ratio']} times GrowthBook's "
        f"SDK on what was imported from it, {report['fnv2_ratio']} with version 2"
    )
    console.print(
        f"Assign of {report['experiments']}: {report['assign_per_s']:,} a second on one core, "
        f"{report['assign_cpu_us']} us of CPU each; at half of that p50 {report['p50_ms']} ms, "
        f"p99 {report['p99_ms']} ms"
    )


if __name__ == "__main__":
    main()
