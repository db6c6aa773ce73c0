"""A process of events: ``python -m benchmarks.ingest_sender TARGET PREFIX COUNT RATE LIMIT``.

Makes ``COUNT`` requests of ``benchmarks.ingest_workload`` whose ids begin with ``PREFIX``, prints
``ready`` and waits for a line on standard input. Then sends them over one IngestStream, at ``RATE``
events a second or, where that is 0, as fast as they are taken for at most ``LIMIT`` seconds, and
prints one JSON object: how long it took, how late a request was sent at most, when
each was, and of each acknowledgement the log position and when it came (``time.perf_counter``).

It stands for other machines: at a rate it gives way to everything else on this one (``give_way``),
and how late it was tells whether it kept the rate. As fast as events are taken it does not: it
would be the one that is measured.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator

import grpc

from benchmarks.ingest_workload import REQUEST_EVENTS, requests
from benchmarks.processes import give_way
from podium.feature.v1.feature_pb2 import IngestStreamResponse

METHOD = "/podium.feature.v1.FeatureService/IngestStream"


class Sender:
    """Sends requests; ``late_s`` is by how much one missed its time at most, ``sent_s`` when each
    was handed to gRPC (``time.perf_counter``)."""

    def __init__(self, events_per_s: float, limit_s: float) -> None:
        self._events_per_s = events_per_s
        self._limit_s = limit_s
        self.late_s = 0.0
        self.sent_s: list[float] = []

    def paced(self, messages: list[bytes]) -> Iterator[bytes]:
        """The messages, each when its time has come."""
        started_s = time.perf_counter()
        for number, data in enumerate(messages):
            now_s = time.perf_counter()
            if self._events_per_s:
                ahead_s = started_s + number * REQUEST_EVENTS / self._events_per_s - now_s
                self.late_s = max(self.late_s, -ahead_s)
                time.sleep(max(0.0, ahead_s))
            elif now_s - started_s >= self._limit_s:
                return
            self.sent_s.append(time.perf_counter())
            yield data


def main(target: str, prefix: str, count: int, events_per_s: float, limit_s: float) -> None:
    """Sends once."""
    if events_per_s:
        give_way()
    messages = list(requests(count, time.time_ns() // 1_000_000, prefix))
    sender = Sender(events_per_s, limit_s)
    acks = []
    with grpc.insecure_channel(target) as channel:
        grpc.channel_ready_future(channel).result(60)
        print("ready", flush=True)
        sys.stdin.readline()
        call: Callable[..., Iterator[bytes]] = channel.stream_stream(METHOD)
        started_s = time.perf_counter()
        for data in call(sender.paced(messages), timeout=600):
            answer = IngestStreamResponse.FromString(data)
            if answer.accepted != REQUEST_EVENTS:
                raise RuntimeError(f"not every event was accepted: {answer}")
            acks.append((answer.log_position, time.perf_counter()))
        seconds = time.perf_counter() - started_s
    seen = {"seconds": seconds, "late_s": sender.late_s, "sent_s": sender.sent_s, "acks": acks}
    print(json.dumps(seen), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4]), float(sys.argv[5]))
