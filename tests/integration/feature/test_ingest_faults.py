"""A disk that fails and a log that is damaged, under a real service."""

from __future__ import annotations

import asyncio
from errno import EIO
from pathlib import Path

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from prometheus_client import CollectorRegistry

from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.clock import system_clock_ms as now_ms
from services.common.domain import load_domain
from services.common.errors import Unavailable
from services.common.event_log import LogWriter, list_segments, read_log
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.common.server import ServerOptions
from services.common.status import error_from_rpc
from services.feature.applying.process import ApplyFiles, log_salvage
from services.feature.bootstrap import FeatureService, serve
from services.feature.servicer import POLICIES
from tests.support.eventually import eventually
from tests.support.faulty_files import FailingFiles
from tests.support.feature_server import client_of, running_service
from tests.support.feature_streams import interaction, logged

DOMAIN_FILE = Path(__file__).parents[3] / "config" / "live_courses.yaml"


def click(event_id: str) -> Event:
    return interaction(event_id, "click", now_ms(), "ann", "course:c")


def test_after_a_failed_sync_the_service_stops_serving_and_ends(tmp_path: Path) -> None:
    domain = load_domain(DOMAIN_FILE)
    files = FailingFiles()

    def use(port: int) -> None:
        with (
            client_of(port, domain) as client,
            grpc.insecure_channel(f"127.0.0.1:{port}") as channel,
        ):
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            # The service starts meanwhile.
            serving = (answer.status for answer in watch)
            assert health_pb2.HealthCheckResponse.SERVING in serving
            assert client.ingest(click("acked")).accepted == 1
            files.sync_error = OSError(EIO, "input/output error")
            with pytest.raises(grpc.RpcError) as refused:
                client.ingest(click("lost"))
            assert refused.value.code() is grpc.StatusCode.UNAVAILABLE
            assert error_from_rpc(refused.value).reason == "LOG_UNAVAILABLE"
            assert health_pb2.HealthCheckResponse.SERVING not in serving

    async def scenario() -> None:
        service = FeatureService(
            domain,
            ApplyFiles(DOMAIN_FILE, tmp_path / "log", tmp_path / "store"),
            Pseudonymiser.from_text(DEVELOPMENT_KEYS),
            options=ServerOptions(policies=POLICIES, drain_seconds=5),
            registry=CollectorRegistry(),
            log_level="ERROR",
            log_files=files,
        )
        using = asyncio.create_task(asyncio.to_thread(use, service.server.port))
        with pytest.raises(Unavailable) as ended:
            await serve(service)
        assert ended.value.reason == "LOG_SYNC_FAILED"
        await using

    asyncio.run(scenario())

    # A start anew finds what was acknowledged, and nothing that only seemed to be on disk.
    with running_service(DOMAIN_FILE, tmp_path) as running:
        response = running.client.ingest(click("acked"), click("lost"))
        assert [r.reason for r in response.rejections] == ["EVENT_ID_CONFLICT"]
        assert response.accepted == 1
        (row,) = running.client.get("course", "c", position=response.log_position)
        assert row["clicks_1h"] == (2, "PRESENT")


def test_a_service_over_a_damaged_log_goes_on_and_says_so(tmp_path: Path) -> None:
    events = [
        interaction(f"d-{n}", "click", now_ms() - 1_000 + n, f"ann{n}", "course:c")
        for n in range(60)
    ]
    with LogWriter(tmp_path / "log", segment_bytes=2_000) as writer:
        writer.append(
            [
                logged(n, event, event.event_time.ToMilliseconds()).SerializeToString()
                for n, event in enumerate(events)
            ]
        )
    first, *_, last = list_segments(tmp_path / "log")
    for segment in (first, last):
        data = bytearray(segment.path.read_bytes())
        data[0] ^= 0x40
        segment.path.write_bytes(data)
    lost = {first.first_arrival, last.first_arrival}

    for start in range(2):
        with running_service(DOMAIN_FILE, tmp_path) as running:
            (row,) = running.client.get("course", "c", position=60)
            assert row["clicks_1h"] == (58 + start, "PRESENT")
            assert running.metric("podium_feature_log_lost_records") == 2
            assert running.metric("podium_feature_log_damaged_bytes") > 50
            response = running.client.ingest(click(f"after-{start}"))
            assert (response.accepted, response.log_position) == (1, 61 + start)
            running.client.get("course", "c", position=response.log_position)

    salvage = log_salvage(tmp_path / "log")
    stored = [
        (arrival, LoggedEvent.FromString(data).arrival)
        for arrival, data in read_log(tmp_path / "log", salvage=salvage)
    ]
    assert stored == [(n, n) for n in range(62) if n not in lost]


def test_a_log_that_ends_in_damage_does_not_hold_a_start_up(tmp_path: Path) -> None:
    events = [interaction(f"e-{n}", "click", now_ms(), "ann", "course:c") for n in range(4)]
    with LogWriter(tmp_path / "log") as writer:
        writer.append(
            [logged(n, event, now_ms()).SerializeToString() for n, event in enumerate(events)]
        )
    (segment,) = list_segments(tmp_path / "log")
    data = segment.path.read_bytes()
    # The last record is lost, and the next segment tells that it was there.
    segment.path.write_bytes(data[:-3] + b"bad")
    following = segment.path.with_name(f"{4:020d}.segment")
    following.write_bytes(b"")
    for _ in range(2):
        with running_service(DOMAIN_FILE, tmp_path) as running:
            found = running.client.stub.GetFeatures(running.client.request("course", "c"))
            assert found.log_position == 4
            eventually(lambda: running.metric("podium_feature_log_lost_records") == 1)
