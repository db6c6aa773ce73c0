"""Only pseudonyms are ever written: three real services, and every byte that they left anywhere."""

from __future__ import annotations

import base64
import os
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import grpc
import pytest

from cli.demo.processes import free_port
from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from podium.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from services.common.channels import open_channel
from services.common.domain import load_domain
from services.common.event_log import read_log
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.feature.definitions import compile_views
from tests.e2e.conftest import ROOT
from tests.support.eventually import eventually
from tests.support.live_world import little_catalogue
from tests.support.tiny_bundle import make_tiny_bundle

SERVICES = ("feature", "experiment", "ranker")
USER, DEVICE, OTHER_DEVICE = "raw-user-77cb1", "raw-device-77cb2", "raw-device-77cb3"
EXPERIMENTS = """\
experiments:
  of_visitors:
    {unit: user, salt: s1, running: true, revision: 1, sticky: {fallback_unit: device},
     variants: {control: {weight: 0.5}, other: {weight: 0.5}}}
  of_hosts:
    {unit: host, salt: s2, running: true, revision: 1,
     variants: {control: {weight: 0.5}, other: {weight: 0.5}}}
  of_pairs:
    {unit: user, other_unit: host, salt: s3, running: true, revision: 1,
     variants: {control: {weight: 0.5}, other: {weight: 0.5}}}
"""
FORMS = [
    form
    for raw in (USER, DEVICE, OTHER_DEVICE)
    for form in (raw.encode(), raw.encode("utf-16-le"), base64.b64encode(raw.encode())[:-4])
]


def _event(
    kind: str, event_id: str, actor: common_pb2.Actor | None, course: str
) -> event_pb2.Event:
    event = event_pb2.Event(event_id=event_id, type=kind, actor=actor)
    event.event_time.FromMilliseconds(time.time_ns() // 1_000_000)
    event.entities.add(type="course", id=course)
    return event


def _course(number: int) -> event_pb2.Event:
    event = _event("entity_upsert", f"course-{number}", None, f"course_{number}")
    attributes = event.entity_upsert.attributes
    attributes["title"].string_value = f"Course {number}"
    attributes["host_id"].string_value = f"host_{number % 6}"
    event.entity_upsert.seats_left = 5
    return event


@contextmanager
def _service(name: str, settings: dict[str, str], directory: Path) -> Iterator[None]:
    """The service as a process whose working directory and output lie in ``directory`` too."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("PODIUM_")}
    work = directory / "work" / name
    work.mkdir(parents=True)
    with (directory / f"{name}.output").open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", f"services.{name}"],
            cwd=work,
            env=kept | {"PYTHONPATH": str(ROOT), "PODIUM_LOG_LEVEL": "DEBUG"} | settings,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            code = process.wait(60)
    assert code == 0, (directory / f"{name}.output").read_text()


def _served(call: Callable[[], object], message: str) -> None:
    """Waits until a service answers at all."""

    def answered() -> bool:
        try:
            call()
        except grpc.RpcError:
            return False
        return True

    eventually(answered, message, 60)


def test_no_service_writes_a_raw_id_anywhere(tmp_path: Path) -> None:
    domain_file = ROOT / "config" / "live_courses.yaml"
    domain = load_domain(domain_file)
    written = tmp_path / "written"
    bundles = tmp_path / "bundles"
    indexed = {"course": little_catalogue()["course"], "host": little_catalogue()["host"]}
    make_tiny_bundle(bundles, domain, indexed, seed=1)
    ports = {name: free_port() for name in SERVICES}
    metrics_ports = {name: free_port() for name in SERVICES}
    experiments_file = tmp_path / "experiments.yaml"
    experiments_file.write_text(EXPERIMENTS, encoding="utf-8")
    settings = {
        "PODIUM_DOMAIN_FILE": str(domain_file),
        "PODIUM_EXPERIMENTS_FILE": str(experiments_file),
        "PODIUM_BUNDLES_DIR": str(bundles),
        "PODIUM_FEATURE_TARGET": f"127.0.0.1:{ports['feature']}",
        "PODIUM_CATALOGUE_SAVE_SECONDS": "0.05",
        "PODIUM_CAPTURE_DIR": str(written / "captures"),
        "PODIUM_CAPTURE_SHARE": "1",
    }
    for name in SERVICES:
        settings[f"PODIUM_{name.upper()}_PORT"] = str(ports[name])
        settings[f"PODIUM_{name.upper()}_METRICS_PORT"] = str(metrics_ports[name])
    for name in ("log", "store", "spool", "replica"):
        settings[f"PODIUM_{name.upper()}_DIR"] = str(written / name)
    written.mkdir()

    with ExitStack() as stack:
        for name in SERVICES:
            stack.enter_context(_service(name, settings, written))
        channels = {
            name: stack.enter_context(open_channel(f"127.0.0.1:{port}"))
            for name, port in ports.items()
        }
        features = feature_pb2_grpc.FeatureServiceStub(channels["feature"])
        ranker = ranker_pb2_grpc.RankerServiceStub(channels["ranker"])
        experiments = experiment_pb2_grpc.ExperimentServiceStub(channels["experiment"])

        def ingest(*events: event_pb2.Event) -> feature_pb2.IngestResponse:
            return features.Ingest(feature_pb2.IngestRequest(events=events), timeout=20)

        _served(lambda: ingest(_course(0)), "the feature service")
        ingest(*(_course(number) for number in range(10)))
        both = common_pb2.Actor(user_id=USER, device_id=DEVICE)
        alone = common_pb2.Actor(device_id=OTHER_DEVICE)
        clicks = [
            _event("click", "of-both", both, "course_1"),
            _event("click", "of-user", common_pb2.Actor(user_id=USER), "course_2"),
            _event("click", "of-device", alone, "course_3"),
            _event("unheard_of", "of-no-known-type", both, "course_3"),
        ]
        assert ingest(*clicks).accepted == 4
        # What is refused is told of; that must not go into an output either.
        conflict = _event("click", "of-both", alone, "course_9")
        wrong = _event("purchase", "no-purchase", both, "course_1")
        device_like = _event("click", "d", common_pb2.Actor(user_id=f"device:{USER}"), "course_1")
        assert len(ingest(conflict, wrong, device_like).rejections) == 3
        view = compile_views(domain)["user"]
        wanted = feature_pb2.GetFeaturesRequest(
            entity_type="user",
            ids=[USER, f"device:{OTHER_DEVICE}"],
            view_name=view.name,
            view_hash=view.hash,
        )
        row = view.names("int64").index("user_clicks_7d")

        def clicked() -> bool:
            block = features.GetFeatures(wanted, timeout=20).block
            width = len(block.int_features)
            numbers = memoryview(block.int_values).cast("q")
            return [numbers[row], numbers[width + row]] == [2, 1]

        eventually(clicked, "clicks of both")
        with pytest.raises(grpc.RpcError, match="view"):
            features.GetFeatures(
                feature_pb2.GetFeaturesRequest(entity_type="user", ids=[USER], view_name="no view"),
                timeout=20,
            )

        def rank(actor: common_pb2.Actor, surface: str = "courses") -> ranker_pb2.RankResponse:
            return ranker.Rank(ranker_pb2.RankRequest(actor=actor, surface=surface), timeout=20)

        _served(lambda: rank(both), "the ranker")
        slates = {rank(actor).rank_id for actor in (both, alone)}
        with pytest.raises(grpc.RpcError, match="surface"):
            rank(both, "no surface")
        for actor in (both, alone):
            experiments.Assign(experiment_pb2.AssignRequest(actor=actor), timeout=20)
        with pytest.raises(grpc.RpcError, match="no-such-key"):
            experiments.Assign(
                experiment_pb2.AssignRequest(actor=both, experiment_keys=["no-such-key"]),
                timeout=20,
            )

        def logged(kind: str) -> set[str]:
            events = [
                event_pb2.LoggedEvent.FromString(payload).event
                for _, payload in read_log(written / "log")
            ]
            return {event.rank_id for event in events if event.type == kind}

        eventually(
            lambda: (
                slates <= logged("slate_served")
                and slates & logged("exposure")
                # Of the user, and of the device alone.
                and len(logged("sticky_assigned")) == 2
            ),
            "slates, exposures and kept variants in the log",
        )
        metrics = [
            urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20).read()
            for port in metrics_ports.values()
        ]

    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    held = {path.relative_to(tmp_path).as_posix(): path.read_bytes() for path in files}
    names = Pseudonymiser.from_text(DEVELOPMENT_KEYS)
    captured = [data for name, data in held.items() if name.startswith("written/captures/")]
    for raw in (USER, DEVICE, OTHER_DEVICE):
        for where in (held.values(), captured):
            assert any(names.encrypt(raw).encode() in data for data in where), raw
    outputs = ("feature.output", "ranker.output")
    for part in ("log/", "store/", "spool/", "captures/", "replica/", *outputs):
        assert any(name.startswith(f"written/{part}") and held[name] for name in held), part
    for form in FORMS:
        assert not [name for name, data in held.items() if form in data]
        assert not [name for name in held if form in name.encode()]
        assert not [text for text in metrics if form in text]
