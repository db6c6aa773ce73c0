"""A bare gRPC server whose one method answers nothing: what a call costs before any work.

``python -m benchmarks.empty_server PORT [aio]`` serves ``/benchmark.Empty/Call`` until it is ended,
from threads or on an event loop.
"""

from __future__ import annotations

import asyncio
import sys
from concurrent.futures import ThreadPoolExecutor

import grpc

METHOD = "/benchmark.Empty/Call"


class EmptyHandler(grpc.GenericRpcHandler):
    """Answers every call of ``METHOD`` with no bytes."""

    def service(
        self, handler_call_details: grpc.HandlerCallDetails
    ) -> grpc.RpcMethodHandler[bytes, bytes] | None:
        if handler_call_details.method != METHOD:
            return None
        return grpc.unary_unary_rpc_method_handler(_nothing)


def _nothing(request: bytes, context: object) -> bytes:
    del request, context
    return b""


async def _serve_on_loop(address: str) -> None:
    async def nothing(request: bytes, context: object) -> bytes:
        return _nothing(request, context)

    service, _, name = METHOD[1:].partition("/")
    handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        name: grpc.unary_unary_rpc_method_handler(nothing)
    }
    server = grpc.aio.server()
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, handlers)])
    server.add_insecure_port(address)
    await server.start()
    await server.wait_for_termination()


def main() -> None:
    """Serves until the process is ended."""
    address = f"127.0.0.1:{sys.argv[1]}"
    if sys.argv[2:] == ["aio"]:
        asyncio.run(_serve_on_loop(address))
        return
    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers([EmptyHandler()])
    server.add_insecure_port(address)
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
