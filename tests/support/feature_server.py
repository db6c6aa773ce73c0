"""A real feature service in this process, on a thread of its own, and a client that reads it."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from podium.event.v1.event_pb2 import Event
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.domain import Domain, load_domain
from services.common.files import LOCAL_FILES, Files
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.common.server import ServerOptions
from services.feature.applying.process import ApplyFiles
from services.feature.bootstrap import FeatureService
from services.feature.definitions import FeatureView, compile_views
from services.feature.ingest.types import IngestLimits
from services.feature.servicer import POLICIES
from services.feature.store.opening import StoreOptions
from tests.support.eventually import eventually

ROOT = Path(__file__).parents[2]
STATUSES = {1: "PRESENT", 2: "NULL", 3: "NOT_FOUND", 4: "STALE"}

Value = int | float | str | list[str] | list[float]


def columns(block: feature_pb2.FeatureBlock) -> list[dict[str, tuple[Value, str]]]:
    """Rows of a block as (value, status) by feature name."""
    floats = np.frombuffer(block.float_values, "<f4").reshape(block.rows, -1)
    ints = np.frombuffer(block.int_values, "<i8").reshape(block.rows, -1)
    offsets = np.frombuffer(block.list_offsets, "<i4")
    names = [
        *block.float_features,
        *block.int_features,
        *block.string_features,
        *block.list_features,
        *block.vector_features,
    ]
    elements = np.frombuffer(block.vector_values, "<f4").reshape(block.rows, -1)
    statuses = np.frombuffer(block.statuses, "u1")
    if not len(statuses):
        statuses = np.ones(block.rows * len(names), "u1")
    statuses = statuses.reshape(block.rows, -1)
    rows = []
    for index in range(block.rows):
        values: list[Value] = [float(value) for value in floats[index]]
        values += [int(value) for value in ints[index]]
        width = len(block.string_features)
        values += list(block.string_values[index * width : (index + 1) * width])
        for column in range(len(block.list_features)):
            cell = index * len(block.list_features) + column
            values.append(list(block.list_values[offsets[cell] : offsets[cell + 1]]))
        start = 0
        for dim in block.vector_dims:
            values.append(elements[index, start : start + dim].tolist())
            start += dim
        found = [STATUSES[int(status)] for status in statuses[index]]
        rows.append({n: (v, s) for n, v, s in zip(names, values, found, strict=True)})
    return rows


@dataclass
class FeatureClient:
    """Calls a feature service."""

    stub: feature_pb2_grpc.FeatureServiceStub
    views: dict[str, FeatureView]

    def ingest(self, *events: Event) -> feature_pb2.IngestResponse:
        """Ingests events."""
        return self.stub.Ingest(feature_pb2.IngestRequest(events=events), timeout=30)

    def request(self, entity: str, *ids: str) -> feature_pb2.GetFeaturesRequest:
        """A request for features under the current view."""
        view = self.views[entity]
        return feature_pb2.GetFeaturesRequest(
            entity_type=entity, ids=ids, view_name=view.name, view_hash=view.hash
        )

    def get(self, entity: str, *ids: str, position: int = 0) -> list[dict[str, tuple[Value, str]]]:
        """Features of entities, once everything before ``position`` in the log is applied."""
        found: list[feature_pb2.GetFeaturesResponse] = []

        def applied() -> bool:
            found[:] = [self.stub.GetFeatures(self.request(entity, *ids), timeout=30)]
            return found[0].log_position >= position

        eventually(applied, f"applying the log up to {position}")
        return columns(found[0].block)

    def kept(self, *ids: str) -> list[dict[str, str]]:
        """Variants that users and devices keep, by entry."""
        request = self.request("user", *ids)
        request.sticky_ids.extend(ids)
        found = self.stub.GetFeatures(request, timeout=30)
        return [dict(sticky.assignments) for sticky in found.sticky]

    def watch(
        self, *entities: str, token: bytes = b""
    ) -> Iterator[feature_pb2.WatchEntitiesResponse]:
        """Watches entity types under their current views."""
        views = [self.views[entity] for entity in entities]
        request = feature_pb2.WatchEntitiesRequest(
            views=[
                feature_pb2.EntityView(entity_type=v.entity, view_name=v.name, view_hash=v.hash)
                for v in views
            ],
            resume_token=token,
        )
        return self.stub.WatchEntities(request, timeout=60)


@dataclass
class RunningService:
    """A service and a client of it; ``files`` are what it reads and writes."""

    service: FeatureService
    client: FeatureClient
    files: ApplyFiles
    port: int
    registry: CollectorRegistry
    drain: Callable[[], None]

    def metric(self, name: str, **labels: str) -> float:
        """Value of a metric; 0 where it has none yet."""
        return self.registry.get_sample_value(name, labels) or 0.0


@contextmanager
def client_of(port: int, domain: Domain) -> Iterator[FeatureClient]:
    """A client of the service on a local port."""
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub = feature_pb2_grpc.FeatureServiceStub(channel)
        yield FeatureClient(stub, compile_views(domain))


@contextmanager
def running_service(
    domain_file: Path,
    directory: Path,
    *,
    limits: IngestLimits | None = None,
    log_files: Files = LOCAL_FILES,
    store: StoreOptions = StoreOptions(),  # noqa: B008 - it is frozen
    keys: str = DEVELOPMENT_KEYS,
) -> Iterator[RunningService]:
    """Serves from ``directory`` until the block ends; ready on entry."""
    registry = CollectorRegistry()
    domain = load_domain(domain_file)
    files = ApplyFiles(domain_file, directory / "log", directory / "store", store)
    ready = threading.Event()
    started: list[FeatureService] = []
    failures: list[BaseException] = []
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        service = FeatureService(
            domain,
            files,
            Pseudonymiser.from_text(keys),
            options=ServerOptions(policies=POLICIES, drain_seconds=5),
            registry=registry,
            log_level="ERROR",
            limits=limits or IngestLimits(),
            log_files=log_files,
        )
        try:
            await service.server.start()
            await service.warm()
            await service.server.set_ready()
            started.append(service)
            ready.set()
            await stop.wait()
            await service.server.drain()
        finally:
            await service.close()

    def main() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve())
        except BaseException as error:
            failures.append(error)
            ready.set()
            raise

    thread = threading.Thread(target=main, name="feature-service")
    thread.start()
    try:
        assert ready.wait(60), "the service did not become ready"
        if failures:
            raise failures[0]
        with client_of(started[0].server.port, domain) as client:
            service = started[0]

            def drain() -> None:
                asyncio.run_coroutine_threadsafe(service.server.drain(), loop).result(60)

            yield RunningService(service, client, files, service.server.port, registry, drain)
    finally:
        if not failures:
            loop.call_soon_threadsafe(stop.set)
        thread.join(60)


def _free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) == 0


def wait_serving(port: int) -> None:
    """Waits for a listener first: a channel to none is dear, and tried again late."""
    eventually(lambda: _listens(port), "a listening feature service", 120)
    asked = health_pb2.HealthCheckRequest(service="podium.feature.v1.FeatureService")
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        health = health_pb2_grpc.HealthStub(channel)

        def is_serving() -> bool:
            try:
                answer = health.Check(asked, timeout=1)
            except grpc.RpcError:
                return False
            return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)

        eventually(is_serving, "a serving feature service", 120)


@contextmanager
def service_process(
    domain_file: Path, directory: Path
) -> Iterator[tuple[subprocess.Popen[bytes], FeatureClient]]:
    """``python -m services.feature`` on ``directory``, serving on entry; killed at the end."""
    port = _free_port()
    environment = os.environ | {
        "PODIUM_DOMAIN_FILE": str(domain_file),
        "PODIUM_LOG_DIR": str(directory / "log"),
        "PODIUM_STORE_DIR": str(directory / "store"),
        "PODIUM_FEATURE_PORT": str(port),
        "PODIUM_FEATURE_METRICS_PORT": "0",
        "PODIUM_LOG_LEVEL": "ERROR",
    }
    process = subprocess.Popen(
        [sys.executable, "-m", "services.feature"], cwd=ROOT, env=environment
    )
    try:
        wait_serving(port)
        with client_of(port, load_domain(domain_file)) as client:
            yield process, client
    finally:
        process.kill()
        process.wait(30)
