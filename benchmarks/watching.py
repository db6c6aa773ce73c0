"""Many watchers in processes of their own, and what they cost the calls beside them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.load import Load, Outcome
from benchmarks.processes import ROOT, cpu_seconds

CLIENTS = 4
CHANNELS = 8

Processes = list[subprocess.Popen[str]]


@dataclass(frozen=True)
class Phase:
    """Calls over some seconds, and the share of a core that the serving process used."""

    calls: Outcome
    cpu_share: float


def phase(service: subprocess.Popen[str], load: Load, per_s: float, seconds: float) -> Phase:
    """Calls at a steady rate, after a moment of them that does not count."""
    load.open_loop(per_s, min(1.0, seconds / 4))
    used_s, started_s = cpu_seconds(service), time.monotonic()
    outcome = load.open_loop(per_s, seconds)
    used_s = cpu_seconds(service) - used_s
    return Phase(outcome, used_s / (time.monotonic() - started_s))


def percentiles_ms(phases: Sequence[Phase], share: float) -> list[float]:
    """Of each phase's calls."""
    return [round(one.calls.percentile_ms(share), 2) for one in phases]


@contextmanager
def watchers(kind: str, target: str, request: bytes, count: int) -> Iterator[Processes]:
    """Processes that watch, ``count`` streams in all, once every stream has begun."""
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
