"""A process that calls one method over and over: ``python -m benchmarks.poll_client KIND TARGET``.

Reads the request (hex) from standard input. Then a line there begins a round of calls, one after
another with a pause in between, and the next line ends it: one JSON object is printed with when
each call was sent (``time.perf_counter``, which the processes of a machine share on Linux), how
long it took, and the log position that it was answered from. Nothing else runs in this process: a
thread beside it would be in the latencies.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from array import array
from collections.abc import Callable
from typing import NamedTuple

import grpc

from benchmarks.empty_server import METHOD as EMPTY_METHOD
from podium.feature.v1.feature_pb2 import GetFeaturesResponse


class Kind(NamedTuple):
    """What is called, how long the pause is, and which log position an answer names."""

    method: str
    pause_s: float
    position: Callable[[bytes], int]


def _position(data: bytes) -> int:
    return GetFeaturesResponse.FromString(data).log_position


KINDS = {
    "features": Kind("/podium.feature.v1.FeatureService/GetFeatures", 0.002, _position),
    "empty": Kind(EMPTY_METHOD, 0.01, lambda _: 0),
}


def main(kind: Kind, target: str) -> None:
    """Runs until standard input ends."""
    request = bytes.fromhex(sys.stdin.readline().strip())
    with grpc.insecure_channel(target) as channel:
        grpc.channel_ready_future(channel).result(60)
        call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(kind.method)
        while sys.stdin.readline():
            stop = threading.Event()
            waiting = threading.Thread(target=lambda stop=stop: (sys.stdin.readline(), stop.set()))
            waiting.start()
            sent_s, latency_ms, positions = array("d"), array("d"), array("q")
            while not stop.is_set():
                started_s = time.perf_counter()
                data = call(request, timeout=30)
                latency_ms.append(1_000 * (time.perf_counter() - started_s))
                sent_s.append(started_s)
                positions.append(kind.position(data))
                time.sleep(kind.pause_s)
            waiting.join()
            seen = {
                "sent_s": sent_s.tolist(),
                "latency_ms": latency_ms.tolist(),
                "position": positions.tolist(),
            }
            print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main(KINDS[sys.argv[1]], sys.argv[2])
