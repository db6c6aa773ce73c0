"""What is left of a ranker that is asked for three times what it can do?

    python -m benchmarks.overload [--quick] [--seconds S] [--deadline-ms MS] [--workspace DIR]

The workload of ``benchmarks.rank`` on the shipped surface ``default``. First the capacity: the
highest rate of calls answered. Then three times as many are sent, steadily, each with a deadline;
then half of the capacity, to see that all is as it was. Candidates are not taken off meanwhile, so
that goodput is of whole slates.

``goodput_per_s``: answers within their deadline; ``goodput_share``: that over the capacity, the
goal is 0.75. ``refused``: calls turned away with RESOURCE_EXHAUSTED; ``late``: calls that were let
in and missed their deadline; ``kept_share``: of the calls let in, those that were in time. The last
line is JSON.
"""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.load import Load, Outcome
from benchmarks.rank_services import (
    CONCURRENCIES,
    RANK_METHOD,
    check_slate,
    off_the_server,
    prepare,
    rank_requests,
    services,
    workspace_at,
)

SURFACE = "default"
TIMES = 3.0
_REFUSED = "RESOURCE_EXHAUSTED"
_LATE = "DEADLINE_EXCEEDED"


@dataclass(frozen=True)
class Size:
    """How large and how long."""

    items: int
    users: int
    seconds: float


FULL = Size(100_000, 2_000, 15.0)
QUICK = Size(20_000, 100, 1.0)


def main() -> None:
    """Prepares, measures, prints."""
    arguments = _arguments()
    size = QUICK if arguments.quick else FULL
    seconds = arguments.seconds or size.seconds
    console = Console()
    with workspace_at(arguments.workspace) as workspace:
        with console.status("writing bundle and log"):
            workload, _ = prepare(workspace, size.items, size.users)
        requests = rank_requests(SURFACE, workload.user_ids())
        with services(workspace, console) as ranker, off_the_server():
            patient = Load(ranker.target, RANK_METHOD, requests)
            check_slate(patient.once(requests[0]))
            patient.closed_loop(8, seconds / 4)
            with console.status("capacity"):
                capacity = max(
                    (patient.closed_loop(n, seconds / 2) for n in CONCURRENCIES),
                    key=lambda outcome: outcome.per_s,
                )
            hasty = Load(
                ranker.target, RANK_METHOD, requests, timeout_s=arguments.deadline_ms / 1000
            )
            hasty.once(requests[0])
            with console.status(f"{TIMES:g} times the capacity"):
                over = hasty.open_loop(TIMES * capacity.per_s, seconds)
            with console.status("half of the capacity"):
                after = hasty.open_loop(capacity.per_s / 2, seconds / 2)
            patient.close()
            hasty.close()
    report = {
        "benchmark": "overload",
        "items": size.items,
        "deadline_ms": arguments.deadline_ms,
    } | summarise(capacity, over, after)
    _print(console, report)
    print(json.dumps(report))


def summarise(capacity: Outcome, over: Outcome, after: Outcome) -> dict[str, Any]:
    """The keys that the module names, of the three runs."""
    answered, late = len(over.latencies_ms), over.errors[_LATE]
    let_in = answered + late
    return {
        "capacity_per_s": round(capacity.per_s, 1),
        "sent_per_s": round((answered + over.errors.total()) / over.seconds, 1),
        "goodput_per_s": round(over.per_s, 1),
        "goodput_share": round(over.per_s / capacity.per_s, 3),
        "refused": over.errors[_REFUSED],
        "late": late,
        "kept_share": round(answered / let_in, 4) if let_in else 0.0,
        "p50_ms": round(over.percentile_ms(0.5), 1),
        "p99_ms": round(over.percentile_ms(0.99), 1),
        "other_errors": {k: n for k, n in over.errors.items() if k not in (_REFUSED, _LATE)},
        "after_p99_ms": round(after.percentile_ms(0.99), 1),
        "after_errors": dict(after.errors),
    }


def _print(console: Console, report: dict[str, Any]) -> None:
    table = Table("", f"{TIMES:g} times the capacity")
    for key, value in report.items():
        if key not in ("benchmark", "items"):
            table.add_row(key, str(value))
    console.print(table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0] if __doc__ else None)
    parser.add_argument("--quick", action="store_true", help="a small smoke test")
    parser.add_argument("--seconds", type=float, help="length of the overload")
    parser.add_argument("--deadline-ms", type=int, default=250, help="of every call")
    parser.add_argument("--workspace", type=Path, help="a directory that is kept and used again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
