"""Servers with true readiness, reflection, interceptors and a drain that loses no accepted call.

A server listens from ``start`` on, answers health checks with NOT_SERVING and calls with
UNAVAILABLE until ``set_ready``. Draining goes: NOT_SERVING, the lame-duck time, refuse, close,
finish what is in flight; the caller then closes its parts in reverse order of making them.

Servers here are on an event loop; ``services.common.serving`` has one for a service that computes.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection
from prometheus_client import CollectorRegistry

from services.common.call import CallPolicy
from services.common.errors import Unavailable
from services.common.gate import Gate, State
from services.common.health import SERVICE_NAME, AioHealth
from services.common.interceptors import AioInterceptor
from services.common.memory import keep_for_good
from services.common.telemetry import RpcMetrics

_SERVING = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServerOptions:
    """Where and how to serve. Port 0 means any free one; ``policies`` are by full method name,
    e.g. ``/podium.ranker.v1.RankerService/Rank``.

    ``refusing_seconds``: how long new calls are told UNAVAILABLE, which callers retry elsewhere,
    before the server closes: gRPC ends what it has received by then and not begun as CANCELLED.
    """

    address: str = "127.0.0.1"
    port: int = 0
    max_concurrent_calls: int = 64
    max_request_bytes: int = 4 << 20
    drain_seconds: float = 20.0
    lame_duck_seconds: float = 0.0
    refusing_seconds: float = 0.25
    policies: Mapping[str, CallPolicy] = field(default_factory=dict)

    def channel_arguments(self) -> list[tuple[str, int]]:
        """gRPC's own options. Pings of our clients' keepalive are welcome."""
        return [
            ("grpc.so_reuseport", 0),
            ("grpc.max_receive_message_length", self.max_request_bytes),
            ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
            ("grpc.keepalive_permit_without_calls", 1),
            ("grpc.keepalive_time_ms", 60_000),
            ("grpc.keepalive_timeout_ms", 20_000),
        ]


class AioServer:
    """A server on the running event loop. Made by ``build_aio_server``.

    ``draining`` is set when the server begins to stop: streams end.
    """

    def __init__(
        self,
        *,
        server: grpc.aio.Server,
        gate: Gate,
        health_servicer: AioHealth,
        services: Sequence[str],
        options: ServerOptions,
        draining: asyncio.Event,
    ) -> None:
        self.draining = draining
        self._server = server
        self._gate = gate
        self._health = health_servicer
        self._services = ("", *services)
        self._options = options
        self.port = _bind(server, options)

    async def start(self) -> None:
        """Starts listening; health says NOT_SERVING."""
        await self._set_health(_NOT_SERVING)
        await self._server.start()
        _logger.info("listening on %s:%d", self._options.address, self.port)

    async def set_ready(self) -> None:
        """Starts taking calls; health says SERVING."""
        self._gate.state = State.READY
        await self._set_health(_SERVING)
        _logger.info("ready")

    async def set_part(self, name: str, works: bool) -> None:
        """Tells of a part, under a name of its own in health checks, that the service does without
        for a while."""
        await self._health.set(name, _SERVING if works else _NOT_SERVING)

    async def drain(self) -> None:
        """Stops: returns when every accepted call is answered or the drain time is over.

        A second call does nothing.
        """
        if self._gate.state in (State.DRAINING, State.CLOSING):
            return
        _logger.info("draining")
        # A server that never took calls begins none now.
        was_ready = self._gate.state is State.READY
        self._gate.state = State.DRAINING if was_ready else State.CLOSING
        await self._health.enter_graceful_shutdown()
        if was_ready:
            await asyncio.sleep(self._options.lame_duck_seconds)
        self._gate.state = State.CLOSING
        await asyncio.sleep(self._options.refusing_seconds)
        self.draining.set()
        await self._server.stop(self._options.drain_seconds)
        _logger.info("stopped")

    async def _set_health(self, status: int) -> None:
        for service in self._services:
            await self._health.set(service, status)


def build_aio_server(
    options: ServerOptions,
    registry: CollectorRegistry,
    services: Sequence[str],
    register: Callable[[grpc.aio.Server], None],
) -> AioServer:
    """A server on the running event loop of ``services`` (full names), whose servicers ``register``
    adds.

    Raises ``Unavailable`` (PORT_TAKEN) when it can't listen there.
    """
    gate = Gate(options.max_concurrent_calls)
    draining = asyncio.Event()
    interceptor = AioInterceptor(gate, RpcMetrics(registry), options.policies, draining)
    server = grpc.aio.server(interceptors=[interceptor], options=options.channel_arguments())
    health_servicer = AioHealth(draining)
    health_pb2_grpc.add_HealthServicer_to_server(health_servicer, server)
    register(server)
    reflection.enable_server_reflection(reflected(services), server)
    return AioServer(
        server=server,
        gate=gate,
        health_servicer=health_servicer,
        services=services,
        options=options,
        draining=draining,
    )


async def serve_aio(
    server: AioServer,
    warm: Callable[[], Coroutine[object, object, None]],
    failed: Callable[[], Coroutine[object, object, None]] | None = None,
) -> bool:
    """Starts, warms, serves until SIGTERM or SIGINT, drains. To be called in the main thread; a
    signal cancels ``warm``.

    Drains, too, when ``failed`` returns: the service can't go on. False is returned then, and True
    after a signal.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    for number in signals:
        loop.add_signal_handler(number, stop.set)
    try:
        await server.start()
        try:
            warming = asyncio.create_task(warm())
            stopping = asyncio.create_task(stop.wait())
            await asyncio.wait({warming, stopping}, return_when=asyncio.FIRST_COMPLETED)
            if stop.is_set():
                warming.cancel()
                await asyncio.wait({warming})
            else:
                await warming
                keep_for_good()
                await server.set_ready()
                failing = asyncio.create_task((failed or _never)())
                await asyncio.wait({failing, stopping}, return_when=asyncio.FIRST_COMPLETED)
                failing.cancel()
            stopping.cancel()
        finally:
            await server.drain()
    finally:
        for number in signals:
            loop.remove_signal_handler(number)
    return stop.is_set()


async def _never() -> None:
    await asyncio.Event().wait()


def reflected(services: Sequence[str]) -> tuple[str, ...]:
    """What reflection lists of a server of ``services``."""
    return (*services, SERVICE_NAME, reflection.SERVICE_NAME)


def _bind(server: grpc.aio.Server, options: ServerOptions) -> int:
    target = f"{options.address}:{options.port}"
    try:
        return server.add_insecure_port(target)
    except RuntimeError as error:
        raise Unavailable(f"cannot listen on {target}", reason="PORT_TAKEN") from error
