"""The registry through the service: the life of an experiment, two replicas, the database gone."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2
from sqlalchemy import Engine

from podium.common.v1 import common_pb2
from podium.experiment.v1 import experiment_pb2, registry_pb2
from services.common.callers import Callers
from services.common.channels import open_channel
from services.common.errors import (
    FailedPrecondition,
    InvalidArgument,
    NotFound,
    PermissionDenied,
    PodiumError,
    Unavailable,
    VersionConflict,
)
from services.common.status import error_from_rpc
from services.experiment.bootstrap import REGISTRY_PART, registry_definitions
from services.experiment.registry.ports import Snapshot
from services.experiment.servicer_registry import Roles
from services.experiment.store.engine import open_engine
from services.experiment.store.sql import SqlStore
from tests.integration.experiment.conftest import Database, sqlite_database
from tests.integration.experiment.replicas import DEFINITION, Replica, Stub, create_banner
from tests.support.eventually import eventually
from tests.support.experiment_server import ExperimentServer

Start = Callable[..., Replica]


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return sqlite_database(tmp_path)


@pytest.fixture
def start(database: Database, tmp_path: Path) -> Iterator[Start]:
    with ExitStack() as stack:

        def make(name: str = "one", **settings: object) -> Replica:
            replica = Replica(database, tmp_path / name, **settings)
            stack.callback(replica.close)
            return replica

        yield make


def _error(call: Callable[[], object]) -> PodiumError:
    with pytest.raises(grpc.RpcError) as refused:
        call()
    return error_from_rpc(refused.value)


def _started(stub: Stub) -> registry_pb2.ExperimentRecord:
    create_banner(stub)
    request = registry_pb2.StartExperimentRequest(key="banner", expected_version=1)
    return stub.StartExperiment(request).experiment


def test_the_life_of_an_experiment(start: Start) -> None:
    stub = start().stub
    metadata = [("x-podium-caller", "ann")]
    created = create_banner(stub)
    assert created.state == registry_pb2.EXPERIMENT_STATE_DRAFT
    assert json.loads(created.definition_json) == DEFINITION
    key, seen = "banner", []
    started = stub.StartExperiment(
        registry_pb2.StartExperimentRequest(key=key, expected_version=1), metadata=metadata
    ).experiment
    assert started.HasField("started_at")
    ramp = registry_pb2.RampExperimentRequest(key=key, expected_version=2, coverage=1)
    ramp.steps.add(coverage=0.9).at.FromJsonString("2100-01-01T00:00:00Z")
    ramped = stub.RampExperiment(ramp, metadata=metadata).experiment
    assert json.loads(ramped.definition_json)["ramp"] == [
        {"at": "2100-01-01T00:00:00Z", "coverage": 0.9}
    ]
    changed = json.dumps(DEFINITION | {"description": "Which?", "coverage": 1})
    update = registry_pb2.UpdateExperimentRequest(
        key=key, expected_version=3, definition_json=changed
    )
    assert stub.UpdateExperiment(update).experiment.description == "Which?"
    pause = registry_pb2.PauseExperimentRequest(key=key, expected_version=4)
    seen.append(stub.PauseExperiment(pause).experiment.state)
    resume = registry_pb2.ResumeExperimentRequest(key=key, expected_version=5)
    seen.append(stub.ResumeExperiment(resume).experiment.state)
    conclude = registry_pb2.ConcludeExperimentRequest(
        key=key, expected_version=6, winner="b", roll_out=True
    )
    concluded = stub.ConcludeExperiment(conclude).experiment
    archive = registry_pb2.ArchiveExperimentRequest(key=key, expected_version=7)
    seen.append(stub.ArchiveExperiment(archive).experiment.state)
    assert seen == [
        registry_pb2.EXPERIMENT_STATE_PAUSED,
        registry_pb2.EXPERIMENT_STATE_RUNNING,
        registry_pb2.EXPERIMENT_STATE_ARCHIVED,
    ]
    assert (concluded.winner, concluded.rolled_out) == ("b", True)
    got = stub.GetExperiment(registry_pb2.GetExperimentRequest(key=key)).experiment
    assert (got.version, got.state) == (8, registry_pb2.EXPERIMENT_STATE_ARCHIVED)
    listed = registry_pb2.ListExperimentRecordsRequest()
    assert not stub.ListExperimentRecords(listed).experiments, "archived ones are asked for"
    listed.states.append(registry_pb2.EXPERIMENT_STATE_ARCHIVED)
    assert [e.key for e in stub.ListExperimentRecords(listed).experiments] == [key]
    trail = stub.ListAuditTrail(registry_pb2.ListAuditTrailRequest(key=key, page_size=6))
    assert [(e.action, e.caller) for e in trail.entries][-2:] == [("update", ""), ("ramp", "ann")]
    assert trail.next_before_number == 3


def test_definitions_in_bulk_the_switch_and_reports(start: Start) -> None:
    stub = start().stub
    file = {"flags": {"banner": {"default": 1}}, "saved_groups": {"staff": ["u1"]}}
    put = registry_pb2.PutDefinitionsRequest(definitions_json=json.dumps(file))
    put.expected_registry_version = 0
    changed = stub.PutDefinitions(put)
    assert [(name.kind, name.key) for name in changed.changed] == [
        ("saved_group", "staff"),
        ("flag", "banner"),
    ]
    got = stub.GetDefinitions(registry_pb2.GetDefinitionsRequest())
    assert (got.registry_version, json.loads(got.definitions_json)) == (1, file)
    _started(stub)
    before = start("two").variants()
    assert set(before.values()) == {"a", "b", ""}
    stub.SetKillSwitch(registry_pb2.SetKillSwitchRequest(killed=True))
    context = experiment_pb2.EvaluationContext(units={"user": "u"})
    request = experiment_pb2.AssignRequest(context=context)
    killed = common_pb2.ASSIGNMENT_REASON_KILLED
    eventually(lambda: stub.Assign(request).assignments[0].reason == killed, "the kill switch")
    asked = registry_pb2.GetReportRequest(experiment_key="banner")
    none = _error(lambda: stub.GetReport(asked))
    assert isinstance(none, NotFound)
    assert none.reason == "NO_REPORT"
    report = registry_pb2.PutReportRequest(experiment_key="banner", json="{}", html="<p>")
    stored = stub.PutReport(report).report
    assert stub.GetReport(asked).report == stored
    listed = stub.ListReports(registry_pb2.ListReportsRequest(experiment_key="banner"))
    assert [*listed.reports] == [stored]


class _SlowStore(SqlStore):
    """Takes long to read everything while ``free`` is not set."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(engine)
        self.free = threading.Event()
        self.free.set()

    def snapshot(self, unless_version: int | None = None) -> Snapshot | None:
        found = super().snapshot(unless_version)
        if found is not None:
            assert self.free.wait(30)
        return found


def test_the_kill_switch_answers_before_all_is_read_anew(
    database: Database, tmp_path: Path
) -> None:
    store = _SlowStore(open_engine(database.url))
    callers = Callers({}, trust_metadata=True)
    roles = Roles(callers, may_edit=lambda _: True, may_report=lambda _: True)
    definitions = registry_definitions(store, tmp_path / "one", None, roles)
    server = ExperimentServer(definitions=definitions)
    try:
        with open_channel(server.target, retries=False) as channel:
            stub = Stub(channel)
            _started(stub)
            store.free.clear()
            request = registry_pb2.SetKillSwitchRequest(killed=True)
            assert stub.SetKillSwitch(request, timeout=20).registry_version == 3
            told = experiment_pb2.AssignRequest(
                context=experiment_pb2.EvaluationContext(units={"user": "u"})
            )
            killed = common_pb2.ASSIGNMENT_REASON_KILLED
            assert stub.Assign(told).assignments[0].reason != killed
            store.free.set()
            eventually(lambda: stub.Assign(told).assignments[0].reason == killed, "the switch")
    finally:
        store.free.set()
        server.close()
        definitions.close()


def test_wrong_requests_and_versions_that_have_passed(start: Start) -> None:
    stub = start().stub
    _started(stub)
    stale = registry_pb2.UpdateExperimentRequest(
        key="banner", expected_version=1, definition_json=json.dumps(DEFINITION | {"coverage": 1})
    )
    passed = _error(lambda: stub.UpdateExperiment(stale))
    assert isinstance(passed, VersionConflict)
    assert passed.version == 2
    archive = registry_pb2.ArchiveExperimentRequest(key="banner", expected_version=2)
    assert _error(lambda: stub.ArchiveExperiment(archive)).reason == "ILLEGAL_TRANSITION"
    unknown = registry_pb2.GetExperimentRequest(key="nothing")
    assert isinstance(_error(lambda: stub.GetExperiment(unknown)), NotFound)
    ramp = registry_pb2.RampExperimentRequest(key="banner", expected_version=2, coverage=1.5)
    for call, field in (
        (lambda: stub.RampExperiment(ramp), "coverage"),
        (lambda: stub.PauseExperiment(registry_pb2.PauseExperimentRequest(key="b")), "expected"),
        (lambda: stub.CreateExperiment(registry_pb2.CreateExperimentRequest()), "key"),
        (lambda: stub.SetKillSwitch(registry_pb2.SetKillSwitchRequest()), "killed"),
        (
            lambda: stub.PutReport(
                registry_pb2.PutReportRequest(experiment_key="banner", json="{}", html="\0")
            ),
            "html",
        ),
        (
            lambda: stub.ListExperimentRecords(
                registry_pb2.ListExperimentRecordsRequest(states=[77])  # type: ignore[list-item]
            ),
            "states[0]",
        ),
    ):
        wrong = _error(call)
        assert isinstance(wrong, InvalidArgument)
        assert wrong.violations[0].field.startswith(field)


def test_who_may_change_what(start: Start) -> None:
    token, report_token = "t" * 16, "r" * 16
    stub = start(
        experiment_editors="ann, bob",
        experiment_reporters="job",
        experiment_tokens=f"ann:{token},job:{report_token}",
        environment="prod",
    ).stub
    for metadata in ({}, {"x-podium-caller": "bob"}, {"authorization": f"Bearer {report_token}"}):
        refused = _error(lambda metadata=metadata: create_banner(stub, **metadata))  # type: ignore[misc]
        assert isinstance(refused, PermissionDenied)
        assert refused.reason == "NOT_AN_EDITOR"
    assert create_banner(stub, authorization=f"Bearer {token}").version == 1
    (entry,) = stub.ListAuditTrail(registry_pb2.ListAuditTrailRequest()).entries
    assert entry.caller == "ann"
    report = registry_pb2.PutReportRequest(experiment_key="banner", json="{}")
    assert isinstance(_error(lambda: stub.PutReport(report)), PermissionDenied)
    job = [("authorization", f"Bearer {report_token}")]
    assert stub.PutReport(report, metadata=job).report.caller == "job"


def test_definitions_of_a_file_are_not_changed_here(tmp_path: Path) -> None:
    path = tmp_path / "experiments.yaml"
    path.write_text("experiments: {}\n")
    server = ExperimentServer(path)
    with open_channel(server.target) as channel:
        grpc.channel_ready_future(channel).result(timeout=30)
        refused = _error(lambda: create_banner(Stub(channel)))
    server.close()
    assert isinstance(refused, FailedPrecondition)
    assert refused.reason == "DEFINITIONS_FROM_FILE"


def test_replicas_agree_and_go_on_without_the_database(start: Start, database: Database) -> None:
    one, two = start("one"), start("two")
    _started(one.stub)
    before = one.variants()
    assert set(before.values()) == {"a", "b", ""}
    eventually(lambda: two.variants() == before, "the other replica to follow")
    ramp = registry_pb2.RampExperimentRequest(key="banner", expected_version=2, coverage=0.8)
    ramp.steps.add(coverage=1).at.FromJsonString("2100-01-01T00:00:00Z")
    one.stub.RampExperiment(ramp)
    ramped = one.variants()
    assert ramped != before
    eventually(lambda: two.variants() == ramped, "the ramp on the other replica")
    assert two.gauge("podium_experiment_registry_up") == 1
    serving = health_pb2.HealthCheckResponse.SERVING
    assert two.health(REGISTRY_PART) == two.health("") == serving

    database.take_away()
    eventually(lambda: two.gauge("podium_experiment_registry_up") == 0, "the fault to be seen")
    assert two.variants() == ramped
    assert two.health(REGISTRY_PART) == health_pb2.HealthCheckResponse.NOT_SERVING
    assert two.health("") == serving
    watch = two.stub.WatchExperiments(experiment_pb2.WatchExperimentsRequest())
    steps = [next(watch) for _ in range(3)]
    assert [step.WhichOneof("step") for step in steps] == [
        "reset",
        "snapshot_chunk",
        "snapshot_end",
    ]
    watch.cancel()
    gone = _error(lambda: two.stub.GetExperiment(registry_pb2.GetExperimentRequest(key="banner")))
    assert isinstance(gone, Unavailable)
    assert (gone.reason, gone.retry_after_ms) == ("REGISTRY_UNAVAILABLE", 1_000)

    two.close()
    again = start("two")
    assert again.variants() == ramped, "a replica that starts mid-ramp without the database"
    assert (again.gauge("podium_experiment_definitions_age_seconds") or 0) > 0
    database.bring_back()
    eventually(lambda: again.gauge("podium_experiment_registry_up") == 1, "the database to be seen")
    assert again.variants() == ramped


def test_a_registry_that_was_lost_does_not_empty_what_is_in_force(
    start: Start, database: Database
) -> None:
    one = start()
    _started(one.stub)
    before = one.variants()
    one.close()
    database.take_away()
    Path(database.url.removeprefix("sqlite:///")).rmdir()
    again = start()
    assert again.variants() == before
    assert again.gauge("podium_experiment_registry_up") == 0
