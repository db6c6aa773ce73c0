"""The load of ``benchmarks.swap``: a process that calls at a steady rate until it is told to stop.

    python -m benchmarks.swap_client TARGET SURFACE USERS PER_S

Says "started", calls until its standard input closes, then prints a JSON line: for every call
[when it was due, latency in ms, error, version of the bundle that answered].
"""

from __future__ import annotations

import gc
import json
import sys
import threading

from benchmarks.load import Load
from benchmarks.rank_services import RANK_METHOD, rank_requests
from podium.ranker.v1 import ranker_pb2


def main() -> None:
    """Calls and prints."""
    target, surface, users, per_s = sys.argv[1:5]
    load = Load(target, RANK_METHOD, rank_requests(surface, [f"u{n}" for n in range(int(users))]))
    closed = threading.Event()
    threading.Thread(target=_await_end, args=(closed,), daemon=True).start()
    # A collection of thousands of kept answers would be a stall that the ranker never had.
    gc.disable()
    print("started", flush=True)
    calls = load.steadily(float(per_s), closed.is_set)
    load.close()
    seen = [
        (
            call.due_s,
            call.latency_ms,
            call.error,
            ranker_pb2.RankResponse.FromString(call.answer).bundle_version,
        )
        for call in calls
    ]
    print(json.dumps(seen))


def _await_end(closed: threading.Event) -> None:
    sys.stdin.read()
    closed.set()


if __name__ == "__main__":
    main()
