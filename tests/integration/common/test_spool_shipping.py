"""The spool against a real server, and through the death of the process that ships."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.channels import open_channel
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.common.spool import Spool
from services.common.spool_shipping import BATCH_EVENTS, SpoolMetrics, SpoolShipper, ingest_sender

ROOT = Path(__file__).parents[3]
NAMES = Pseudonymiser.from_text(DEVELOPMENT_KEYS)


class _Feature(feature_pb2_grpc.FeatureServiceServicer):
    """Takes every event but those of type "bad"; knows no feature."""

    def __init__(self) -> None:
        self.requests: list[feature_pb2.IngestRequest] = []

    def Ingest(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        self.requests.append(request)
        return feature_pb2.IngestResponse(
            rejections=[
                feature_pb2.Rejection(index=i, event_id=e.event_id, code=3, reason="BAD")
                for i, e in enumerate(request.events)
                if e.type == "bad"
            ]
        )


@pytest.fixture
def feature() -> Iterator[tuple[_Feature, str]]:
    servicer = _Feature()
    server = grpc.server(ThreadPoolExecutor(2))
    feature_pb2_grpc.add_FeatureServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_ships_to_ingest(tmp_path: Path, feature: tuple[_Feature, str]) -> None:
    servicer, target = feature
    events = [
        event_pb2.Event(
            event_id=f"e{number}",
            type="bad" if number == 3 else "exposure",
            actor=common_pb2.Actor(user_id=f"user-{number}"),
        )
        for number in range(700)
    ]
    registry = CollectorRegistry()
    metrics = SpoolMetrics(registry)
    spool = Spool(tmp_path, "ranker", NAMES)
    spool.append(events)
    with open_channel(target) as channel:
        shipper = SpoolShipper(spool, ingest_sender(channel, spool.producer, metrics), metrics)
        shipper.start()
        shipper.close()
    spool.close()
    taken = {
        request.first_sequence + index: event
        for request in servicer.requests
        for index, event in enumerate(request.events)
    }
    assert taken == dict(enumerate(events))
    assert {request.producer for request in servicer.requests} == {spool.producer}
    assert spool.producer.startswith("ranker-")
    assert registry.get_sample_value("podium_spool_refused_total") == 1
    assert registry.get_sample_value("podium_spool_shipped_total") == 700


def test_a_server_that_is_down_is_waited_for(tmp_path: Path) -> None:
    registry = CollectorRegistry()
    metrics = SpoolMetrics(registry)
    spool = Spool(tmp_path, "ranker", NAMES)
    spool.append([event_pb2.Event(event_id="e0")])
    with open_channel("127.0.0.1:1") as channel:
        shipper = SpoolShipper(spool, ingest_sender(channel, spool.producer, metrics), metrics)
        shipper.start()
        shipper.close(flush_seconds=0.3)
    assert registry.get_sample_value("podium_spool_failures_total")
    assert spool.acknowledged() == 0
    spool.close()


def test_what_can_not_be_shipped_in_the_time_that_closing_gives_stays(tmp_path: Path) -> None:
    spool = Spool(tmp_path, "ranker", NAMES)
    spool.append([event_pb2.Event(event_id=f"e{n}") for n in range(3 * BATCH_EVENTS)])
    begun = threading.Event()

    def send(events: list[event_pb2.Event], first_sequence: int) -> None:
        del events
        if not first_sequence:
            begun.set()
            # Closing wakes the shipper by it.
            assert spool.written.wait(20)

    shipper = SpoolShipper(spool, send, SpoolMetrics(CollectorRegistry()))
    shipper.start()
    assert begun.wait(20)
    shipper.close(flush_seconds=0)
    assert spool.acknowledged() == BATCH_EVENTS
    spool.close()


_CHILD = """
import sys
from pathlib import Path
from prometheus_client import CollectorRegistry
from podium.event.v1 import event_pb2
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.common.spool import Spool
from services.common.spool_shipping import SpoolMetrics, SpoolShipper

directory, sink = Path(sys.argv[1]), Path(sys.argv[2]).open("a", buffering=1)
spool = Spool(directory, "ranker", Pseudonymiser.from_text(DEVELOPMENT_KEYS), segment_bytes=4000)

def send(events, first):
    sink.write("".join(f"{first + i} {e.event_id}\\n" for i, e in enumerate(events)))

SpoolShipper(spool, send, SpoolMetrics(CollectorRegistry())).start()
number = spool.next_sequence
while True:
    spool.append([event_pb2.Event(event_id=f"e{number}")])
    number += 1
    print(number, flush=True)
"""


def test_shipping_resumes_after_kill_9_without_loss_or_renumbering(tmp_path: Path) -> None:
    directory, sink = tmp_path / "spool", tmp_path / "sink"
    promised = 0
    for stop_after in (150, 300, 450):
        child = subprocess.Popen(
            [sys.executable, "-c", _CHILD, str(directory), str(sink)],
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
        )
        assert child.stdout is not None
        for line in child.stdout:
            if int(line) >= stop_after:
                child.send_signal(signal.SIGKILL)
                break
        complete = [int(line) for line in child.stdout if line.endswith("\n")]
        promised = max([stop_after, *complete])
        child.stdout.close()
        assert child.wait() == -signal.SIGKILL
    shipped = [line.split() for line in sink.read_text().splitlines()]
    spool = Spool(directory, "ranker", NAMES)

    def send(events: list[event_pb2.Event], first: int) -> None:
        shipped.extend([str(first + i), e.event_id] for i, e in enumerate(events))

    shipper = SpoolShipper(spool, send, SpoolMetrics(CollectorRegistry()))
    shipper.start()
    shipper.close()
    end = spool.next_sequence
    spool.close()
    assert end >= promised
    # At least once, and a number always means the same event.
    assert {(int(number), event_id) for number, event_id in shipped} == {
        (number, f"e{number}") for number in range(end)
    }
