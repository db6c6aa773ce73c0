"""The shared runtime through real servers: statuses, readiness, deadlines, ids, metrics, drain."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import grpc
import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc
from prometheus_client import generate_latest

from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.call import CallPolicy
from services.common.channels import open_channel
from services.common.errors import (
    AlreadyExists,
    BundleError,
    ConfigError,
    DeadlinePassed,
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    PodiumError,
    Unavailable,
    UnknownFeatureView,
    VersionConflict,
)
from services.common.server import ServerOptions
from services.common.status import STATUS_TABLE, error_from_rpc
from tests.integration.common.runtime_servers import (
    ASSIGN,
    EXPERIMENT,
    POLICIES,
    Running,
    Script,
    aio_server,
    loop_server,
    request,
)
from tests.support.eventually import eventually

Start = Callable[[Script, ServerOptions], AbstractContextManager[Running]]
OPTIONS = ServerOptions(policies=POLICIES, max_concurrent_calls=2, drain_seconds=10)


@pytest.fixture(params=[loop_server, aio_server], ids=["loop", "aio"], scope="module")
def start(request: pytest.FixtureRequest) -> Start:
    chosen: Start = request.param
    return chosen


@pytest.fixture(scope="module")
def script() -> Script:
    return Script()


@pytest.fixture(scope="module")
def shared(start: Start, script: Script) -> Iterator[Running]:
    with start(script, OPTIONS) as running:
        running.ready()
        yield running


@pytest.fixture
def server(shared: Running, script: Script) -> Running:
    script.behaviour = lambda _: None
    script.remaining_s.clear()
    return shared


@pytest.fixture
def stub(server: Running) -> Iterator[experiment_pb2_grpc.ExperimentServiceStub]:
    with open_channel(server.target, retries=False) as channel:
        yield experiment_pb2_grpc.ExperimentServiceStub(channel)


def _raise(error: Exception) -> Callable[[object], None]:
    def behaviour(request: object) -> None:
        raise error

    return behaviour


def _details(error: grpc.RpcError) -> list[AnyMessage]:
    trailers = dict(error.trailing_metadata())
    return list(status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details)


def _info(error: grpc.RpcError) -> error_details_pb2.ErrorInfo:
    info = error_details_pb2.ErrorInfo()
    assert _details(error)[0].Unpack(info)
    return info


ROWS = [
    (InvalidArgument.field("k", "is 0"), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT"),
    (NotFound("no such surface", reason="UNKNOWN_SURFACE"), grpc.StatusCode.NOT_FOUND, None),
    (AlreadyExists("there"), grpc.StatusCode.ALREADY_EXISTS, "ALREADY_EXISTS"),
    (PermissionDenied("not you"), grpc.StatusCode.PERMISSION_DENIED, "PERMISSION_DENIED"),
    (UnknownFeatureView("which?"), grpc.StatusCode.FAILED_PRECONDITION, "UNKNOWN_FEATURE_VIEW"),
    (FailedPrecondition("not so"), grpc.StatusCode.FAILED_PRECONDITION, "FAILED_PRECONDITION"),
    (VersionConflict("meanwhile", version=7), grpc.StatusCode.ABORTED, "VERSION_CONFLICT"),
    (Overloaded("full", retry_after_ms=70), grpc.StatusCode.RESOURCE_EXHAUSTED, "OVERLOADED"),
    (DeadlinePassed("late"), grpc.StatusCode.DEADLINE_EXCEEDED, "DEADLINE_PASSED"),
    (Unavailable("down"), grpc.StatusCode.UNAVAILABLE, "UNAVAILABLE"),
    (BundleError("bad file"), grpc.StatusCode.FAILED_PRECONDITION, "BUNDLE_ERROR"),
    (ConfigError("f.yaml", 3, "x", "secret"), grpc.StatusCode.INTERNAL, "CONFIG_ERROR"),
    (PodiumError("secret"), grpc.StatusCode.INTERNAL, "PODIUM_ERROR"),
    (ValueError("secret"), grpc.StatusCode.INTERNAL, "INTERNAL"),
]


def test_the_rows_cover_the_table() -> None:
    assert [type(error) for error, _, _ in ROWS[:-1]] == [kind for kind, _ in STATUS_TABLE]


@pytest.mark.parametrize(("error", "code", "reason"), ROWS, ids=lambda row: type(row).__name__)
def test_every_error_has_its_status(
    stub: experiment_pb2_grpc.ExperimentServiceStub,
    script: Script,
    error: Exception,
    code: grpc.StatusCode,
    reason: str | None,
) -> None:
    script.behaviour = _raise(error)
    with pytest.raises(grpc.RpcError) as failed:
        stub.Assign(request())
    assert failed.value.code() is code
    info = _info(failed.value)
    assert (info.domain, info.reason) == ("podium", reason or "UNKNOWN_SURFACE")
    assert "secret" not in failed.value.details()
    back = error_from_rpc(failed.value)
    assert back.reason == info.reason
    if code is not grpc.StatusCode.INTERNAL and not isinstance(error, BundleError):
        assert type(back) is type(error)


def test_wrong_fields_are_listed(
    stub: experiment_pb2_grpc.ExperimentServiceStub, script: Script
) -> None:
    script.behaviour = _raise(InvalidArgument.field("k", "is 0, must be 1 to 200"))
    with pytest.raises(grpc.RpcError) as failed:
        stub.Assign(request())
    fields = error_details_pb2.BadRequest()
    assert _details(failed.value)[1].Unpack(fields)
    assert [(v.field, v.description) for v in fields.field_violations] == [
        ("k", "is 0, must be 1 to 200")
    ]
    back = error_from_rpc(failed.value)
    assert isinstance(back, InvalidArgument)
    assert back.violations[0].field == "k"


@pytest.mark.parametrize(
    "error", [Overloaded("full", retry_after_ms=70), Unavailable("down", retry_after_ms=70)]
)
def test_an_error_tells_when_to_come_back(
    stub: experiment_pb2_grpc.ExperimentServiceStub,
    script: Script,
    error: Overloaded | Unavailable,
) -> None:
    script.behaviour = _raise(error)
    with pytest.raises(grpc.RpcError) as failed:
        stub.Assign(request())
    retry = error_details_pb2.RetryInfo()
    assert _details(failed.value)[1].Unpack(retry)
    assert retry.retry_delay.ToMilliseconds() == 70
    assert dict(failed.value.trailing_metadata())["grpc-retry-pushback-ms"] == "70"


@pytest.mark.parametrize(
    "payload",
    [b"\xff\xff\xff", b"\x0a\x03\x0a\x01\xff", b"\x0a\x7f"],
    ids=["garbage", "bad UTF-8", "truncated"],
)
def test_bytes_that_are_no_request(server: Running, payload: bytes) -> None:
    with open_channel(server.target, retries=False) as channel:
        call = channel.unary_unary(ASSIGN)
        with pytest.raises(grpc.RpcError) as failed:
            call(payload)
        assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert _info(failed.value).reason == "UNDECODABLE_REQUEST"
        assert call(request().SerializeToString())


def test_undecodable_bytes_on_a_stream() -> None:
    with aio_server(Script(), OPTIONS) as running:
        running.ready()
        with open_channel(running.target, retries=False) as channel:
            call = channel.unary_stream("/podium.feature.v1.FeatureService/WatchEntities")
            with pytest.raises(grpc.RpcError) as failed:
                list(call(b"\xff\xff\xff"))
    assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_huge_request_is_refused_and_the_service_goes_on(
    stub: experiment_pb2_grpc.ExperimentServiceStub,
) -> None:
    with pytest.raises(grpc.RpcError) as failed:
        stub.Assign(request("u" * 10_000_000))
    assert failed.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert stub.Assign(request()).definitions_hash


def test_the_deadline_has_a_default_and_a_cap(
    stub: experiment_pb2_grpc.ExperimentServiceStub, script: Script
) -> None:
    stub.Assign(request())
    stub.Assign(request(), timeout=100)
    stub.Assign(request(), timeout=0.3)
    default, capped, asked = script.remaining_s
    assert 0 < (default or 0) <= 0.4
    assert 0.4 < (capped or 0) <= 0.9
    assert 0 < (asked or 0) <= 0.35


def test_a_late_answer_is_deadline_exceeded(server: Running) -> None:
    with open_channel(server.target, retries=False) as channel:
        stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
        with pytest.raises(grpc.RpcError) as failed:
            stub.Assign(request("u", "slow"))
    assert failed.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert _info(failed.value).reason == "DEADLINE_PASSED"


def test_the_request_id_comes_back(
    stub: experiment_pb2_grpc.ExperimentServiceStub, script: Script
) -> None:
    _, call = stub.Assign.with_call(request(), metadata=[("x-request-id", "mine-1")])
    assert dict(call.trailing_metadata())["x-request-id"] == "mine-1"
    answer, call = stub.Assign.with_call(request(), metadata=[("x-request-id", "not ok " * 40)])
    made = dict(call.trailing_metadata())["x-request-id"]
    assert made == answer.definitions_hash
    assert len(made) == 32
    script.behaviour = _raise(NotFound("nothing"))
    with pytest.raises(grpc.RpcError) as failed:
        stub.Assign(request(), metadata=[("x-request-id", "mine-2")])
    assert dict(failed.value.trailing_metadata())["x-request-id"] == "mine-2"


def _count(server: Running, code: str) -> float:
    labels = {"method": ASSIGN, "code": code}
    return server.registry.get_sample_value("podium_rpc_handled_total", labels) or 0.0


def test_calls_are_counted(
    server: Running, stub: experiment_pb2_grpc.ExperimentServiceStub, script: Script
) -> None:
    before_ok, before_missing = _count(server, "OK"), _count(server, "NOT_FOUND")
    stub.Assign(request())
    stub.Assign(request())
    script.behaviour = _raise(NotFound("nothing"))
    with pytest.raises(grpc.RpcError):
        stub.Assign(request())
    assert _count(server, "OK") == before_ok + 2
    assert _count(server, "NOT_FOUND") == before_missing + 1
    assert server.registry.get_sample_value("podium_rpc_in_flight") == 0
    assert b"podium_rpc_duration_seconds_bucket" in generate_latest(server.registry)


def test_reflection_lists_the_services(server: Running) -> None:
    with open_channel(server.target) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        asked = reflection_pb2.ServerReflectionRequest(list_services="")
        answer = next(iter(stub.ServerReflectionInfo(iter([asked]))))
    names = {service.name for service in answer.list_services_response.service}
    assert {EXPERIMENT, "grpc.health.v1.Health"} <= names


def test_no_call_is_lost_of_many_that_come_while_the_thread_works() -> None:
    held, entered = threading.Event(), threading.Event()

    def hold(asked: experiment_pb2.AssignRequest) -> None:
        if asked.actor.user_id == "first":
            entered.set()
            held.wait(20)

    policies = {ASSIGN: CallPolicy(30_000, 30_000)}
    options = ServerOptions(policies=policies, max_concurrent_calls=1_000, drain_seconds=60)
    with loop_server(Script(hold), options) as running:
        running.ready()
        with open_channel(running.target, retries=False) as channel:
            stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
            calls = [stub.Assign.future(request("first"))]
            assert entered.wait(20)
            calls += [stub.Assign.future(request()) for _ in range(400)]
            held.set()
            assert all(call.result(timeout=20).definitions_hash for call in calls)


def test_readiness_is_true(start: Start) -> None:
    with (
        start(Script(), OPTIONS) as running,
        open_channel(running.target, retries=False) as channel,
    ):
        health = health_pb2_grpc.HealthStub(channel)
        stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
        for service in ("", EXPERIMENT):
            asked = health_pb2.HealthCheckRequest(service=service)
            assert health.Check(asked).status == health_pb2.HealthCheckResponse.NOT_SERVING
        with pytest.raises(grpc.RpcError) as refused:
            stub.Assign(request())
        assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
        assert _info(refused.value).reason == "NOT_READY"
        running.ready()
        for service in ("", EXPERIMENT):
            asked = health_pb2.HealthCheckRequest(service=service)
            assert health.Check(asked).status == health_pb2.HealthCheckResponse.SERVING
        assert stub.Assign(request()).definitions_hash


def test_a_drain_ends_streams() -> None:
    with aio_server(Script(), ServerOptions(drain_seconds=60)) as running:
        running.ready()
        with open_channel(running.target, retries=False) as channel:
            stub = feature_pb2_grpc.FeatureServiceStub(channel)
            stream = stub.WatchEntities(feature_pb2.WatchEntitiesRequest())
            assert next(stream).HasField("heartbeat")
            running.drain()
            with pytest.raises(grpc.RpcError) as ended:
                next(stream)
    assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
    assert _info(ended.value).reason == "DRAINING"


def test_a_drain_ends_health_watches(start: Start) -> None:
    statuses = health_pb2.HealthCheckResponse
    options = ServerOptions(drain_seconds=120)
    with start(Script(), options) as running, open_channel(running.target) as channel:
        running.ready()
        watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
        assert next(watch).status == statuses.SERVING
        running.drain()
        seen = [answer.status for answer in watch]
    # A watch that ends in time need not have told why.
    assert seen in ([statuses.NOT_SERVING], [])
    assert watch.code() is grpc.StatusCode.OK


def test_capacity_is_bounded_and_an_abandoned_call_gives_its_place_back(start: Start) -> None:
    policies = {ASSIGN: CallPolicy(30_000, 30_000)}
    options = ServerOptions(policies=policies, max_concurrent_calls=2)
    with start(Script(), options) as running:
        running.ready()

        def in_flight() -> float | None:
            return running.registry.get_sample_value("podium_rpc_in_flight")

        with open_channel(running.target, retries=False) as channel:
            stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
            held = [stub.Assign.future(request("u", "slow")) for _ in range(2)]
            eventually(lambda: in_flight() == 2)
            with pytest.raises(grpc.RpcError) as refused:
                stub.Assign(request())
            assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert _info(refused.value).reason == "OVERLOADED"
            for call in held:
                call.cancel()
            eventually(lambda: in_flight() == 0)
            assert stub.Assign(request()).definitions_hash
        # On a loop of its own a call whose caller went is one that came too late.
        eventually(lambda: _count(running, "CANCELLED") + _count(running, "DEADLINE_EXCEEDED") == 2)


def test_a_lame_duck_still_takes_calls(start: Start) -> None:
    statuses = health_pb2.HealthCheckResponse
    options = ServerOptions(lame_duck_seconds=2)
    with (
        start(Script(), options) as running,
        open_channel(running.target, retries=False) as channel,
    ):
        running.ready()
        health = health_pb2_grpc.HealthStub(channel)
        stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
        drain = threading.Thread(target=running.drain)
        drain.start()
        asked = health_pb2.HealthCheckRequest()
        eventually(lambda: health.Check(asked).status == statuses.NOT_SERVING)
        assert stub.Assign(request()).definitions_hash
        drain.join()
        with pytest.raises(grpc.RpcError) as gone:
            stub.Assign(request())
        assert gone.value.code() is grpc.StatusCode.UNAVAILABLE


def test_before_it_closes_a_server_tells_callers_to_go_elsewhere(start: Start) -> None:
    options = ServerOptions(refusing_seconds=2)
    with (
        start(Script(), options) as running,
        open_channel(running.target, retries=False) as channel,
    ):
        running.ready()
        stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
        assert stub.Assign(request())
        drain = threading.Thread(target=running.drain)
        drain.start()

        def told() -> str:
            error = stub.Assign.future(request()).exception()
            return _info(error).reason if error is not None else ""

        eventually(lambda: told() == "DRAINING")
        drain.join()
