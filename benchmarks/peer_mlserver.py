"""MLServer with the ranker's graph, for ``benchmarks.peers``; runs in MLServer's environment.

    python -m benchmarks.peer_mlserver serve GRAPH SETTINGS GRPC_PORT HTTP_PORT METRICS_PORT
    python -m benchmarks.peer_mlserver encode CALLS.npz REQUESTS.npy
    python -m benchmarks.peer_mlserver decode ANSWER VALUES.npy

Calls are inference.GRPCInferenceService/ModelInfer with raw_input_contents. SETTINGS is JSON:
max_batch_size, max_batch_time, parallel_workers.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile

import numpy as np
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.grpc import dataplane_pb2
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse
from mlserver.utils import install_uvloop_event_loop

from benchmarks.peer_model import OBJECTIVES, ROWS, Scorer, encode_or_decode

NAME = "ranker"


class Ranker(MLModel):
    """The graph as MLServer's inference runtime. Merged calls are scored together."""

    async def load(self) -> bool:
        self._scorer = Scorer(self.settings.parameters.uri)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        tensors = {one.name: NumpyCodec.decode_input(one) for one in payload.inputs}
        scores = self._scorer.score(tensors["user_vector"], tensors["item_vector"])
        return InferenceResponse(
            model_name=self.name, outputs=[NumpyCodec.encode_output("output", scores)]
        )


def main() -> None:
    """Serves until the process is ended, or converts."""
    if sys.argv[1] != "serve":
        encode_or_decode(_encode, _decode)
        return
    graph, settings = sys.argv[2], json.loads(sys.argv[3])
    install_uvloop_event_loop()
    with tempfile.TemporaryDirectory(prefix="mlserver-") as metrics:
        asyncio.run(_serve(graph, settings, metrics, *map(int, sys.argv[4:7])))


async def _serve(
    graph: str,
    settings: dict[str, float],
    metrics: str,
    grpc_port: int,
    http_port: int,
    metrics_port: int,
) -> None:
    server = MLServer(
        Settings(
            host="127.0.0.1",
            grpc_port=grpc_port,
            http_port=http_port,
            metrics_port=metrics_port,
            metrics_dir=metrics,
            debug=False,
            parallel_workers=settings["parallel_workers"],
        )
    )
    model = ModelSettings(
        name=NAME,
        implementation=f"{__spec__.name}.{Ranker.__name__}",
        parameters=ModelParameters(uri=graph),
        max_batch_size=settings["max_batch_size"],
        max_batch_time=settings["max_batch_time"],
    )
    await server.start([model])


def _encode(user: np.ndarray, items: np.ndarray) -> bytes:
    # A merged answer is split by the rows of the last tensor: the items come last.
    tensors = {"user_vector": user, "item_vector": items}
    request = dataplane_pb2.ModelInferRequest(model_name=NAME)
    for name, tensor in tensors.items():
        request.inputs.add(name=name, datatype="FP32", shape=tensor.shape)
        request.raw_input_contents.append(tensor.astype("<f4").tobytes())
    return request.SerializeToString()


def _decode(answer: bytes) -> np.ndarray:
    response = dataplane_pb2.ModelInferResponse.FromString(answer)
    return np.frombuffer(response.raw_output_contents[0], "<f4").reshape(ROWS, OBJECTIVES)


if __name__ == "__main__":
    main()
