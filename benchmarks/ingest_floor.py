"""What a call costs that does nothing, beside everything else: the machine's share of a latency."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import grpc

from benchmarks.empty_server import METHOD
from benchmarks.processes import child, free_port

EVERY_S = 0.01


@contextmanager
def empty_server(cores: set[int]) -> Iterator[EmptyCalls]:
    """An empty grpc.aio server in a process of its own."""
    port = free_port()
    with ExitStack() as stack:
        stack.enter_context(child(["-m", "benchmarks.empty_server", str(port), "aio"], cores, {}))
        channel = stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{port}"))
        grpc.channel_ready_future(channel).result(60)
        yield EmptyCalls(channel)


class EmptyCalls:
    """Calls that nothing is done for."""

    def __init__(self, channel: grpc.Channel) -> None:
        self._call: grpc.UnaryUnaryMultiCallable[bytes, bytes] = channel.unary_unary(METHOD)

    @contextmanager
    def polling(self) -> Iterator[list[float]]:
        """Calls every 10 ms for the length of the block; the list holds the latencies in
        milliseconds at its end."""
        latencies_ms: list[float] = []
        stop = threading.Event()

        def poll() -> None:
            while not stop.wait(EVERY_S):
                started_s = time.perf_counter()
                self._call(b"", timeout=30)
                latencies_ms.append(1_000 * (time.perf_counter() - started_s))

        polling = threading.Thread(target=poll)
        polling.start()
        try:
            yield latencies_ms
        finally:
            stop.set()
            polling.join()
