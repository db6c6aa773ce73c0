"""A ranker over a fake feature service, both real gRPC servers in this process."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from services.common.domain import Domain, load_domain
from services.common.errors import PodiumError
from services.common.event_log import read_log
from services.common.settings import RankerSettings
from services.common.status import error_from_rpc
from services.ranker.bootstrap import RankerApp, build
from tests.support.eventually import eventually
from tests.support.fake_features import FakeFeatureServer, FakeFeatureService
from tests.support.feature_server import wait_serving
from tests.support.live_world import little_catalogue, little_users
from tests.support.tiny_bundle import make_tiny_bundle

CONFIG = Path(__file__).parents[3] / "config"


@dataclass
class Ranker:
    """A running ranker with what surrounds it."""

    app: RankerApp
    stub: ranker_pb2_grpc.RankerServiceStub
    features: FakeFeatureService
    settings: RankerSettings

    def rank(self, surface: str = "courses", **fields: Any) -> ranker_pb2.RankResponse:
        """One call for user "ann" unless said otherwise."""
        actor = fields.pop("actor", common_pb2.Actor(user_id="ann"))
        timeout = fields.pop("timeout", 10)
        request = ranker_pb2.RankRequest(actor=actor, surface=surface, **fields)
        return self.stub.Rank(request, timeout=timeout)

    def spooled(self, kind: str = "slate_served") -> list[event_pb2.Event]:
        """Events of one type that it wrote, with pseudonyms."""
        events = [
            event_pb2.LoggedEvent.FromString(payload).event
            for _, payload in read_log(self.settings.spool_dir)
        ]
        return [event for event in events if event.type == kind]


def refusal(call: Callable[[], object]) -> PodiumError:
    """The error that a call ends with."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return error_from_rpc(caught.value)


@pytest.fixture(scope="session")
def domain() -> Domain:
    return load_domain(CONFIG / "live_courses.yaml")


@pytest.fixture(scope="session")
def tiny_bundles(domain: Domain, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with one bundle; courses and hosts are indexed, rooms and videos are not."""
    directory = tmp_path_factory.mktemp("bundles")
    indexed = {"course": little_catalogue()["course"], "host": little_catalogue()["host"]}
    make_tiny_bundle(directory, domain, indexed, seed=1)
    return directory


@contextmanager
def running_ranker(settings: RankerSettings, features: FakeFeatureService) -> Iterator[Ranker]:
    """Starts a ranker, waits until it is ready, and stops it."""
    app = build(settings)
    app.start()
    app.server.start()
    channel = grpc.insecure_channel(f"127.0.0.1:{app.server.port}")
    try:
        eventually(lambda: app.serving.wait_ready(0.05))
        app.server.set_ready()
        yield Ranker(app, ranker_pb2_grpc.RankerServiceStub(channel), features, settings)
    finally:
        channel.close()
        app.server.drain()
        app.close()


def make_settings(directory: Path, bundles: Path, target: str, **changes: Any) -> RankerSettings:
    """Settings of a ranker that keeps its files in ``directory``."""
    values: dict[str, Any] = {
        "domain_file": CONFIG / "live_courses.yaml",
        "experiments_file": CONFIG / "experiments.yaml",
        "ranker_port": 0,
        "bundles_dir": bundles,
        "spool_dir": directory / "spool",
        "capture_dir": directory / "captures",
        "replica_dir": directory / "replica",
        "feature_target": target,
        "feature_timeout_ms": 5_000,
        "rank_target_ms": 60_000,
        "source_budget_ms": 10_000,
        "bundle_poll_seconds": 0.05,
    }
    return RankerSettings(**(values | changes))


@pytest.fixture
def features(domain: Domain) -> FakeFeatureService:
    return FakeFeatureService(domain, little_catalogue(), little_users())


@pytest.fixture
def feature_server(features: FakeFeatureService) -> Iterator[FakeFeatureServer]:
    server = FakeFeatureServer(features)
    yield server
    server.close()


@pytest.fixture
def ranker(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> Iterator[Ranker]:
    """A ranker of the test's own."""
    settings = make_settings(tmp_path, tiny_bundles, feature_server.target)
    with running_ranker(settings, features) as running:
        yield running


@pytest.fixture(scope="module")
def two_rankers(
    domain: Domain, tiny_bundles: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Ranker, Ranker]]:
    """Two replicas over one feature service, for the tests of a module."""
    service = FakeFeatureService(domain, little_catalogue(), little_users())
    server = FakeFeatureServer(service)
    first, second = (
        make_settings(tmp_path_factory.mktemp("replica"), tiny_bundles, server.target)
        for _ in range(2)
    )
    with running_ranker(first, service) as one, running_ranker(second, service) as other:
        yield one, other
    server.close()


@pytest.fixture(scope="module")
def calm_ranker(
    domain: Domain, tiny_bundles: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Ranker]:
    """A ranker that the tests of a module share; they change nothing of it."""
    service = FakeFeatureService(domain, little_catalogue(), little_users())
    server = FakeFeatureServer(service)
    settings = make_settings(tmp_path_factory.mktemp("ranker"), tiny_bundles, server.target)
    with running_ranker(settings, service) as running:
        yield running
    server.close()


@pytest.fixture
def feature_target(tmp_path: Path) -> Iterator[str]:
    """A feature service in a process of its own."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    environment = os.environ | {
        "PODIUM_FEATURE_PORT": str(port),
        "PODIUM_FEATURE_METRICS_PORT": "0",
        "PODIUM_LOG_DIR": str(tmp_path / "log"),
        "PODIUM_STORE_DIR": str(tmp_path / "store"),
        "PODIUM_LOG_LEVEL": "ERROR",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.feature"], cwd=CONFIG.parent, env=environment
    )
    try:
        wait_serving(port)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(30)
