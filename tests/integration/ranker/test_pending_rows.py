"""Rows of users that are under way: who waits for them goes on when the call has ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from podium.feature.v1 import feature_pb2
from services.common.errors import Unavailable
from services.ranker.feature_client import FeatureClient
from services.ranker.feature_rows import View

LONG_S = 60.0


class HeldBack:
    """Answers once ``go`` is set, with ``code`` where there is one."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.code: grpc.StatusCode | None = None

    def answer(self, request: bytes, context: grpc.ServicerContext) -> bytes:
        del request
        self.go.wait(LONG_S)
        if self.code is not None:
            context.abort(self.code, "not now")
        return feature_pb2.GetFeaturesResponse(log_position=7).SerializeToString()


@pytest.fixture
def held_back() -> Iterator[tuple[HeldBack, FeatureClient]]:
    servicer = HeldBack()
    server = grpc.server(ThreadPoolExecutor(1))
    methods: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
        "GetFeatures": grpc.unary_unary_rpc_method_handler(servicer.answer)
    }
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("podium.feature.v1.FeatureService", methods)]
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        yield servicer, FeatureClient(channel)
    servicer.go.set()
    server.stop(None).wait()


def test_who_waits_goes_on_when_the_rows_are_there(
    held_back: tuple[HeldBack, FeatureClient],
) -> None:
    servicer, client = held_back
    pending = client.start(View("users", "hash", ()), [], LONG_S)
    assert not pending.ready(0.0)
    assert not pending.ready(0.001)
    servicer.go.set()
    assert pending.ready(LONG_S)
    assert pending.ready(0.0)
    assert pending.result().log_position == 7


def test_a_call_that_failed_has_ended_too(held_back: tuple[HeldBack, FeatureClient]) -> None:
    servicer, client = held_back
    servicer.code = grpc.StatusCode.UNAVAILABLE
    servicer.go.set()
    pending = client.start(View("users", "hash", ()), [], LONG_S)
    assert pending.ready(LONG_S)
    with pytest.raises(Unavailable):
        pending.result()
