"""A gRPC load generator: closed loop for throughput, open loop for latency at a given rate.

Requests and answers are bytes: the generator neither encodes nor decodes while it measures.
"""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

import grpc
import numpy as np

_TIMEOUT_S = 10.0


@dataclass
class Outcome:
    """What a run saw. ``latencies_ms`` are of the calls that succeeded."""

    seconds: float = 0.0
    latencies_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def per_s(self) -> float:
        """Successful calls a second."""
        return len(self.latencies_ms) / self.seconds if self.seconds else 0.0

    def percentile_ms(self, share: float) -> float:
        """Latency that a share of the calls did not exceed."""
        return float(np.percentile(self.latencies_ms, 100 * share)) if self.latencies_ms else 0.0


@dataclass(frozen=True)
class Call:
    """One call of ``Load.steadily``. ``due_s`` is on the clock of ``time.perf_counter``, which the
    processes of a machine share (Linux); ``error`` is the status' name, empty for an answer."""

    due_s: float
    latency_ms: float
    error: str
    answer: bytes


class Load:
    """Calls one method over one channel, each call with a deadline."""

    def __init__(
        self, target: str, method: str, requests: Sequence[bytes], *, timeout_s: float = _TIMEOUT_S
    ) -> None:
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(target)
        self._call: grpc.UnaryUnaryMultiCallable[bytes, bytes]
        self._call = self._channel.unary_unary(method)
        self._requests = requests
        self._next = 0
        self._lock = threading.Lock()

    def close(self) -> None:
        """Closes the channel."""
        self._channel.close()

    def once(self, request: bytes) -> bytes:
        """One call."""
        response: bytes = self._call(request, timeout=_TIMEOUT_S, wait_for_ready=True)
        return response

    def closed_loop(self, concurrency: int, seconds: float) -> Outcome:
        """Keeps ``concurrency`` calls in flight for a time."""
        outcome = Outcome()
        started_s = time.perf_counter()
        end_s = started_s + seconds
        left = threading.Semaphore(0)

        def fire() -> None:
            sent_s = time.perf_counter()
            future = self._call.future(self._request(), timeout=self._timeout_s)
            future.add_done_callback(partial(answered, sent_s))

        def answered(sent_s: float, done: grpc.Future[bytes]) -> None:
            now_s = time.perf_counter()
            self._note(outcome, done, sent_s, now_s)
            if now_s < end_s:
                fire()
            else:
                left.release()

        for _ in range(concurrency):
            fire()
        for _ in range(concurrency):
            left.acquire()
        outcome.seconds = time.perf_counter() - started_s
        return outcome

    def open_loop(self, per_s: float, seconds: float) -> Outcome:
        """Sends at a steady rate; latency counts from the moment a call was due."""
        outcome = Outcome()
        count = max(1, int(per_s * seconds))
        left = threading.Semaphore(0)
        started_s = time.perf_counter()

        def answered(due_s: float, done: grpc.Future[bytes]) -> None:
            self._note(outcome, done, due_s, time.perf_counter())
            left.release()

        for number in range(count):
            due_s = started_s + number / per_s
            pause_s = due_s - time.perf_counter()
            if pause_s > 0:
                time.sleep(pause_s)
            future = self._call.future(self._request(), timeout=self._timeout_s)
            future.add_done_callback(partial(answered, due_s))
        for _ in range(count):
            left.acquire()
        outcome.seconds = time.perf_counter() - started_s
        return outcome

    def steadily(self, per_s: float, is_over: Callable[[], bool]) -> list[Call]:
        """Sends at a steady rate until it ``is_over``, then waits for the answers: every call, in
        the order in which they ended."""
        calls: list[Call] = []
        left = threading.Semaphore(0)
        started_s = time.perf_counter()
        count = 0

        def answered(due_s: float, done: grpc.Future[bytes]) -> None:
            latency_ms = (time.perf_counter() - due_s) * 1000
            error = done.exception()
            name = "" if error is None else _error_name(error)
            calls.append(Call(due_s, latency_ms, name, b"" if error else done.result()))
            left.release()

        while not is_over():
            due_s = started_s + count / per_s
            pause_s = due_s - time.perf_counter()
            if pause_s > 0:
                time.sleep(pause_s)
            future = self._call.future(self._request(), timeout=self._timeout_s)
            future.add_done_callback(partial(answered, due_s))
            count += 1
        for _ in range(count):
            left.acquire()
        return calls

    def _request(self) -> bytes:
        self._next = (self._next + 1) % len(self._requests)
        return self._requests[self._next]

    def _note(
        self, outcome: Outcome, done: grpc.Future[bytes], sent_s: float, now_s: float
    ) -> None:
        error = done.exception()
        with self._lock:
            if error is None:
                outcome.latencies_ms.append((now_s - sent_s) * 1000)
            else:
                outcome.errors[_error_name(error)] += 1


def _error_name(error: BaseException) -> str:
    code = error.code() if isinstance(error, grpc.Call) else type(error)
    return str(getattr(code, "name", code))
