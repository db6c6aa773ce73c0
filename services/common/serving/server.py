"""A server whose one thread takes calls, does their work, and answers."""

from __future__ import annotations

import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Final, Protocol

from google.protobuf.descriptor import ServiceDescriptor
from grpc_health.v1 import health_pb2
from prometheus_client import CollectorRegistry

from services.common.errors import Unavailable
from services.common.gate import Gate, State
from services.common.memory import keep_for_good
from services.common.server import ServerOptions, reflected
from services.common.serving.core import UNIMPLEMENTED, Core, IncomingCall
from services.common.serving.health import Health, Reflection
from services.common.serving.methods import Method, unary_methods
from services.common.serving.promise import Tasks
from services.common.telemetry import RpcMetrics

IDLE_S = 1.0
"""A look at the clock when nothing happens."""

_CANCELLED_S = 5.0
"""Calls end within milliseconds of being cancelled; a micro-batch may be under way, too."""

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_SIGNAL_LOOK_S: Final = 0.2

_logger = logging.getLogger(__name__)


class Work(Protocol):
    """What the thread does between the calls' arrivals."""

    def step(self) -> float | None:
        """Does a piece of work, of some milliseconds at most. In how many seconds there may be
        more, 0 for at once; None when there is nothing to do until a call comes."""


class NoWork:
    """For services whose methods do all of it."""

    def step(self) -> float | None:
        """Nothing."""
        return None


class LoopServer:
    """Serves services whose methods are coroutines. Made by ``build_loop_server``.

    Starting, readiness and draining are those of ``services.common.server``.
    """

    def __init__(
        self,
        *,
        methods: Mapping[str, Method],
        tasks: Tasks,
        work: Work,
        gate: Gate,
        health: Health,
        services: tuple[str, ...],
        options: ServerOptions,
    ) -> None:
        self._methods = methods
        self._tasks = tasks
        self._work = work
        self._gate = gate
        self._health = health
        self._services = ("", *services)
        self._options = options
        self._health.set(self._services, _NOT_SERVING)
        self._core = Core(options.channel_arguments(), self._arrived, _log_failure)
        target = f"{options.address}:{options.port}"
        self.port = self._core.bind(target)
        if not self.port:
            raise Unavailable(f"cannot listen on {target}", reason="PORT_TAKEN")
        self._thread = threading.Thread(target=self._run, name="server", daemon=True)

    def start(self) -> None:
        """Starts listening; health says NOT_SERVING."""
        self._core.start()
        self._thread.start()
        _logger.info("listening on %s:%d", self._options.address, self.port)

    def set_ready(self) -> None:
        """Starts taking calls; health says SERVING."""
        self._gate.state = State.READY
        self._health.set(self._services, _SERVING)
        _logger.info("ready")

    def report(self, part: str, *, is_serving: bool) -> None:
        """What health says of a part of the service, asked for by its name; of calls it says
        nothing."""
        self._health.set([part], _SERVING if is_serving else _NOT_SERVING)

    def drain(self) -> None:
        """Stops: returns when every accepted call is answered or the drain time is over.

        A second call does nothing.
        """
        if self._gate.state in (State.DRAINING, State.CLOSING):
            return
        _logger.info("draining")
        # A server that never took calls begins none now.
        was_ready = self._gate.state is State.READY
        self._gate.state = State.DRAINING if was_ready else State.CLOSING
        self._health.set(self._services, _NOT_SERVING)
        if was_ready:
            time.sleep(self._options.lame_duck_seconds)
        self._gate.state = State.CLOSING
        time.sleep(self._options.refusing_seconds)
        self._core.close()
        self._health.end_watches()
        self._thread.join(self._options.drain_seconds)
        if self._thread.is_alive():
            self._core.cancel()
            self._thread.join(_CANCELLED_S)
            if self._thread.is_alive():
                _logger.error("calls that were cancelled did not end: leaving them")
        _logger.info("stopped")

    def _run(self) -> None:
        while not self._core.closed:
            longest_s: float | None = IDLE_S
            try:
                longest_s = self._work.step()
            except Exception as error:
                _log_failure(error)
            late_s = self._tasks.expire()
            waits = [s for s in (longest_s, late_s, IDLE_S) if s is not None]
            self._core.poll(min(waits))

    def _arrived(self, incoming: IncomingCall) -> None:
        method = self._methods.get(incoming.method)
        if method is None:
            incoming.end(UNIMPLEMENTED, "Method not found!", ())
        else:
            method(incoming)


def build_loop_server(
    options: ServerOptions,
    registry: CollectorRegistry,
    servicers: Mapping[ServiceDescriptor, object],
    work: Work,
) -> LoopServer:
    """A server of services, each with the object whose coroutines are its methods.

    Raises ``Unavailable`` (PORT_TAKEN) when it can't listen there.
    """
    gate, tasks, health, metrics = (
        Gate(options.max_concurrent_calls),
        Tasks(),
        Health(),
        RpcMetrics(registry),
    )
    metrics.in_flight.set_function(lambda: gate.in_flight)
    names = tuple(service.full_name for service in servicers)
    methods = health.methods() | Reflection(reflected(names)).methods()
    for service, servicer in servicers.items():
        methods |= unary_methods(service, servicer, gate, metrics, options.policies, tasks)
    return LoopServer(
        methods=methods,
        tasks=tasks,
        work=work,
        gate=gate,
        health=health,
        services=names,
        options=options,
    )


def serve_loop(server: LoopServer, warm: Callable[[threading.Event], None]) -> None:
    """Starts, warms, serves until SIGTERM or SIGINT, drains. To be called in the main thread.

    ``warm`` gets the event that a signal sets, and returns when it is set.
    """
    stop = threading.Event()
    with _on_signals(stop.set):
        server.start()
        try:
            warm(stop)
            if not stop.is_set():
                keep_for_good()
                server.set_ready()
            # A signal that another thread was given wakes nobody who waits for good: handlers run
            # in the main thread, when it looks.
            while not stop.wait(_SIGNAL_LOOK_S):
                continue
        finally:
            server.drain()


@contextmanager
def _on_signals(action: Callable[[], None]) -> Iterator[None]:
    def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        action()

    before = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _log_failure(error: BaseException) -> None:
    _logger.error("the serving thread failed: %s", error, exc_info=error)
