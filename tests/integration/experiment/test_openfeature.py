"""OpenFeature's own Python SDK and flagd provider, in a process of theirs, against the service; and
both versions of flagd's interface as other languages' providers call them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf import json_format

from podium.common.v1 import common_pb2
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from podium.flagd.evaluation.v1 import evaluation_pb2 as v1
from podium.flagd.evaluation.v1 import evaluation_pb2_grpc as v1_grpc
from podium.flagd.evaluation.v2 import evaluation_pb2 as v2
from podium.flagd.evaluation.v2 import evaluation_pb2_grpc as v2_grpc
from services.common.convert_limits import require_assignment
from services.common.domain import load_domain
from services.common.status import error_from_rpc
from tests.support.experiment_server import ExperimentServer
from tests.support.fake_features import FakeFeatureServer, FakeFeatureService

ROOT = Path(__file__).parents[3]
DEFINITIONS = """\
experiments:
  layout:
    unit: user
    salt: layout_1
    running: true
    revision: 3
    condition: {plan: pro}
    variants: {a: {weight: 0.5}, b: {weight: 0.5}}
  price:
    unit: user
    salt: price_1
    running: true
    revision: 1
    variants: {kept: {weight: 0.5}, cut: {weight: 0.5, value: {percent: 20, until: [1, 2]}}}
  stopped:
    {unit: user, salt: s, running: false, revision: 1, variants: {a: {weight: 1}}}
flags:
  banner: {default: false, rules: [{id: paying, condition: {plan: pro}, value: true}]}
  title: {default: Learn live}
  rows: {default: 3}
  ratio: {default: 0.25}
  theme: {default: {dark: true, levels: [1, 2.5, null]}}
  nothing: {default: null}
  list: {default: [1]}
  trial:
    default: 0
    rules:
      - experiment:
          key: trial_days
          unit: user
          salt: trial_1
          running: true
          revision: 2
          variants: {week: {weight: 0.5, value: 7}, month: {weight: 0.5, value: 30}}
"""
PRO = {"plan": "pro"}
THEME = {"dark": True, "levels": [1, 2.5, None]}

Ask = Callable[..., Any]


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("openfeature") / "experiments.yaml"
    path.write_text(DEFINITIONS, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def server(path: Path) -> Iterator[ExperimentServer]:
    server = ExperimentServer(path)
    yield server
    server.close()


@pytest.fixture(scope="module")
def features() -> FakeFeatureService:
    """Where exposures go."""
    domain = load_domain(ROOT / "config" / "live_courses.yaml")
    return FakeFeatureService(domain, {}, {})


@pytest.fixture(scope="module")
def ask(server: ExperimentServer, features: FakeFeatureService) -> Iterator[Ask]:
    """Asks the SDK in its own process."""
    feature_server = FakeFeatureServer(features)
    client = "tests.support.openfeature_client"
    process = subprocess.Popen(
        [sys.executable, "-m", client, str(server.port), feature_server.target],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout
    assert json.loads(stdout.readline()) == "ready"

    def asked(*question: object) -> Any:
        stdin.write(json.dumps(question) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())

    yield asked
    stdin.close()
    assert process.wait(30) == 0
    stdout.close()
    feature_server.close()


@pytest.fixture(scope="module")
def channel(server: ExperimentServer) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.target) as channel:
        yield channel


@pytest.mark.parametrize(
    ("kind", "key", "default", "attributes", "expected"),
    [
        ("boolean", "banner", False, PRO, (True, "paying", "TARGETING_MATCH")),
        ("boolean", "banner", True, {}, (False, "default", "DEFAULT")),
        ("string", "title", "", {}, ("Learn live", "default", "DEFAULT")),
        ("integer", "rows", 0, {}, (3, "default", "DEFAULT")),
        ("float", "ratio", 0.0, {}, (0.25, "default", "DEFAULT")),
        ("float", "rows", 0.0, {}, (3.0, "default", "DEFAULT")),
        ("object", "theme", {}, {}, (THEME, "default", "DEFAULT")),
        # No value is no reason for a zero or an empty text: the caller's default counts.
        ("string", "nothing", "mine", {}, ("mine", None, "DEFAULT")),
        ("integer", "nothing", 7, {}, (7, None, "DEFAULT")),
        ("object", "nothing", {"a": 1}, {}, ({"a": 1}, None, "DEFAULT")),
        ("string", "layout", "mine", {}, ("mine", None, "DEFAULT")),
        ("string", "stopped", "mine", {}, ("mine", None, "DISABLED")),
    ],
)
def test_values_of_every_type(
    ask: Ask, kind: str, key: str, default: object, attributes: dict[str, str], expected: object
) -> None:
    found = ask(kind, key, default, "ann", attributes)
    assert (found["value"], found["variant"], found["reason"]) == expected
    assert found["error_code"] is None


@pytest.mark.parametrize(
    ("kind", "key", "default", "code"),
    [
        ("boolean", "title", True, "TYPE_MISMATCH"),
        ("string", "banner", "mine", "TYPE_MISMATCH"),
        ("integer", "ratio", 7, "TYPE_MISMATCH"),
        ("float", "banner", 0.5, "TYPE_MISMATCH"),
        ("object", "list", {"a": 1}, "TYPE_MISMATCH"),
        ("boolean", "nowhere", True, "FLAG_NOT_FOUND"),
    ],
)
def test_the_callers_default_where_there_is_no_such_value(
    ask: Ask, kind: str, key: str, default: object, code: str
) -> None:
    found = ask(kind, key, default, "ann", {})
    assert (found["value"], found["reason"], found["error_code"]) == (default, "ERROR", code)


def test_an_experiment_has_the_variant_that_assign_gives(ask: Ask, channel: grpc.Channel) -> None:
    stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
    seen = set()
    for number in range(12):
        user = f"user-{number}"
        request = experiment_pb2.AssignRequest(
            actor=common_pb2.Actor(user_id=user), context={"attributes": PRO}
        )
        arms = {a.experiment_key: a.variant_key for a in stub.Assign(request).assignments}
        layout = ask("string", "layout", "", user, PRO)
        assert (layout["value"], layout["variant"]) == (arms["layout"], arms["layout"])
        trial = ask("integer", "trial", 0, user, PRO)
        assert (trial["value"], trial["variant"]) == (
            {"week": 7, "month": 30}[arms["trial_days"]],
            arms["trial_days"],
        )
        assert layout["reason"] == trial["reason"] == "SPLIT"
        price = ask("object", "price", {"percent": 0}, user, PRO)
        # A variant without a value leaves what the code does as it is.
        cut = {"percent": 20, "until": [1, 2]}
        assert price["value"] == (cut if arms["price"] == "cut" else {"percent": 0})
        seen |= {layout["value"], trial["value"], arms["price"]}
    assert seen == {"a", "b", 7, 30, "kept", "cut"}


def test_the_documented_hook_tells_of_exposures(ask: Ask, features: FakeFeatureService) -> None:
    features.ingested.clear()
    found = ask("string", "layout", "", "ann", PRO)
    for key in ("layout", "stopped", "title", "nowhere"):
        ask("string", key, "", "ann", {})
    (event,) = features.ingested
    require_assignment("assignment", event.exposure.assignment)
    assert (event.type, event.actor.user_id) == ("exposure", "ann")
    assert event.exposure.assignment.experiment_key == "layout"
    assert event.exposure.assignment.variant_key == found["variant"]
    assert event.event_id
    assert event.HasField("event_time")


def test_metadata_is_what_an_exposure_needs(channel: grpc.Channel) -> None:
    stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
    told = stub.Assign(experiment_pb2.AssignRequest(actor=common_pb2.Actor(user_id="ann")))
    (assigned,) = [a for a in told.assignments if a.experiment_key == "trial_days"]
    request = v2.ResolveIntRequest(flag_key="trial", context={"targetingKey": "ann"})
    found = v2_grpc.ServiceStub(channel).ResolveInt(request)
    assert json_format.MessageToDict(found.metadata) == {
        "experiment_key": "trial_days",
        "variant_key": assigned.variant_key,
        "bucket": assigned.bucket,
        "unit_type": "user",
        "revision": 2,
        "assignment_reason": "SPLIT",
        "definitions_hash": told.definitions_hash,
    }


def test_version_1_can_not_say_that_there_is_no_value(channel: grpc.Channel) -> None:
    first, second = v1_grpc.ServiceStub(channel), v2_grpc.ServiceStub(channel)
    context = {"targetingKey": "ann", "plan": "pro"}
    found = first.ResolveBoolean(v1.ResolveBooleanRequest(flag_key="banner", context=context))
    assert (found.value, found.variant, found.reason) == (True, "paying", "TARGETING_MATCH")
    assert not second.ResolveString(v2.ResolveStringRequest(flag_key="layout")).HasField("value")
    with pytest.raises(grpc.RpcError) as none:
        first.ResolveString(v1.ResolveStringRequest(flag_key="layout"))
    assert none.value.code() is grpc.StatusCode.NOT_FOUND
    assert "MISSING_UNIT" in none.value.details()


def test_all_at_once_is_what_each_has(channel: grpc.Channel) -> None:
    context = {"targetingKey": "ann", "plan": "pro"}
    first, second = v1_grpc.ServiceStub(channel), v2_grpc.ServiceStub(channel)
    found = second.ResolveAll(v2.ResolveAllRequest(context=context))
    same = first.ResolveAll(v1.ResolveAllRequest(context=context))
    assert json_format.MessageToDict(found) == json_format.MessageToDict(same)
    assert {"banner", "title", "rows", "ratio", "theme", "layout", "trial"} <= set(found.flags)
    assert not {"nothing", "list", "stopped"} & set(found.flags)
    rows = second.ResolveFloat(v2.ResolveFloatRequest(flag_key="rows", context=context))
    assert found.flags["rows"].double_value == rows.value
    assert found.flags["rows"].metadata == rows.metadata
    assert found.flags["theme"].object_value["dark"] is True


@pytest.mark.parametrize(
    ("request_", "field"),
    [
        (v2.ResolveStringRequest(), "flag_key"),
        (v2.ResolveStringRequest(flag_key="x" * 257), "256"),
        (v2.ResolveStringRequest(flag_key="title", context={"targetingKey": "é" * 65}), "130"),
        (v2.ResolveStringRequest(flag_key="title", context={"targetingKey": [1]}), "targetingKey"),
        (v2.ResolveStringRequest(flag_key="title", context={"device": {}}), "context.device"),
        (v2.ResolveStringRequest(flag_key="title", context={"a": "x" * 1_025}), "context.a"),
        (
            v2.ResolveStringRequest(flag_key="title", context={str(n): n for n in range(65)}),
            "0 to 64",
        ),
    ],
)
def test_wrong_requests(
    channel: grpc.Channel, request_: v2.ResolveStringRequest, field: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        v2_grpc.ServiceStub(channel).ResolveString(request_)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_from_rpc(refused.value).reason == "INVALID_ARGUMENT"
    assert field in refused.value.details()


def test_a_change_is_told_and_nothing_old_is_kept(ask: Ask, path: Path) -> None:
    assert ask("string", "title", "", "ann", {})["value"] == "Learn live"
    path.write_text(DEFINITIONS.replace("Learn live", "Teach live"), encoding="utf-8")
    assert ask("changed", "title")
    found = ask("string", "title", "", "ann", {})
    assert (found["value"], found["reason"]) == ("Teach live", "DEFAULT")
