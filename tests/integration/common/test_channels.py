"""Client channels: what is repeated, what is balanced, and errors without details."""

from __future__ import annotations

import threading

import grpc
import pytest

from podium.experiment.v1 import experiment_pb2_grpc
from services.common.channels import open_channel
from services.common.errors import (
    DeadlinePassed,
    InvalidArgument,
    PodiumError,
    Unavailable,
)
from services.common.server import ServerOptions
from services.common.status import error_from_rpc
from tests.integration.common.runtime_servers import Script, loop_server, request


class _Failing:
    """Fails the first ``times`` calls."""

    def __init__(self, times: int, error: PodiumError) -> None:
        self.calls = 0
        self._times = times
        self._error = error

    def __call__(self, _request: object) -> None:
        self.calls += 1
        if self.calls <= self._times:
            raise self._error


@pytest.mark.parametrize(
    ("retries", "times", "calls", "succeeds"),
    [(True, 2, 3, True), (True, 3, 3, False), (False, 1, 1, False)],
)
def test_unavailable_is_tried_three_times(
    retries: bool, times: int, calls: int, succeeds: bool
) -> None:
    failing = _Failing(times, Unavailable("not now"))
    with loop_server(Script(failing), ServerOptions()) as running:
        running.ready()
        with open_channel(running.target, retries=retries) as channel:
            stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
            if succeeds:
                assert stub.Assign(request()).definitions_hash
            else:
                with pytest.raises(grpc.RpcError) as failed:
                    stub.Assign(request())
                assert failed.value.code() is grpc.StatusCode.UNAVAILABLE
    assert failing.calls == calls


def test_a_server_that_stays_down_is_not_tried_again_and_again() -> None:
    failing = _Failing(1_000, Unavailable("down"))
    calls = 20
    with loop_server(Script(failing), ServerOptions()) as running:
        running.ready()
        with open_channel(running.target) as channel:
            stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
            for _ in range(calls):
                with pytest.raises(grpc.RpcError):
                    stub.Assign(request())
    assert calls < failing.calls < 2 * calls


def test_a_wrong_request_is_not_repeated() -> None:
    failing = _Failing(1, InvalidArgument("no"))
    with loop_server(Script(failing), ServerOptions()) as running:
        running.ready()
        with open_channel(running.target) as channel, pytest.raises(grpc.RpcError):
            experiment_pb2_grpc.ExperimentServiceStub(channel).Assign(request())
    assert failing.calls == 1


def test_calls_are_spread_over_servers() -> None:
    first, second = Script(), Script()
    with (
        loop_server(first, ServerOptions()) as one,
        loop_server(second, ServerOptions()) as two,
    ):
        one.ready()
        two.ready()
        target = f"ipv4:{one.target},{two.target}"
        with open_channel(target) as channel:
            stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
            for _ in range(500):
                stub.Assign(request(), wait_for_ready=True)
                if first.remaining_s and second.remaining_s:
                    break
    assert first.remaining_s
    assert second.remaining_s


def test_errors_without_details_follow_their_code() -> None:
    given_up = threading.Event()
    with loop_server(Script(lambda _: given_up.wait(10)), ServerOptions()) as running:
        running.ready()
        with open_channel(running.target, retries=False) as channel:
            with pytest.raises(grpc.RpcError) as late:
                experiment_pb2_grpc.ExperimentServiceStub(channel).Assign(request(), timeout=0.05)
            given_up.set()
            assert isinstance(error_from_rpc(late.value), DeadlinePassed)
            with pytest.raises(grpc.RpcError) as unknown:
                channel.unary_unary("/podium.experiment.v1.ExperimentService/Nothing")(b"")
            error = error_from_rpc(unknown.value)
            assert type(error) is PodiumError
            assert error.reason == "UNIMPLEMENTED"
    with open_channel("127.0.0.1:1", retries=False) as channel:
        with pytest.raises(grpc.RpcError) as down:
            experiment_pb2_grpc.ExperimentServiceStub(channel).Assign(request())
        assert isinstance(error_from_rpc(down.value), Unavailable)
