"""A service in a process of its own: ``python slow_service.py loop|aio``.

Prints its port, then a line for every call it has begun. A call takes 0.3 s. A line of input gives
SIGTERM to a thread beside the main one.
"""

from __future__ import annotations

import asyncio
import heapq
import signal
import sys
import threading
import time
from typing import Any

from prometheus_client import CollectorRegistry

from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from services.common.server import ServerOptions, build_aio_server, serve_aio
from services.common.serving.promise import Promise
from services.common.serving.server import build_loop_server, serve_loop

NAME = "podium.experiment.v1.ExperimentService"
CALL_S = 0.3


def _begin(request: Any) -> Any:
    sys.stdout.write(f"{request.actor.user_id}\n")
    sys.stdout.flush()
    return experiment_pb2.AssignResponse(definitions_hash=request.actor.user_id)


class _Later:
    """Work that keeps promises when it is time."""

    def __init__(self) -> None:
        self._due: list[tuple[float, int, Promise[None]]] = []

    def after(self, seconds: float) -> Promise[None]:
        promise: Promise[None] = Promise()
        heapq.heappush(self._due, (time.monotonic() + seconds, id(promise), promise))
        return promise

    def step(self) -> float | None:
        while self._due and self._due[0][0] <= time.monotonic():
            heapq.heappop(self._due)[2].answer(None)
        return max(0.0, self._due[0][0] - time.monotonic()) if self._due else None


class _Loop:
    def __init__(self, later: _Later) -> None:
        self._later = later

    async def Assign(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        response = _begin(request)
        await self._later.after(CALL_S).wait_until(None)
        return response


class _Aio(experiment_pb2_grpc.ExperimentServiceServicer):
    async def Assign(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        response = _begin(request)
        await asyncio.sleep(CALL_S)
        return response


def _add(servicer: Any) -> Any:
    return lambda server: experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(
        servicer, server
    )


async def _serve_aio(options: ServerOptions) -> None:
    server = build_aio_server(options, CollectorRegistry(), [NAME], _add(_Aio()))

    async def warm() -> None:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()

    await serve_aio(server, warm)


def _serve_loop(options: ServerOptions) -> None:
    service, later = experiment_pb2.DESCRIPTOR.services_by_name["ExperimentService"], _Later()
    server = build_loop_server(options, CollectorRegistry(), {service: _Loop(later)}, later)

    def warm(_stop: threading.Event) -> None:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()

    serve_loop(server, warm)


def _signal_myself() -> None:
    if sys.stdin.readline():
        signal.pthread_kill(threading.get_ident(), signal.SIGTERM)


if __name__ == "__main__":
    threading.Thread(target=_signal_myself, daemon=True).start()
    chosen = ServerOptions(drain_seconds=20)
    if sys.argv[1] == "loop":
        _serve_loop(chosen)
    else:
        asyncio.run(_serve_aio(chosen))
