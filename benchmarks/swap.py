"""What do callers notice when another bundle is promoted under load?

    python -m benchmarks.swap [--quick] [--swaps N] [--workspace DIR]

The workload of ``benchmarks.rank`` on the shipped surface ``default``. Another process calls Rank
at half the highest rate seen, steadily; meanwhile two bundles of other weights are promoted in
turn. The ranker loads, verifies, encodes and warms each on the one core that it also serves from.
``during`` is what was due from a promotion until the bundle had been in force for a second,
``before`` what was due in the quiet seconds ahead of each promotion. ``failed`` counts every call
without an answer, from the first to the last. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks.load import Load
from benchmarks.processes import child, cores
from benchmarks.rank_services import (
    RANK_METHOD,
    RankerUnderTest,
    measure_surface,
    off_the_server,
    prepare,
    rank_requests,
    services,
    workspace_at,
)
from benchmarks.rank_workload import publish_bundle
from podium.ranker.v1 import ranker_pb2
from services.common.bundle.store import BundleStore

SURFACE = "default"
SETTLED_S = 1.0
_LOOK_S = 0.25
_LONGEST_SWAP_S = 120.0


@dataclass(frozen=True)
class Size:
    """How large and how long; ``quiet_s`` lies before each promotion."""

    items: int
    users: int
    seconds: float
    quiet_s: float
    swaps: int


FULL = Size(100_000, 2_000, 8.0, 10.0, 5)
QUICK = Size(20_000, 100, 0.5, 2.0, 2)


@dataclass(frozen=True)
class Seen:
    """A call of the client. ``version`` is that of the bundle, empty where the call failed."""

    due_s: float
    latency_ms: float
    error: str
    version: str


@dataclass(frozen=True)
class Swap:
    """When a version was promoted and when it was first seen to answer."""

    version: str
    promoted_s: float
    in_force_s: float


def main() -> None:
    """Prepares, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="a small smoke test")
    parser.add_argument("--swaps", type=int, help="number of promotions")
    parser.add_argument("--workspace", type=Path, help="a directory that is kept and used again")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    console = Console()
    with workspace_at(arguments.workspace) as workspace:
        with console.status("writing bundles and log"):
            workload, domain = prepare(workspace, size.items, size.users)
            store = BundleStore(workspace / "bundles")
            first = str(store.current())
            others = [version for version in store.versions() if version != first]
            second = (
                others[0] if others else publish_bundle(store.directory, domain, workload, number=1)
            )
        with services(workspace, console) as ranker, off_the_server():
            best = measure_surface(ranker, SURFACE, workload, size.seconds, console).best
            swaps, calls = _swap_under_load(
                ranker,
                store,
                [second, first],
                best.per_s / 2,
                arguments.swaps or size.swaps,
                size,
                console,
            )
    report = {
        "benchmark": "swap",
        "items": size.items,
        "rank_per_s": round(best.per_s, 1),
        "sent_per_s": round(best.per_s / 2, 1),
    } | summarise(calls, swaps, size.quiet_s)
    _print(console, report)
    print(json.dumps(report))


def _swap_under_load(
    ranker: RankerUnderTest,
    store: BundleStore,
    turns: Sequence[str],
    per_s: float,
    swaps: int,
    size: Size,
    console: Console,
) -> tuple[list[Swap], list[Seen]]:
    """Promotes the versions in turn while the client calls."""
    _, other_core = cores()
    arguments = ["-m", "benchmarks.swap_client", ranker.target, SURFACE, str(size.users)]
    with child([*arguments, str(per_s)], other_core, {}, is_fed=True) as client:
        _await_start(client)
        time.sleep(SETTLED_S)
        # Promoting hashes a bundle's files: the client, on the same core, goes first.
        os.nice(19)
        probe = Load(ranker.target, RANK_METHOD, rank_requests("minimal", ["u0"]))
        done = []
        for number in range(swaps):
            with console.status(f"swap {number + 1} of {swaps}"):
                time.sleep(size.quiet_s)
                done.append(_swap(store, turns[number % len(turns)], probe))
                time.sleep(SETTLED_S)
        time.sleep(SETTLED_S)
        probe.close()
        output, _ = client.communicate()
    return done, [Seen(*row) for row in json.loads(output)]


def _await_start(client: subprocess.Popen[str]) -> None:
    assert client.stdout is not None
    if client.stdout.readline().strip() != "started":
        raise RuntimeError("the client did not start")


def _swap(store: BundleStore, version: str, probe: Load) -> Swap:
    """Promotes a version and waits until it answers. Raises ``RuntimeError`` when it does not."""
    promoted_s = time.perf_counter()
    store.promote(version)
    request = rank_requests("minimal", ["u0"])[0]
    while time.perf_counter() < promoted_s + _LONGEST_SWAP_S:
        answer = ranker_pb2.RankResponse.FromString(probe.once(request))
        if answer.bundle_version == version:
            return Swap(version, promoted_s, time.perf_counter())
        time.sleep(_LOOK_S)
    raise RuntimeError(f"{version} was not in force after {_LONGEST_SWAP_S:.0f} s")


def summarise(calls: Sequence[Seen], swaps: Sequence[Swap], quiet_s: float) -> dict[str, Any]:
    """Latencies of the calls due before and during the swaps, failures of all calls."""
    before = [
        call
        for call in calls
        if any(s.promoted_s - quiet_s <= call.due_s < s.promoted_s for s in swaps)
    ]
    during = [
        call
        for call in calls
        if any(s.promoted_s <= call.due_s < s.in_force_s + SETTLED_S for s in swaps)
    ]
    unseen = {swap.version for swap in swaps} - {call.version for call in calls}
    if unseen:
        raise RuntimeError(f"no call of the client was answered by {unseen}")
    p99_before_ms, p99_during_ms = _percentile(before, 99), _percentile(during, 99)
    return {
        "swaps": len(swaps),
        "calls": len(calls),
        "failed": sum(bool(call.error) for call in calls),
        "errors": dict(Counter(call.error for call in calls if call.error)),
        "swap_s": round(max(swap.in_force_s - swap.promoted_s for swap in swaps), 2),
        "p50_before_ms": round(_percentile(before, 50), 2),
        "p50_during_ms": round(_percentile(during, 50), 2),
        "p99_before_ms": round(p99_before_ms, 2),
        "p99_during_ms": round(p99_during_ms, 2),
        "worst_before_ms": round(_percentile(before, 100), 2),
        "worst_during_ms": round(_percentile(during, 100), 2),
        "ratio": round(p99_during_ms / p99_before_ms, 2),
    }


def _percentile(calls: Sequence[Seen], percent: float) -> float:
    return float(np.percentile([call.latency_ms for call in calls if not call.error], percent))


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table("", "before", "during")
    for key in ("p50", "p99", "worst"):
        before, during = report[f"{key}_before_ms"], report[f"{key}_during_ms"]
        table.add_row(f"{key}, ms", f"{before:,}", f"{during:,}")
    console.print(table)
    console.print(
        f"{report['swaps']} swaps of up to {report['swap_s']} s, {report['calls']:,} calls at "
        f"{report['sent_per_s']}/s, failed {report['failed']}; p99 ratio {report['ratio']}"
    )


if __name__ == "__main__":
    main()
