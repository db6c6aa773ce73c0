"""The same ONNX model behind MLServer and Ray Serve, beside a Rank that also does everything else.

    python -m benchmarks.peers [--quick] [--seconds S] [--batch N] [--batch-wait-ms MS]
        [--mlserver-python PYTHON] [--ray-python PYTHON] [--workspace DIR]

The bundle of ``benchmarks.rank`` (100,000 items). Podium: Rank on the surfaces ``minimal`` and
``default``, which fetches the user's features, retrieves 500 candidates, filters, scores, selects
and logs. The others get what there is to score, a user's vector and the vectors of the 500
candidates, as raw float32 tensors over gRPC, batch calls with their own batching, and run the
bundle's ranker graph with the same ONNX Runtime and session options; their answers are compared
with ours. Podium's ranker has one core, and the other is the feature service's and the load's. The
others are tried on the ranker's core and on both; MLServer with inference in its own process and in
a worker, Ray Serve with one replica behind its proxy; the best counts, ``tried`` lists all.

Each lives in an environment of its own, made by pip unless a Python that has it is given. One that
cannot be set up or does not start is left out by name. ``calls_per_s`` is the best of 8, 16 and 32
calls in flight; ``ratio`` is that of ``default`` over theirs. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import grpc
import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load, Outcome
from benchmarks.processes import ROOT, child, cores, free_port
from benchmarks.rank_kernel import ENTITY
from benchmarks.rank_services import (
    CONCURRENCIES,
    measure_surface,
    off_the_server,
    prepare,
    services,
    workspace_at,
)
from benchmarks.rank_workload import CANDIDATES, FloatArray, Workload, write_whole_ranker
from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore

CALLS = 64
"""Different calls, sent in turn."""

_START_S = 180.0


@dataclass(frozen=True)
class Size:
    """How large and how long."""

    items: int
    users: int
    seconds: float


FULL = Size(100_000, 2_000, 8.0)
QUICK = Size(20_000, 100, 1.0)


@dataclass(frozen=True)
class Peer:
    """Another server: what pip installs, the module that runs it, and the settings to try."""

    name: str
    requirement: str
    beside: tuple[str, ...]
    module: str
    method: str
    ports: int
    settings: tuple[Mapping[str, float], ...]


def peers(batch: int, wait_s: float) -> list[Peer]:
    """The servers, with their batching on."""
    mlserver = {"max_batch_size": batch, "max_batch_time": wait_s}
    ray = {"max_batch_size": batch, "batch_wait_timeout_s": wait_s}
    return [
        Peer(
            "mlserver",
            "mlserver==1.7.1",
            # Its workers fail with later ones: no event loop in the main thread.
            ("uvloop==0.21.0",),
            "benchmarks.peer_mlserver",
            "/inference.GRPCInferenceService/ModelInfer",
            3,
            tuple(mlserver | {"parallel_workers": workers} for workers in (0, 1)),
        ),
        Peer(
            "ray",
            "ray[serve-grpc]==2.60.0",
            (),
            "benchmarks.peer_ray",
            "/benchmark.Ranker/Score",
            2,
            (ray | {"max_ongoing_requests": 4 * batch, "num_cpus": 2},),
        ),
    ]


def main() -> None:
    """Prepares, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a smoke test")
    parser.add_argument("--seconds", type=float, help="length of each measurement")
    parser.add_argument("--batch", type=int, default=16, help="largest batch of the others")
    parser.add_argument("--batch-wait-ms", type=float, default=2.0, help="their longest wait")
    parser.add_argument("--mlserver-python", type=Path, help="a Python that has MLServer")
    parser.add_argument("--ray-python", type=Path, help="a Python that has Ray Serve")
    parser.add_argument("--workspace", type=Path, help="a directory that is kept and used again")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    seconds = arguments.seconds or size.seconds
    given = {"mlserver": arguments.mlserver_python, "ray": arguments.ray_python}
    console = Console(markup=False)
    report: dict[str, Any] = {"benchmark": "peers", "rows": CANDIDATES}
    with workspace_at(arguments.workspace) as workspace:
        pythons: dict[str, Path | None] = {}
        others = peers(arguments.batch, arguments.batch_wait_ms / 1000)
        for peer in others:
            pythons[peer.name] = given[peer.name] or _environment(workspace, peer, console)
        with console.status("writing bundle and log"):
            workload, _ = prepare(workspace, size.items, size.users)
        with services(workspace, console) as ranker:
            for surface in ("minimal", "default"):
                best = measure_surface(ranker, surface, workload, seconds, console).best
                report[surface] = _figures(best)
        graph, users, items, expected = _calls(workspace, workload)
        for peer in others:
            python = pythons[peer.name]
            if python is None:
                report[peer.name] = {"absent": f"pip could not install {peer.requirement}"}
                continue
            bench = Bench(workspace, peer, python, graph, expected)
            report[peer.name] = bench.measure(users, items, seconds, console)
    for peer in others:
        if "calls_per_s" in report[peer.name]:
            ratio = report["default"]["calls_per_s"] / report[peer.name]["calls_per_s"]
            report[peer.name]["ratio"] = round(ratio, 2)
    _print(console, report, others)
    print(json.dumps(report))


def _environment(workspace: Path, peer: Peer, console: Console) -> Path | None:
    """The Python of an environment made by pip; None, and why on the console, if that fails."""
    directory = workspace / f"{peer.name}-environment"
    python = directory / "bin" / "python"
    wanted = [peer.requirement, *peer.beside, f"onnxruntime=={version('onnxruntime')}"]
    commands = [
        [sys.executable, "-m", "venv", str(directory)],
        [str(python), "-m", "pip", "install", "--quiet", *wanted],
    ]
    with console.status(f"pip install {' '.join(wanted)}"):
        for command in commands:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                console.print(f"{peer.name} is left out: {done.stderr.strip()[-400:]}")
                return None
    return python


def _calls(workspace: Path, workload: Workload) -> tuple[Path, FloatArray, FloatArray, FloatArray]:
    """The graph's file, users [CALLS, DIM], candidates [CALLS, CANDIDATES, DIM], and our answer to
    the first call [CANDIDATES, objectives]."""
    store = BundleStore(workspace / "bundles")
    directory = store.path(str(store.current()))
    bundle = LoadedBundle.load(directory, device="cpu")
    users = workload.user_vectors()[:CALLS]
    _, rows = bundle.search(ENTITY, users, CANDIDATES)
    items = bundle.item_vectors[ENTITY][rows]
    expected = bundle.score(
        user_vector=users[:1],
        user_features=np.zeros((1, len(bundle.manifest.user_features)), np.float32),
        owner=np.zeros(CANDIDATES, np.int64),
        item_vector=items[0],
        item_features=np.zeros((CANDIDATES, len(bundle.manifest.item_features)), np.float32),
        position=np.zeros(CANDIDATES, np.int64),
        surface=np.ones(1, np.int64),
    )
    whole = workspace / "whole_ranker.onnx"
    write_whole_ranker(whole)
    return whole, users, items, expected


class Bench:
    """Starts one peer and calls it."""

    def __init__(
        self, workspace: Path, peer: Peer, python: Path, graph: Path, expected: FloatArray
    ) -> None:
        self._directory = workspace
        self._peer = peer
        self._python = python
        self._graph = graph
        self._expected = expected

    def measure(
        self, users: FloatArray, items: FloatArray, seconds: float, console: Console
    ) -> dict[str, Any]:
        """The best over the peer's settings, or why there is none."""
        peer = self._peer
        requests = self._encoded(users, items)
        found: list[dict[str, Any]] = []
        for settings, on in product(peer.settings, _placements()):
            said = f"{peer.requirement} on {len(on)} cores: {dict(settings)}"
            console.print(said)
            try:
                with console.status(said):
                    found.append(self._with_settings(settings, on, requests, seconds))
            except RuntimeError as error:
                console.print(f"it is left out: {error}")
        if not found:
            return {"absent": f"{peer.requirement} did not serve"}
        best = max(found, key=lambda one: float(one["calls_per_s"]))
        tried = [[one["cores"], one["settings"], one["calls_per_s"]] for one in found]
        return best | {"version": peer.requirement, "tried": tried}

    def _with_settings(
        self,
        settings: Mapping[str, float],
        on: set[int],
        requests: Sequence[bytes],
        seconds: float,
    ) -> dict[str, Any]:
        peer = self._peer
        ports = [free_port() for _ in range(peer.ports)]
        arguments = ["-m", peer.module, "serve", str(self._graph), json.dumps(dict(settings))]
        with (
            child(
                [*arguments, *map(str, ports)],
                on,
                _ENVIRONMENT,
                python=self._python,
                is_heard=False,
            ) as process,
            off_the_server(),
        ):
            load = Load(f"127.0.0.1:{ports[0]}", peer.method, requests)
            self._check(_await_answer(load, requests[0], process))
            load.closed_loop(8, seconds / 4)
            best = max(
                (load.closed_loop(tried, seconds) for tried in CONCURRENCIES),
                key=lambda outcome: outcome.per_s,
            )
            load.close()
        return _figures(best) | {"settings": dict(settings), "cores": len(on)}

    def _encoded(self, users: FloatArray, items: FloatArray) -> list[bytes]:
        calls, requests = self._file("calls.npz"), self._file("requests.npy")
        np.savez(calls, users=users, items=items)
        self._convert("encode", calls, requests)
        return [row.tobytes() for row in np.load(requests, allow_pickle=False)]

    def _check(self, answer: bytes) -> None:
        """A figure is worth nothing if the answer is wrong."""
        given, values = self._file("answer.bin"), self._file("values.npy")
        given.write_bytes(answer)
        self._convert("decode", given, values)
        np.testing.assert_allclose(
            np.load(values, allow_pickle=False), self._expected, rtol=1e-4, atol=1e-6
        )

    def _convert(self, command: str, source: Path, target: Path) -> None:
        arguments = [str(self._python), "-m", self._peer.module, command, str(source), str(target)]
        subprocess.run(arguments, check=True, cwd=ROOT)

    def _file(self, name: str) -> Path:
        return self._directory / f"{self._peer.name}-{name}"


_ENVIRONMENT = {
    "PYTHONPATH": str(ROOT),
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_AUTH_MODE": "disabled",
}


def _placements() -> list[set[int]]:
    """The ranker's core alone, and both."""
    server_core, other_core = cores()
    return [server_core, server_core | other_core]


def _await_answer(load: Load, request: bytes, process: subprocess.Popen[str]) -> bytes:
    """The first answer of a server that starts. Raises ``RuntimeError`` when none comes."""
    end_s = time.monotonic() + _START_S
    last = "no answer"
    while process.poll() is None and time.monotonic() < end_s:
        try:
            return load.once(request)
        except grpc.RpcError as error:
            last = str(error)
            time.sleep(0.5)
    raise RuntimeError(f"no answer within {_START_S:.0f} s, or it ended: {last}")


def _figures(best: Outcome) -> dict[str, Any]:
    return {
        "calls_per_s": round(best.per_s, 1),
        "p50_ms": round(best.percentile_ms(0.5), 2),
        "errors": dict(best.errors),
    }


def _print(console: Console, report: dict[str, Any], others: Sequence[Peer]) -> None:
    table = Table("", "calls/s", "p50 ms, busy", "Podium / it")
    for surface in ("minimal", "default"):
        row = report[surface]
        table.add_row(f"Podium, {surface}", f"{row['calls_per_s']:,}", str(row["p50_ms"]), "")
    for peer in others:
        row = report[peer.name]
        if "absent" in row:
            table.add_row(peer.name, row["absent"], "", "")
        else:
            cells = f"{row['calls_per_s']:,}", str(row["p50_ms"]), str(row["ratio"])
            table.add_row(peer.requirement, *cells)
    console.print(table)


if __name__ == "__main__":
    main()
