"""A process that calls one method at a steady rate: ``python -m benchmarks.load_client TARGET
METHOD``.

Reads the requests from standard input, a line of JSON with the hex of each. Every further line is a
rate (calls a second) and a time (seconds); what a run of ``benchmarks.load`` at that rate saw is
printed as one JSON object. Nothing else runs in this process: it would be in the latencies.
"""

from __future__ import annotations

import json
import sys

from benchmarks.load import Load


def main(target: str, method: str) -> None:
    """Runs until standard input ends."""
    load = Load(target, method, [bytes.fromhex(one) for one in json.loads(sys.stdin.readline())])
    while line := sys.stdin.readline():
        per_s, seconds = map(float, line.split())
        outcome = load.open_loop(per_s, seconds)
        print(json.dumps(vars(outcome)), flush=True)
    load.close()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
