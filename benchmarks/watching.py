"""Many watchers in processes of their own, and what they cost the calls beside them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.load import Outcome
from benchmarks.processes import ROOT, child, cpu_seconds, started_cpu_seconds

CLIENTS = 4
CHANNELS = 8

Processes = Sequence[subprocess.Popen[str]]


@dataclass(frozen=True)
class Phase:
    """Calls over some seconds, and the shares of a core that the serving process, what it started,
    and all watchers used."""

    calls: Outcome
    cpu_share: float
    applying_cpu_share: float = 0.0
    watchers_cpu_share: float = 0.0


class Caller:
    """Calls of ``benchmarks.load`` from a process of their own."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def open_loop(self, per_s: float, seconds: float) -> Outcome:
        """See ``Load.open_loop``."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(per_s, seconds, file=self._process.stdin, flush=True)
        seen = json.loads(self._process.stdout.readline())
        return Outcome(seen["seconds"], seen["latencies_ms"], Counter(seen["errors"]))


@contextmanager
def caller(target: str, method: str, requests: Sequence[bytes]) -> Iterator[Caller]:
    """A process of ``benchmarks.load_client``."""
    arguments = ["-m", "benchmarks.load_client", target, method]
    with child(arguments, os.sched_getaffinity(0), {}, is_fed=True) as process:
        assert process.stdin is not None
        print(json.dumps([one.hex() for one in requests]), file=process.stdin, flush=True)
        yield Caller(process)


def phase(
    service: subprocess.Popen[str],
    load: Caller,
    per_s: float,
    seconds: float,
    clients: Processes = (),
) -> Phase:
    """Calls at a steady rate, after a moment of them that does not count."""
    load.open_loop(per_s, min(1.0, seconds / 4))

    def used() -> NDArray[np.float64]:
        watching_s = sum(cpu_seconds(one) for one in clients)
        return np.array([cpu_seconds(service), started_cpu_seconds(service), watching_s])

    before_s, started_s = used(), time.monotonic()
    outcome = load.open_loop(per_s, seconds)
    shares = (used() - before_s) / (time.monotonic() - started_s)
    return Phase(outcome, *map(float, shares))


def cpu_report(phases: Sequence[Phase]) -> dict[str, list[float]]:
    """Shares of a core in each phase."""
    return {
        "server_cpu_share": [round(one.cpu_share, 2) for one in phases],
        "applying_cpu_share": [round(one.applying_cpu_share, 2) for one in phases],
        "watchers_cpu_share": [round(one.watchers_cpu_share, 2) for one in phases],
    }


def percentiles_ms(phases: Sequence[Phase], share: float) -> list[float]:
    """Of each phase's calls."""
    return [round(one.calls.percentile_ms(share), 2) for one in phases]


@contextmanager
def watchers(kind: str, target: str, request: bytes, count: int) -> Iterator[Processes]:
    """Processes that watch, ``count`` streams in all, once every stream has begun. They stand for
    other machines: they give way to everything else on this one (``give_way``)."""
    clients = []
    for number in range(CLIENTS):
        share = count // CLIENTS + (number < count % CLIENTS)
        module = "benchmarks.watch_client"
        process = subprocess.Popen(
            [sys.executable, "-m", module, kind, target, str(share), str(CHANNELS)],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert process.stdin is not None
        process.stdin.write(request.hex() + "\n")
        process.stdin.flush()
        clients.append(process)
    try:
        for client in clients:
            assert client.stdout is not None
            assert client.stdout.readline() == "ready\n", "a process of watchers ended"
        yield clients
    finally:
        for process in clients:
            process.kill()
            process.communicate()


def ask(clients: Processes) -> list[dict[str, Any]]:
    """What the watchers of every process saw since they were asked last."""
    reports = []
    for client in clients:
        assert client.stdin is not None
        client.stdin.write("report\n")
        client.stdin.flush()
    for client in clients:
        assert client.stdout is not None
        reports.append(json.loads(client.stdout.readline()))
    return reports


def seen_by(
    reports: Sequence[Mapping[str, Any]], happened_s: Mapping[str, float], count: int
) -> dict[str, Any]:
    """How long (ms) after it happened each of ``count`` watchers saw what; and how many did not."""
    lags_ms: list[float] = []
    missed = 0
    for key, at_s in happened_s.items():
        seen = [seen_s for report in reports for seen_s in report["seen_s"].get(key, ())]
        missed += count - len(seen)
        lags_ms += [max(0.0, seen_s - at_s) * 1000 for seen_s in seen]
    return {
        "missed": missed,
        "p50_ms": round(float(np.percentile(lags_ms, 50)), 1),
        "p99_ms": round(float(np.percentile(lags_ms, 99)), 1),
        "max_ms": round(max(lags_ms), 1),
    }


def streams_report(reports: Sequence[Mapping[str, Any]], seconds: float) -> dict[str, Any]:
    """What the streams carried, and what became of them."""
    return {
        "steps_per_s": round(sum(report["steps"] for report in reports) / seconds),
        "mib_per_s": round(sum(report["bytes"] for report in reports) / seconds / 2**20, 1),
        "streams_broken": sum(report["broken"] for report in reports),
        "streams_refused": sum(report["refused"] for report in reports),
    }
