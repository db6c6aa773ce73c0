"""A service in a process of its own: ``python slow_service.py sync|aio``.

Prints its port, then a line for every call it has begun. A call takes 0.3 s.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from typing import Any

from prometheus_client import CollectorRegistry

from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from services.common.server import (
    ServerOptions,
    build_aio_server,
    build_sync_server,
    serve_aio,
    serve_sync,
)

NAME = "podium.experiment.v1.ExperimentService"
CALL_S = 0.3


def _begin(request: Any) -> Any:
    sys.stdout.write(f"{request.actor.user_id}\n")
    sys.stdout.flush()
    return experiment_pb2.AssignResponse(definitions_hash=request.actor.user_id)


class _Sync(experiment_pb2_grpc.ExperimentServiceServicer):
    def Assign(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        response = _begin(request)
        time.sleep(CALL_S)
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


def _serve_sync(options: ServerOptions) -> None:
    server = build_sync_server(options, CollectorRegistry(), [NAME], _add(_Sync()))

    def warm(_stop: threading.Event) -> None:
        sys.stdout.write(f"{server.port}\n")
        sys.stdout.flush()

    serve_sync(server, warm)


if __name__ == "__main__":
    chosen = ServerOptions(drain_seconds=20)
    if sys.argv[1] == "sync":
        _serve_sync(chosen)
    else:
        asyncio.run(_serve_aio(chosen))
