"""Calls from a process of their own, one after another, and what they saw."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from numpy.typing import NDArray

from benchmarks.processes import child


class Polled:
    """Calls in the order in which they were sent, float64 and int64 of the same length: seconds on
    the clock of ``time.perf_counter``, milliseconds, log positions."""

    def __init__(self) -> None:
        self.sent_s: NDArray[np.float64] = np.zeros(0)
        self.latency_ms: NDArray[np.float64] = np.zeros(0)
        self.position: NDArray[np.int64] = np.zeros(0, np.int64)

    def percentile_ms(self, share: float) -> float:
        """Latency that a share of the calls did not exceed."""
        return float(np.percentile(self.latency_ms, 100 * share)) if len(self.latency_ms) else 0.0

    def seen_s(self, position: int) -> float:
        """When the first answer from ``position`` or later was there; infinite where none was."""
        first = int(np.searchsorted(self.position, position))
        if first == len(self.position):
            return float("inf")
        return float(self.sent_s[first] + self.latency_ms[first] / 1_000)


class Poller:
    """A process that polls while it is told to."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    @contextmanager
    def polling(self) -> Iterator[Polled]:
        """Polls for the length of the block; what it saw is there at its end."""
        polled = Polled()
        self._tell("begin")
        try:
            yield polled
        finally:
            self._tell("end")
            assert self._process.stdout is not None
            seen = json.loads(self._process.stdout.readline())
            polled.sent_s = np.array(seen["sent_s"])
            polled.latency_ms = np.array(seen["latency_ms"])
            # An answer may be of an older position than the one before it.
            polled.position = np.maximum.accumulate(np.array(seen["position"], np.int64))

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()


@contextmanager
def poller(kind: str, target: str, request: bytes = b"") -> Iterator[Poller]:
    """A process of ``benchmarks.poll_client``, once it is connected and asked for a round."""
    arguments = ["-m", "benchmarks.poll_client", kind, target]
    with child(arguments, os.sched_getaffinity(0), {}, is_fed=True) as process:
        assert process.stdin is not None
        process.stdin.write(request.hex() + "\n")
        process.stdin.flush()
        yield Poller(process)
