"""A server on one thread: what happens while the thread is busy is there when it looks again."""

from __future__ import annotations

import threading
from typing import Any

import grpc
from prometheus_client import CollectorRegistry

from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from services.common.server import ServerOptions
from services.common.serving.promise import Promise
from services.common.serving.server import NoWork, build_loop_server
from tests.support.eventually import eventually

CALLS = 400
"""More events than the thread takes in a row, at three or four a call."""


class _Stalled:
    """Work that takes until it is let go."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.busy = threading.Event()

    def step(self) -> float | None:
        self.busy.set()
        self.go_on.wait()
        return None


class _Echo:
    async def Assign(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        return experiment_pb2.AssignResponse(definitions_hash=request.actor.user_id)


def test_every_call_that_came_while_the_thread_was_busy_is_answered() -> None:
    work = _Stalled()
    service = experiment_pb2.DESCRIPTOR.services_by_name["ExperimentService"]
    options = ServerOptions(max_concurrent_calls=CALLS, refusing_seconds=0.0)
    server = build_loop_server(options, CollectorRegistry(), {service: _Echo()}, work)
    server.start()
    server.set_ready()
    eventually(work.busy.is_set)
    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
        calls = []
        for number in range(CALLS):
            request = experiment_pb2.AssignRequest()
            request.actor.user_id = f"user-{number}"
            calls.append(stub.Assign.future(request, timeout=20))
        work.go_on.set()
        assert [call.result().definitions_hash for call in calls] == [
            f"user-{number}" for number in range(CALLS)
        ]
    # Nothing of them is left open: a drain need not wait for its time.
    server.drain()


class _Waits:
    """Has no answer yet."""

    def __init__(self) -> None:
        self.asked = threading.Semaphore(0)

    async def Assign(self, _request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        self.asked.release()
        return await Promise[Any]().wait_until(None)


def test_a_caller_that_goes_away_is_counted_as_such_and_not_as_late() -> None:
    service = experiment_pb2.DESCRIPTOR.services_by_name["ExperimentService"]
    registry, waits = CollectorRegistry(), _Waits()
    options = ServerOptions(refusing_seconds=0.0)
    server = build_loop_server(options, registry, {service: waits}, NoWork())
    server.start()
    server.set_ready()

    def counted(code: str) -> float:
        labels = {"method": f"/{service.full_name}/Assign", "code": code}
        return registry.get_sample_value("podium_rpc_handled_total", labels) or 0.0

    with grpc.insecure_channel(f"127.0.0.1:{server.port}") as channel:
        stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
        call = stub.Assign.future(experiment_pb2.AssignRequest(), timeout=60)
        assert waits.asked.acquire(timeout=20)
        call.cancel()
        eventually(lambda: counted("CANCELLED"), "the caller's leaving")
        late = stub.Assign.future(experiment_pb2.AssignRequest(), timeout=0.2)
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        eventually(lambda: counted("DEADLINE_EXCEEDED"), "the deadline")
    assert (counted("CANCELLED"), counted("DEADLINE_EXCEEDED")) == (1, 1)
    server.drain()
