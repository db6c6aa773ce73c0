"""The experiment service as a real process: assignment, listing, limits, readiness, exit."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from podium.common.v1 import common_pb2
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from services.common.assign.assign import bucket_of
from services.common.channels import open_channel
from services.common.status import error_from_rpc
from services.experiment.convert_assigning import batch_assignments

ROOT = Path(__file__).parents[3]


def _ended(service: str, **changes: str) -> str:
    """The one error line of a service that can't start."""
    ended = subprocess.run(
        [sys.executable, "-m", f"services.{service}"],
        cwd=ROOT,
        env=_environment(**changes),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 2
    assert "Traceback" not in ended.stderr
    (line,) = [x for x in ended.stderr.splitlines() if x.startswith("error: ")]
    return line


def _environment(**changes: str) -> dict[str, str]:
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PODIUM_")}
    return kept | {"PODIUM_EXPERIMENT_PORT": "0", "PODIUM_EXPERIMENT_METRICS_PORT": "0"} | changes


@dataclass
class _Service:
    target: str
    metrics_port: int
    process: subprocess.Popen[str]


@pytest.fixture(scope="module")
def service() -> Iterator[_Service]:
    process = subprocess.Popen(
        [sys.executable, "-m", "services.experiment"],
        cwd=ROOT,
        env=_environment(),
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    found: dict[str, int] = {}
    for line in process.stderr:
        if match := re.search(r'"message": "(.*) on [\d.]+:(\d+)"', line):
            found[match.group(1)] = int(match.group(2))
        if '"message": "ready"' in line:
            break
    yield _Service(f"127.0.0.1:{found['listening']}", found["metrics"], process)
    process.send_signal(signal.SIGTERM)
    rest = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=30) == 0
    assert '"message": "stopped"' in rest
    assert "Traceback" not in rest


@pytest.fixture
def stub(service: _Service) -> Iterator[experiment_pb2_grpc.ExperimentServiceStub]:
    with open_channel(service.target) as channel:
        yield experiment_pb2_grpc.ExperimentServiceStub(channel)


Stub = experiment_pb2_grpc.ExperimentServiceStub


def _request(user: str = "", device: str = "", **fields: object) -> experiment_pb2.AssignRequest:
    actor = common_pb2.Actor(user_id=user, device_id=device)
    return experiment_pb2.AssignRequest(actor=actor, **fields)  # type: ignore[arg-type]


def test_assigns_by_the_definitions(stub: Stub) -> None:
    seen = set()
    for number in range(50):
        response = stub.Assign(_request(f"user-{number}"))
        (assignment,) = response.assignments
        bucket = bucket_of("ranking_weights_1", f"user-{number}")
        assert assignment.bucket == bucket
        assert assignment.variant_key == ("control" if bucket < 0.5 else "engagement")
        assert assignment.reason == common_pb2.ASSIGNMENT_REASON_SPLIT
        assert (assignment.unit_type, assignment.revision) == ("user", 2)
        assert response == stub.Assign(_request(f"user-{number}"))
        seen.add(assignment.variant_key)
    assert seen == {"control", "engagement"}


def test_a_batch_is_answered_as_its_units_alone(stub: Stub) -> None:
    users = [f"user-{number}" for number in range(40)]
    units = [experiment_pb2.BatchUnit(actor=common_pb2.Actor(user_id=user)) for user in users]
    response = stub.AssignBatch(experiment_pb2.AssignBatchRequest(units=units))
    alone = [list(stub.Assign(_request(user)).assignments) for user in users]
    assert batch_assignments(response.assignments) == alone


def test_a_visitor_without_a_user_id(stub: Stub) -> None:
    (assignment,) = stub.Assign(_request(device="d")).assignments
    assert assignment.reason == common_pb2.ASSIGNMENT_REASON_MISSING_UNIT
    assert not assignment.HasField("bucket")


def test_forcing(stub: Stub) -> None:
    forced = {"ranking_weights": "engagement"}
    (assignment,) = stub.Assign(_request("u", forced_variants=forced)).assignments
    assert assignment.variant_key == "engagement"
    assert assignment.reason == common_pb2.ASSIGNMENT_REASON_FORCED


def test_lists_what_is_in_force(stub: Stub) -> None:
    response = stub.ListExperiments(experiment_pb2.ListExperimentsRequest())
    (experiment,) = response.experiments
    assert (experiment.key, experiment.unit_type, experiment.running) == (
        "ranking_weights",
        "user",
        True,
    )
    assert [(v.key, v.weight) for v in experiment.variants] == [
        ("control", 0.5),
        ("engagement", 0.5),
    ]
    assert dict(experiment.variants[1].objective_weights) == {"watch": 0.4, "interact": 0.3}
    assert json.loads(experiment.canonical_json)["salt"] == "ranking_weights_1"
    assert response.definitions_hash == stub.Assign(_request("u")).definitions_hash


@pytest.mark.parametrize(
    ("request_", "code", "reason", "text"),
    [
        (_request(), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "actor"),
        (
            _request("device:1"),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_ARGUMENT",
            "actor.user_id",
        ),
        (_request("u" * 129), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "128"),
        (_request("é" * 65), grpc.StatusCode.INVALID_ARGUMENT, "INVALID_ARGUMENT", "130 bytes"),
        (
            _request("u", experiment_keys=["x"] * 101),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_ARGUMENT",
            "0 to 100",
        ),
        (
            _request("u", experiment_keys=["nothing"]),
            grpc.StatusCode.NOT_FOUND,
            "UNKNOWN_EXPERIMENT",
            "nothing",
        ),
        (
            _request("u", forced_variants={"ranking_weights": "nothing"}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "UNKNOWN_VARIANT",
            "control, engagement",
        ),
        (
            _request("u", forced_variants={str(n): "x" for n in range(17)}),
            grpc.StatusCode.INVALID_ARGUMENT,
            "INVALID_ARGUMENT",
            "0 to 16",
        ),
    ],
)
def test_wrong_requests(
    stub: Stub,
    request_: experiment_pb2.AssignRequest,
    code: grpc.StatusCode,
    reason: str,
    text: str,
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        stub.Assign(request_)
    assert refused.value.code() is code
    assert error_from_rpc(refused.value).reason == reason
    assert text in refused.value.details()


def test_health_and_metrics(service: _Service, stub: Stub) -> None:
    stub.Assign(_request("u"))
    with open_channel(service.target) as channel:
        asked = health_pb2.HealthCheckRequest(service="podium.experiment.v1.ExperimentService")
        status = health_pb2_grpc.HealthStub(channel).Check(asked).status
    assert status == health_pb2.HealthCheckResponse.SERVING
    url = f"http://127.0.0.1:{service.metrics_port}/metrics"
    with urllib.request.urlopen(url, timeout=10) as response:
        text = response.read().decode()
    method = "/podium.experiment.v1.ExperimentService/Assign"
    assert f'podium_rpc_handled_total{{code="OK",method="{method}"}}' in text
    assert "process_resident_memory_bytes" in text


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"PODIUM_DOMAIN_FILE": "nowhere.yaml"}, "nowhere.yaml"),
        ({"PODIUM_EXPERIMENT_PORT": "many"}, "PODIUM_EXPERIMENT_PORT"),
        ({"PODIUM_BIND_ADDRESS": "192.0.2.1"}, "192.0.2.1"),
    ],
)
def test_a_wrong_setting_ends_in_one_clear_line(changes: dict[str, str], text: str) -> None:
    assert text in _ended("experiment", **changes)


@pytest.mark.parametrize(
    ("service", "setting"),
    [
        ("feature", "PODIUM_LOG_DIR"),
        ("feature", "PODIUM_STORE_DIR"),
        ("ranker", "PODIUM_SPOOL_DIR"),
        ("ranker", "PODIUM_CAPTURE_DIR"),
    ],
)
def test_a_directory_that_can_not_be_used_ends_in_one_clear_line(
    tmp_path: Path, service: str, setting: str
) -> None:
    names = ("PODIUM_LOG_DIR", "PODIUM_STORE_DIR", "PODIUM_SPOOL_DIR", "PODIUM_CAPTURE_DIR")
    ports = {f"PODIUM_{service.upper()}_{kind}": "0" for kind in ("PORT", "METRICS_PORT")}
    directories = {name: str(tmp_path / name) for name in names}
    (tmp_path / setting).write_text("a file")
    assert setting in _ended(service, **ports, **directories)
