"""Shipping a spool: what is tried again, given up, sent in parts, counted."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from podium.event.v1 import event_pb2
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common import spool_shipping
from services.common.channels import open_channel
from services.common.errors import Overloaded, Unavailable
from services.common.event_log import Segment, list_segments
from services.common.spool import Spool
from services.common.spool_shipping import SpoolMetrics, SpoolShipper, ingest_sender
from tests.support.eventually import eventually
from tests.support.spooling import Shipping, Sink, no_log, open_spool, spooled_event


def test_an_acknowledgement_that_fails_is_tried_again(spool: Spool, sink: Sink) -> None:
    blocked = spool.directory / "acknowledged"
    blocked.mkdir()
    shipping = Shipping(spool, sink)
    spool.append([spooled_event(0)])
    eventually(lambda: shipping.value("failures_total") >= 2)
    blocked.rmdir()
    eventually(lambda: spool.acknowledged() == 1)
    spool.append([spooled_event(1)])
    shipping.shipper.close()
    assert list(sink.taken) == [0, 1]
    assert blocked.read_text() == "2"


def test_an_unexpected_error_does_not_end_shipping(
    spool: Spool, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        if sink.calls < 3:
            raise RuntimeError("a bug")

    sink.fail = fail
    shipping = Shipping(spool, sink)
    spool.append([spooled_event(0)])
    eventually(lambda: spool.acknowledged() == 1)
    shipping.shipper.close()
    assert list(sink.taken) == [0]
    assert shipping.value("failures_total") == 2
    assert "RuntimeError: a bug" in caplog.text


def test_a_failure_that_lasts_is_logged_once_and_counted_each_time(
    spool: Spool, sink: Sink, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        if sink.calls <= 3:
            raise Unavailable("the log is away")
        if sink.calls <= 5:
            raise Unavailable("the log is full")

    sink.fail = fail
    shipping = Shipping(spool, sink)
    spool.append([spooled_event(0)])
    eventually(lambda: spool.acknowledged() == 1)
    shipping.shipper.close()
    assert shipping.value("failures_total") == 5
    assert caplog.text.count("the log is away") == caplog.text.count("the log is full") == 1


def test_the_lag_grows_while_nothing_is_shipped(spool: Spool, sink: Sink) -> None:
    sink.fail = no_log
    shipping = Shipping(spool, sink)
    spool.append([spooled_event(number) for number in range(10)])
    assert shipping.value("lag") == 10
    eventually(lambda: shipping.value("failures_total"))
    spool.append([spooled_event(10)])
    assert shipping.value("lag") == 11
    sink.fail = lambda: None
    eventually(lambda: shipping.value("lag") == 0)
    shipping.shipper.close()


def test_a_bad_record_that_a_new_segment_follows_is_a_gap(
    tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path, segment_bytes=1_000)
    spool.append([spooled_event(number) for number in range(20)])
    first, second = list_segments(tmp_path)[:2]
    first.path.write_bytes(b"bad" + first.path.read_bytes())
    listings = iter([[first]])

    def listed(directory: Path) -> list[Segment]:
        found = list_segments(directory)
        return next(listings, found) if directory == tmp_path else found

    monkeypatch.setattr(spool_shipping, "list_segments", listed)
    shipping = Shipping(spool, sink)
    shipping.shipper.close()
    spool.close()
    assert list(sink.taken) == list(range(second.first_arrival, 20))
    assert shipping.value("failures_total") == 0
    assert shipping.value("gaps_total") == second.first_arrival


def test_a_bad_record_that_nothing_follows_any_more_is_waited_for(
    tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = open_spool(tmp_path, segment_bytes=1_000)
    spool.append([spooled_event(number) for number in range(20)])
    first, second = list_segments(tmp_path)[:2]
    first.path.write_bytes(b"bad" + first.path.read_bytes())
    listings = iter([[first]] * 2)

    def listed(directory: Path) -> list[Segment]:
        found = list_segments(directory)
        return next(listings, found) if directory == tmp_path else found

    monkeypatch.setattr(spool_shipping, "list_segments", listed)
    shipping = Shipping(spool, sink)
    shipping.shipper.close()
    spool.close()
    assert list(sink.taken) == list(range(second.first_arrival, 20))
    assert shipping.value("failures_total") == 1


class _Receiver(feature_pb2_grpc.FeatureServiceServicer):
    """Takes every event that gRPC lets through."""

    def __init__(self) -> None:
        self.taken: dict[int, event_pb2.Event] = {}

    def Ingest(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        self.taken.update(enumerate(request.events, request.first_sequence))
        return feature_pb2.IngestResponse()


@pytest.fixture
def small_receiver() -> Iterator[tuple[_Receiver, str]]:
    """A server with the least PODIUM_MAX_REQUEST_BYTES there can be."""
    receiver = _Receiver()
    limit = ("grpc.max_receive_message_length", 1_024)
    server = grpc.server(ThreadPoolExecutor(2), options=[limit])
    feature_pb2_grpc.add_FeatureServiceServicer_to_server(receiver, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield receiver, f"127.0.0.1:{port}"
    server.stop(None).wait()


def test_a_batch_above_the_receivers_limit_goes_out_in_parts(
    spool: Spool, small_receiver: tuple[_Receiver, str], caplog: pytest.LogCaptureFixture
) -> None:
    receiver, target = small_receiver
    spool.append(
        [spooled_event(number, padding=2_000 if number == 7 else 0) for number in range(100)]
    )
    registry = CollectorRegistry()
    metrics = SpoolMetrics(registry)
    with open_channel(target) as channel:
        shipper = SpoolShipper(spool, ingest_sender(channel, spool.producer, metrics), metrics)
        shipper.start()
        eventually(lambda: spool.acknowledged() == 100)
        shipper.close()
    assert receiver.taken == {number: spooled_event(number) for number in range(100) if number != 7}
    assert registry.get_sample_value("podium_spool_refused_total") == 1
    assert registry.get_sample_value("podium_spool_shipped_total") == 99
    assert "events 7 to 7 were refused" in caplog.text


@pytest.mark.parametrize(
    ("reason", "calls"), [("INGEST_BACKLOG", [(0, 4)]), ("RESOURCE_EXHAUSTED", [(0, 4), (0, 2)])]
)
def test_an_overload_is_waited_out_and_drops_nothing(
    spool: Spool, reason: str, calls: list[tuple[int, int]]
) -> None:
    sent: list[tuple[int, int]] = []
    down = threading.Event()
    down.set()

    def send(events: list[event_pb2.Event], first: int) -> None:
        sent.append((first, len(events)))
        if down.is_set():
            raise Overloaded("come back later", reason=reason)

    spool.append([spooled_event(number) for number in range(4)])
    registry = CollectorRegistry()
    shipper = SpoolShipper(spool, send, SpoolMetrics(registry))
    shipper.start()
    eventually(lambda: sent.count((0, 4)) >= 2)
    down.clear()
    eventually(lambda: spool.acknowledged() == 4)
    shipper.close()
    assert sent[: len(calls)] == calls
    assert registry.get_sample_value("podium_spool_refused_total") == 0


def test_old_files_that_stay_do_not_fail_the_call(
    tmp_path: Path, sink: Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    spool = open_spool(tmp_path, segment_bytes=1_000, max_bytes=2_000)
    monkeypatch.setattr(Path, "unlink", read_only)
    spool.append([spooled_event(number) for number in range(100)])
    assert "could not be removed" in caplog.text
    shipping = Shipping(spool, sink)
    shipping.shipper.close()
    spool.close()
    assert list(sink.taken) == list(range(100))
    assert shipping.value("failures_total") == 0


class _Knowing(feature_pb2_grpc.FeatureServiceServicer):
    """Knows every event already, with another content."""

    def Ingest(self, request: Any, _context: Any) -> Any:  # noqa: N802 - the proto's name
        return feature_pb2.IngestResponse(
            rejections=[
                feature_pb2.Rejection(index=n, event_id=event.event_id, reason="EVENT_ID_CONFLICT")
                for n, event in enumerate(request.events)
            ]
        )


def test_what_another_replica_told_before_is_counted_apart(
    spool: Spool, caplog: pytest.LogCaptureFixture
) -> None:
    server = grpc.server(ThreadPoolExecutor(2))
    feature_pb2_grpc.add_FeatureServiceServicer_to_server(_Knowing(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    spool.append([spooled_event(number) for number in range(3)])
    registry = CollectorRegistry()
    metrics = SpoolMetrics(registry)
    with open_channel(f"127.0.0.1:{port}") as channel:
        shipper = SpoolShipper(spool, ingest_sender(channel, spool.producer, metrics), metrics)
        shipper.start()
        eventually(lambda: spool.acknowledged() == 3)
        shipper.close()
    server.stop(None).wait()
    assert registry.get_sample_value("podium_spool_repeated_total") == 3
    assert registry.get_sample_value("podium_spool_refused_total") == 0
    assert "refused" not in caplog.text
