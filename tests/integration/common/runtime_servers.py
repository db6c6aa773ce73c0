"""Small real servers for the tests of the shared runtime."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from podium.common.v1 import common_pb2
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.call import CallPolicy, current_call
from services.common.server import ServerOptions, build_aio_server
from services.common.serving.promise import Promise
from services.common.serving.server import NoWork, build_loop_server

EXPERIMENT = "podium.experiment.v1.ExperimentService"
FEATURE = "podium.feature.v1.FeatureService"
ASSIGN = f"/{EXPERIMENT}/Assign"
POLICIES = {ASSIGN: CallPolicy(default_deadline_ms=400, max_deadline_ms=900)}

Behaviour = Callable[[experiment_pb2.AssignRequest], object]


@dataclass
class Script:
    """What ``Assign`` does; ``remaining_s`` keeps the deadline it saw."""

    behaviour: Behaviour = lambda _: None
    remaining_s: list[float | None] = field(default_factory=list)

    def answer(self, request: experiment_pb2.AssignRequest) -> experiment_pb2.AssignResponse:
        call = current_call()
        assert call is not None
        self.remaining_s.append(call.remaining_s())
        self.behaviour(request)
        return experiment_pb2.AssignResponse(definitions_hash=call.request_id)


class _LoopServicer:
    def __init__(self, script: Script) -> None:
        self._script = script

    async def Assign(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        if request.actor.device_id == "slow":
            await Promise[None]().wait_until(None)
        return self._script.answer(request)


class _AioServicer(experiment_pb2_grpc.ExperimentServiceServicer):
    def __init__(self, script: Script) -> None:
        self._script = script

    async def Assign(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        # Slow scripts must not block the loop, or no deadline could be kept.
        if request.actor.device_id == "slow":
            await asyncio.sleep(30)
        return self._script.answer(request)


class _WatchServicer(feature_pb2_grpc.FeatureServiceServicer):
    async def WatchEntities(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        yield feature_pb2.WatchEntitiesResponse(heartbeat=feature_pb2.WatchHeartbeat())
        await asyncio.sleep(3600)


@dataclass
class Running:
    """A started server: ``ready()`` makes it SERVING, ``drain()`` stops it."""

    port: int
    registry: CollectorRegistry
    ready: Callable[[], None]
    drain: Callable[[], None]

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"


@contextmanager
def loop_server(script: Script, options: ServerOptions) -> Iterator[Running]:
    registry = CollectorRegistry()
    service = experiment_pb2.DESCRIPTOR.services_by_name["ExperimentService"]
    server = build_loop_server(options, registry, {service: _LoopServicer(script)}, NoWork())
    server.start()
    try:
        yield Running(server.port, registry, server.set_ready, server.drain)
    finally:
        server.drain()


@contextmanager
def aio_server(script: Script, options: ServerOptions) -> Iterator[Running]:
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def wait(coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(timeout=30)

    registry = CollectorRegistry()

    def register(server: grpc.aio.Server) -> None:
        experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(_AioServicer(script), server)
        feature_pb2_grpc.add_FeatureServiceServicer_to_server(_WatchServicer(), server)

    async def build() -> Any:
        server = build_aio_server(options, registry, [EXPERIMENT, FEATURE], register)
        await server.start()
        return server

    server = wait(build())
    try:
        yield Running(
            server.port,
            registry,
            lambda: wait(server.set_ready()),
            lambda: wait(server.drain()),
        )
    finally:
        wait(server.drain())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def request(user: str = "u", device: str = "") -> experiment_pb2.AssignRequest:
    return experiment_pb2.AssignRequest(actor=common_pb2.Actor(user_id=user, device_id=device))
