"""Ray Serve with the ranker's graph, for ``benchmarks.peers``; runs in Ray's environment.

    python -m benchmarks.peer_ray serve GRAPH SETTINGS GRPC_PORT HTTP_PORT
    python -m benchmarks.peer_ray encode CALLS.npz REQUESTS.npy
    python -m benchmarks.peer_ray decode ANSWER VALUES.npy

Calls are benchmark.Ranker/Score through Serve's gRPC proxy: a google.protobuf.BytesValue holds the
user's vector and then the items', float32; the answer's holds the probabilities. SETTINGS is JSON:
max_batch_size, batch_wait_timeout_s, max_ongoing_requests, num_cpus.
"""

from __future__ import annotations

import json
import signal
import sys
import tempfile
import threading

import grpc
import numpy as np
import ray
from google.protobuf.wrappers_pb2 import BytesValue
from ray import serve
from ray.serve.config import HTTPOptions, gRPCOptions

from benchmarks.peer_model import DIM, OBJECTIVES, ROWS, Scorer, encode_or_decode

SERVICE = "benchmark.Ranker"


def add_servicer(servicer: object, server: grpc.Server) -> None:
    """What protoc's plugin would have made of the service; the proxy imports it."""
    score = grpc.unary_unary_rpc_method_handler(
        servicer.Score,
        request_deserializer=BytesValue.FromString,
        response_serializer=BytesValue.SerializeToString,
    )
    handler = grpc.method_handlers_generic_handler(SERVICE, {"Score": score})
    server.add_generic_rpc_handlers((handler,))


def deployment(settings: dict[str, float]) -> serve.Deployment:
    """The graph as a deployment of one replica, batched by Serve."""

    @serve.deployment(
        num_replicas=1,
        max_ongoing_requests=settings["max_ongoing_requests"],
        logging_config={"enable_access_log": False, "log_level": "WARNING"},
    )
    class Ranker:
        def __init__(self, graph: str) -> None:
            self._scorer = Scorer(graph)

        @serve.batch(
            max_batch_size=settings["max_batch_size"],
            batch_wait_timeout_s=settings["batch_wait_timeout_s"],
        )
        async def _score(self, requests: list[BytesValue]) -> list[BytesValue]:
            rows = [np.frombuffer(one.value, "<f4").reshape(1 + ROWS, DIM) for one in requests]
            users = np.stack([one[0] for one in rows])
            items = np.concatenate([one[1:] for one in rows])
            scores = self._scorer.score(users, items).reshape(len(rows), -1)
            return [BytesValue(value=one.tobytes()) for one in scores]

        async def Score(self, request: BytesValue) -> BytesValue:  # noqa: N802
            return await self._score(request)

    return Ranker


def main() -> None:
    """Serves until the process is ended, or converts."""
    if sys.argv[1] != "serve":
        encode_or_decode(_encode, _decode)
        return
    graph, settings = sys.argv[2], json.loads(sys.argv[3])
    grpc_port, http_port = map(int, sys.argv[4:6])
    with tempfile.TemporaryDirectory(prefix="ray-", ignore_cleanup_errors=True) as sessions:
        _serve(graph, settings, grpc_port, http_port, sessions)


def _serve(
    graph: str, settings: dict[str, float], grpc_port: int, http_port: int, sessions: str
) -> None:
    ray.init(
        _temp_dir=sessions,
        num_cpus=settings["num_cpus"],
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=256 << 20,
    )
    serve.start(
        http_options=HTTPOptions(host="127.0.0.1", port=http_port),
        grpc_options=gRPCOptions(
            port=grpc_port, grpc_servicer_functions=[f"{__spec__.name}.add_servicer"]
        ),
    )
    serve.run(deployment(settings).bind(graph), name="ranker")
    # After Ray's own handler, which would end this process with a trace.
    ended = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: ended.set())
    ended.wait()
    serve.shutdown()
    ray.shutdown()


def _encode(user: np.ndarray, items: np.ndarray) -> bytes:
    block = np.concatenate([user, items]).astype("<f4")
    return BytesValue(value=block.tobytes()).SerializeToString()


def _decode(answer: bytes) -> np.ndarray:
    return np.frombuffer(BytesValue.FromString(answer).value, "<f4").reshape(ROWS, OBJECTIVES)


if __name__ == "__main__":
    main()
