"""What a call costs that does nothing, beside everything else: the machine's share of a latency."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.polling import Poller, poller
from benchmarks.processes import child, free_port


@contextmanager
def empty_server(cores: set[int]) -> Iterator[Poller]:
    """An empty grpc.aio server in a process of its own, and another that calls it."""
    target = f"127.0.0.1:{(port := free_port())}"
    with (
        child(["-m", "benchmarks.empty_server", str(port), "aio"], cores, {}),
        poller("empty", target) as calls,
    ):
        yield calls
