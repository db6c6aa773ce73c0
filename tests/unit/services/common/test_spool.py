"""The spool: numbering, shipping, resuming and gaps."""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common import spool_shipping
from services.common.channels import open_channel
from services.common.errors import InvalidArgument, Overloaded, Unavailable
from services.common.event_log import HEADER, LogWriter, Segment, list_segments, read_log
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.common.spool import Spool
from services.common.spool_shipping import BATCH_BYTES, SpoolMetrics, SpoolShipper, ingest_sender
from tests.support.eventually import eventually

NAMES = Pseudonymiser.from_text(DEVELOPMENT_KEYS)
BOTH_KEYS = Pseudonymiser.from_text(
    f"{DEVELOPMENT_KEYS},2:{base64.b64encode(b'second'.ljust(64)).decode()}"
)


def _event(number: int, padding: int = 0) -> event_pb2.Event:
    actor = common_pb2.Actor(user_id=f"user-{number}", device_id=f"device-{number}")
    return event_pb2.Event(event_id=f"e{number}{'.' * padding}", type="exposure", actor=actor)


class _Sink:
    """Takes what is shipped; fails as told."""

    def __init__(self) -> None:
        self.taken: dict[int, event_pb2.Event] = {}
        self.calls = 0
        self.fail: Callable[[], None] = lambda: None

    def send(self, events: list[event_pb2.Event], first_sequence: int) -> None:
        self.calls += 1
        self.fail()
        assert sum(event.ByteSize() for event in events) <= BATCH_BYTES
        self.taken.update(enumerate(events, first_sequence))


def _open(path: Path, **options: int) -> Spool:
    return Spool(path, "ranker", NAMES, **options)


def _append_under(path: Path, names: Pseudonymiser, *events: event_pb2.Event) -> None:
    """Spools events in a process of their own, with other keys."""
    spool = Spool(path, "ranker", names)
    spool.append(events)
    spool.close()


class _Shipping:
    def __init__(self, spool: Spool, sink: _Sink) -> None:
        self.registry = CollectorRegistry()
        self.shipper = SpoolShipper(spool, sink.send, SpoolMetrics(self.registry))
        self.shipper.start()

    def value(self, name: str) -> float:
        return self.registry.get_sample_value(f"podium_spool_{name}") or 0.0


@pytest.fixture
def sink() -> _Sink:
    return _Sink()


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    opened = _open(tmp_path)
    yield opened
    opened.close()


@pytest.mark.parametrize("padding", [0, 60, 120, 128, 16_300, 16_384, 40_000])
def test_what_is_spooled_is_the_event_under_pseudonyms(tmp_path: Path, padding: int) -> None:
    given, before = _event(1, padding), _event(1, padding)
    spool = _open(tmp_path)
    spool.append([event_pb2.Event(event_id="first"), given])
    spool.close()
    assert given == before
    expected = event_pb2.LoggedEvent(event=before, producer=spool.producer, sequence=1)
    actor = expected.event.actor
    actor.user_id, actor.device_id = map(NAMES.encrypt, ("user-1", "device-1"))
    (_, first), (_, found) = read_log(tmp_path, 0, 10)
    assert event_pb2.LoggedEvent.FromString(found) == expected
    assert not event_pb2.LoggedEvent.FromString(first).event.HasField("actor")


def test_ships_everything_once_in_order_with_raw_ids(spool: Spool, sink: _Sink) -> None:
    shipping = _Shipping(spool, sink)
    for start in range(0, 1_200, 3):
        spool.append([_event(start + i) for i in range(3)])
    shipping.shipper.close()
    assert list(sink.taken) == list(range(1_200))
    assert list(sink.taken.values()) == [_event(number) for number in range(1_200)]
    assert spool.acknowledged() == 1_200
    assert shipping.value("shipped_total") == 1_200
    assert shipping.value("lag") == 0


def test_no_file_holds_a_raw_id(spool: Spool) -> None:
    spool.append([_event(7)])
    for path in spool.directory.iterdir():
        assert b"user-7" not in path.read_bytes()
        assert b"device-7" not in path.read_bytes()
    (_, record), *_ = read_log(spool.directory)
    logged = event_pb2.LoggedEvent.FromString(record)
    assert NAMES.decrypt(logged.event.actor.user_id) == "user-7"
    assert (logged.producer, logged.sequence) == (spool.producer, 0)


def test_append_leaves_the_callers_event_alone(spool: Spool) -> None:
    event = _event(1)
    spool.append([event])
    assert event == _event(1)


def test_an_outage_is_waited_out(spool: Spool, sink: _Sink) -> None:
    down = threading.Event()
    down.set()

    def fail() -> None:
        if down.is_set():
            _no_log()

    sink.fail = fail
    shipping = _Shipping(spool, sink)
    spool.append([_event(number) for number in range(10)])
    eventually(lambda: shipping.value("failures_total") >= 2)
    assert not sink.taken
    down.clear()
    eventually(lambda: len(sink.taken) == 10)
    shipping.shipper.close()
    assert list(sink.taken) == list(range(10))


def _no_log() -> None:
    raise Unavailable("no log")


def test_close_leaves_the_rest_for_the_next_process(tmp_path: Path, sink: _Sink) -> None:
    sink.fail = _no_log
    spool = _open(tmp_path)
    producer = spool.producer
    shipping = _Shipping(spool, sink)
    spool.append([_event(0), _event(1)])
    shipping.shipper.close(flush_seconds=0.1)
    spool.close()

    spool = _open(tmp_path)
    assert spool.producer == producer
    assert spool.next_sequence == 2
    sink.fail = lambda: None
    shipping = _Shipping(spool, sink)
    spool.append([_event(2)])
    shipping.shipper.close()
    spool.close()
    assert sink.taken == {number: _event(number) for number in range(3)}


def test_a_refused_batch_does_not_stop_the_rest(spool: Spool, sink: _Sink) -> None:
    spool.append([_event(0)])

    def fail() -> None:
        if sink.calls == 1:
            raise InvalidArgument("never")

    sink.fail = fail
    shipping = _Shipping(spool, sink)
    eventually(lambda: shipping.value("refused_total") == 1)
    spool.append([_event(1)])
    shipping.shipper.close()
    assert list(sink.taken) == [1]


def test_shipped_files_are_deleted_and_numbers_go_on(tmp_path: Path, sink: _Sink) -> None:
    spool = _open(tmp_path, segment_bytes=1_000)
    spool.append([_event(number) for number in range(100)])
    assert len(list_segments(tmp_path)) > 5
    shipping = _Shipping(spool, sink)
    eventually(lambda: spool.acknowledged() == 100)
    shipping.shipper.close()
    assert len(list_segments(tmp_path)) == 1
    spool.close()
    reopened = _open(tmp_path)
    assert reopened.next_sequence == 100
    reopened.close()


def test_a_segment_that_begins_while_the_one_before_is_shipped_is_no_failure(
    tmp_path: Path, sink: _Sink
) -> None:
    spool = _open(tmp_path, segment_bytes=1)
    spool.append([_event(0)])

    def begin_a_segment() -> None:
        sink.fail = lambda: None
        spool.append([_event(1)])

    sink.fail = begin_a_segment
    shipping = _Shipping(spool, sink)
    eventually(lambda: spool.acknowledged() == 2)
    shipping.shipper.close()
    assert list(sink.taken) == [0, 1]
    assert shipping.value("failures_total") == 0
    spool.close()


def test_large_events_ship_in_small_batches(spool: Spool, sink: _Sink) -> None:
    spool.append([_event(number, padding=900_000) for number in range(5)])
    _Shipping(spool, sink).shipper.close()
    assert list(sink.taken) == list(range(5))
    assert sink.calls == 3


def test_a_full_spool_gives_up_the_oldest_and_counts_them(tmp_path: Path, sink: _Sink) -> None:
    spool = _open(tmp_path, segment_bytes=5_000, max_bytes=20_000)
    for start in range(0, 3_000, 500):
        spool.append([_event(start + i) for i in range(500)])
    shipping = _Shipping(spool, sink)
    shipping.shipper.close()
    spool.close()
    lost = shipping.value("gaps_total")
    assert 0 < lost < 3_000
    assert list(sink.taken) == list(range(int(lost), 3_000))


def test_a_damaged_segment_is_a_gap(tmp_path: Path, sink: _Sink) -> None:
    spool = _open(tmp_path, segment_bytes=1_000)
    spool.append([_event(number) for number in range(20)])
    second, third = list_segments(tmp_path)[1:3]
    data = bytearray(second.path.read_bytes())
    data[HEADER.size] ^= 1
    second.path.write_bytes(data)
    shipping = _Shipping(spool, sink)
    shipping.shipper.close()
    spool.close()
    missing = set(range(second.first_arrival, third.first_arrival))
    assert set(sink.taken) == set(range(20)) - missing
    assert shipping.value("gaps_total") == len(missing)


def test_numbers_never_fall_back_behind_what_was_acknowledged(tmp_path: Path) -> None:
    spool = _open(tmp_path)
    spool.append([_event(0), _event(1), _event(2)])
    spool.acknowledge(3)
    spool.close()
    # The machine lost power: what was written and acknowledged never reached this disk.
    (segment,) = list_segments(tmp_path)
    segment.path.write_bytes(b"")
    reopened = _open(tmp_path)
    assert reopened.next_sequence == 3
    reopened.append([_event(3)])
    reopened.close()
    assert [number for number, _ in read_log(tmp_path, 3)] == [3]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"12x"])
def test_a_damaged_acknowledgement_ships_again(tmp_path: Path, sink: _Sink, content: bytes) -> None:
    spool = _open(tmp_path, segment_bytes=1_000)
    spool.append([_event(number) for number in range(20)])
    third = list_segments(tmp_path)[2].first_arrival
    spool.acknowledge(third)
    spool.close()
    (tmp_path / "acknowledged").write_bytes(content)
    reopened = _open(tmp_path)
    shipping = _Shipping(reopened, sink)
    shipping.shipper.close()
    assert set(sink.taken) == set(range(third, 20))
    assert reopened.acknowledged() == 20
    reopened.close()


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"two words", b"x" * 129])
def test_a_damaged_stream_name_is_replaced(tmp_path: Path, content: bytes) -> None:
    _open(tmp_path).close()
    (tmp_path / "producer").write_bytes(content)
    reopened = _open(tmp_path)
    assert reopened.producer.startswith("ranker-")
    assert (tmp_path / "producer").read_text() == reopened.producer
    reopened.close()


def test_a_failed_write_is_unavailable_and_the_next_one_works(tmp_path: Path) -> None:
    spool = _open(tmp_path)
    spool.append([_event(0)])
    writer = spool._writer
    assert writer is not None
    broken = os.open("/dev/full", os.O_WRONLY)
    os.dup2(broken, writer._handle)
    os.close(broken)
    with pytest.raises(Unavailable) as failed:
        spool.append([_event(1)])
    assert failed.value.reason == "SPOOL_WRITE_FAILED"
    spool.append([_event(2)])
    spool.close()
    records = [event_pb2.LoggedEvent.FromString(record) for _, record in read_log(tmp_path)]
    assert [(r.sequence, r.event.event_id) for r in records] == [(0, "e0"), (1, "e2")]


def test_a_missing_key_holds_up_what_follows_until_it_is_back(tmp_path: Path, sink: _Sink) -> None:
    _append_under(tmp_path, NAMES, _event(0), _event(1))
    _append_under(tmp_path, BOTH_KEYS, _event(2))
    _append_under(tmp_path, NAMES, _event(3))
    spool = _open(tmp_path)
    shipping = _Shipping(spool, sink)
    eventually(lambda: shipping.value("failures_total") >= 2)
    shipping.shipper.close(flush_seconds=0)
    spool.close()
    assert sink.taken == {0: _event(0), 1: _event(1)}
    assert spool.acknowledged() == 2
    assert shipping.value("refused_total") == 0

    spool = Spool(tmp_path, "ranker", BOTH_KEYS)
    _Shipping(spool, sink).shipper.close()
    spool.close()
    assert sink.taken == {number: _event(number) for number in range(4)}


@pytest.mark.parametrize("last", [3, 5])
def test_an_event_that_can_never_be_read_is_refused_alone(
    tmp_path: Path, sink: _Sink, last: int
) -> None:
    _append_under(tmp_path, NAMES, _event(0), _event(1))
    _append_under(tmp_path, Pseudonymiser({1: b"another".ljust(64)}, 1), _event(2))
    with LogWriter(tmp_path, durable=False) as log:
        log.append([b"\xff"])
    _append_under(tmp_path, NAMES, *(_event(number) for number in range(4, last + 1)))
    spool = _open(tmp_path)
    shipping = _Shipping(spool, sink)
    shipping.shipper.close()
    spool.close()
    assert sink.taken == {n: _event(n) for n in range(last + 1) if n not in {2, 3}}
    assert spool.acknowledged() == last + 1
    assert shipping.value("refused_total") == 2
    assert shipping.value("shipped_total") == last - 1


def test_an_acknowledgement_that_fails_is_tried_again(spool: Spool, sink: _Sink) -> None:
    blocked = spool.directory / "acknowledged"
    blocked.mkdir()
    shipping = _Shipping(spool, sink)
    spool.append([_event(0)])
    eventually(lambda: shipping.value("failures_total") >= 2)
    blocked.rmdir()
    eventually(lambda: spool.acknowledged() == 1)
    spool.append([_event(1)])
    shipping.shipper.close()
    assert list(sink.taken) == [0, 1]
    assert blocked.read_text() == "2"


def test_an_unexpected_error_does_not_end_shipping(
    spool: Spool, sink: _Sink, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        if sink.calls < 3:
            raise RuntimeError("a bug")

    sink.fail = fail
    shipping = _Shipping(spool, sink)
    spool.append([_event(0)])
    eventually(lambda: spool.acknowledged() == 1)
    shipping.shipper.close()
    assert list(sink.taken) == [0]
    assert shipping.value("failures_total") == 2
    assert "RuntimeError: a bug" in caplog.text


def test_a_failure_that_lasts_is_logged_once_and_counted_each_time(
    spool: Spool, sink: _Sink, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        if sink.calls <= 3:
            raise Unavailable("the log is away")
        if sink.calls <= 5:
            raise Unavailable("the log is full")

    sink.fail = fail
    shipping = _Shipping(spool, sink)
    spool.append([_event(0)])
    eventually(lambda: spool.acknowledged() == 1)
    shipping.shipper.close()
    assert shipping.value("failures_total") == 5
    assert caplog.text.count("the log is away") == caplog.text.count("the log is full") == 1


def test_the_lag_grows_while_nothing_is_shipped(spool: Spool, sink: _Sink) -> None:
    sink.fail = _no_log
    shipping = _Shipping(spool, sink)
    spool.append([_event(number) for number in range(10)])
    assert shipping.value("lag") == 10
    eventually(lambda: shipping.value("failures_total"))
    spool.append([_event(10)])
    assert shipping.value("lag") == 11
    sink.fail = lambda: None
    eventually(lambda: shipping.value("lag") == 0)
    shipping.shipper.close()


def test_a_bad_record_that_a_new_segment_follows_is_a_gap(
    tmp_path: Path, sink: _Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = _open(tmp_path, segment_bytes=1_000)
    spool.append([_event(number) for number in range(20)])
    first, second = list_segments(tmp_path)[:2]
    first.path.write_bytes(b"bad" + first.path.read_bytes())
    listings = iter([[first]])

    def listed(directory: Path) -> list[Segment]:
        found = list_segments(directory)
        return next(listings, found) if directory == tmp_path else found

    monkeypatch.setattr(spool_shipping, "list_segments", listed)
    shipping = _Shipping(spool, sink)
    shipping.shipper.close()
    spool.close()
    assert list(sink.taken) == list(range(second.first_arrival, 20))
    assert shipping.value("failures_total") == 0
    assert shipping.value("gaps_total") == second.first_arrival


def test_a_bad_record_that_nothing_follows_any_more_is_waited_for(
    tmp_path: Path, sink: _Sink, monkeypatch: pytest.MonkeyPatch
) -> None:
    spool = _open(tmp_path, segment_bytes=1_000)
    spool.append([_event(number) for number in range(20)])
    first, second = list_segments(tmp_path)[:2]
    first.path.write_bytes(b"bad" + first.path.read_bytes())
    listings = iter([[first]] * 2)

    def listed(directory: Path) -> list[Segment]:
        found = list_segments(directory)
        return next(listings, found) if directory == tmp_path else found

    monkeypatch.setattr(spool_shipping, "list_segments", listed)
    shipping = _Shipping(spool, sink)
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
    spool.append([_event(number, padding=2_000 if number == 7 else 0) for number in range(100)])
    registry = CollectorRegistry()
    metrics = SpoolMetrics(registry)
    with open_channel(target) as channel:
        shipper = SpoolShipper(spool, ingest_sender(channel, spool.producer, metrics), metrics)
        shipper.start()
        eventually(lambda: spool.acknowledged() == 100)
        shipper.close()
    assert receiver.taken == {number: _event(number) for number in range(100) if number != 7}
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

    spool.append([_event(number) for number in range(4)])
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
    tmp_path: Path, sink: _Sink, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def read_only(path: Path, missing_ok: bool = False) -> None:
        raise PermissionError(13, "Permission denied", str(path))

    spool = _open(tmp_path, segment_bytes=1_000, max_bytes=2_000)
    monkeypatch.setattr(Path, "unlink", read_only)
    spool.append([_event(number) for number in range(100)])
    assert "could not be removed" in caplog.text
    shipping = _Shipping(spool, sink)
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
    spool.append([_event(number) for number in range(3)])
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
