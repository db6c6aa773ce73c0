"""A bare gRPC server whose one method answers nothing: what a call costs before any work.

``python -m benchmarks.empty_server PORT`` serves ``/benchmark.Empty/Call`` until it is ended.
"""

from __future__ import annotations

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


def _nothing(request: bytes, context: grpc.ServicerContext) -> bytes:
    del request, context
    return b""


def main() -> None:
    """Serves until the process is ended."""
    server = grpc.server(ThreadPoolExecutor(16))
    server.add_generic_rpc_handlers([EmptyHandler()])
    server.add_insecure_port(f"127.0.0.1:{sys.argv[1]}")
    server.start()
    server.wait_for_termination()


if __name__ == "__main__":
    main()
