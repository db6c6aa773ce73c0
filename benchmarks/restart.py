"""How soon does a ranker serve again that starts while the feature service is down, too?

    python -m benchmarks.restart [--quick] [--workspace DIR]

The workload of ``benchmarks.rank``. Feature service and ranker serve; both are stopped; the ranker
alone is started again, on one core, with its bundle and the copy of the catalogue on its disk.

``ready_s``: from its start until it says SERVING, the goal is 10; ``first_ready_s``: of the first
start, with the feature service. ``items``: in its first slate; ``catalogue_age_s``: how old it says
its catalogue is. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load import Load
from benchmarks.processes import await_serving, child, cores, free_port
from benchmarks.rank_services import (
    RANK_METHOD,
    check_slate,
    environment_of,
    prepare,
    rank_requests,
    services,
    workspace_at,
)
from podium.ranker.v1 import ranker_pb2

SURFACE = "default"
_LONGEST_S = 300.0


@dataclass(frozen=True)
class Size:
    """How large."""

    items: int
    users: int


FULL = Size(100_000, 2_000)
QUICK = Size(20_000, 100)


def main() -> None:
    """Prepares, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a small smoke test")
    parser.add_argument("--workspace", type=Path, help="a directory that is kept and used again")
    arguments = parser.parse_args()
    size = QUICK if arguments.quick else FULL
    console = Console()
    with workspace_at(arguments.workspace) as workspace:
        with console.status("writing bundle and log"):
            workload, _ = prepare(workspace, size.items, size.users)
        request = rank_requests(SURFACE, workload.user_ids())[0]
        with services(workspace, console) as ranker:
            load = Load(ranker.target, RANK_METHOD, [request])
            check_slate(load.once(request))
            load.close()
            first_ready_s = ranker.ready_s
        report = {
            "benchmark": "restart",
            "catalogue": size.items,
            "first_ready_s": round(first_ready_s, 2),
        } | _alone(workspace, request, console)
    _print(console, report)
    print(json.dumps(report))


def _alone(workspace: Path, request: bytes, console: Console) -> dict[str, Any]:
    """Starts the ranker without a feature service and asks it for a slate."""
    server_core, _ = cores()
    ports = free_port(), free_port()
    with child(["-m", "services.ranker"], server_core, environment_of(workspace, ports)) as ranker:
        started_s = time.monotonic()
        with console.status("ranker alone"):
            await_serving(ranker, ports[1], _LONGEST_S)
        ready_s = time.monotonic() - started_s
        load = Load(f"127.0.0.1:{ports[1]}", RANK_METHOD, [request])
        response = ranker_pb2.RankResponse.FromString(load.once(request))
        load.close()
    if not response.slate.ids:
        raise RuntimeError("the slate is empty")
    ages_ms = [
        degraded.age_ms
        for degraded in response.degraded
        if degraded.part == ranker_pb2.Degradation.PART_CATALOGUE
    ]
    return {
        "ready_s": round(ready_s, 2),
        "items": len(response.slate.ids),
        "catalogue_age_s": round(max(ages_ms, default=0) / 1000, 1),
    }


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table("", "seen")
    for key, value in report.items():
        if key != "benchmark":
            table.add_row(key, f"{value:,}")
    console.print(table)


if __name__ == "__main__":
    main()
