"""The spool: numbering, shipping in order, resuming and gaps."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from podium.event.v1 import event_pb2
from services.common.errors import InvalidArgument, Unavailable
from services.common.event_log import HEADER, LogWriter, list_segments, read_log
from services.common.pseudonym import Pseudonymiser
from services.common.spool import Spool
from tests.support.eventually import eventually
from tests.support.spooling import (
    BOTH_KEYS,
    NAMES,
    Shipping,
    Sink,
    append_under,
    no_log,
    open_spool,
    spooled_event,
)


@pytest.mark.parametrize("padding", [0, 60, 120, 128, 16_300, 16_384, 40_000])
def test_what_is_spooled_is_the_event_under_pseudonyms(tmp_path: Path, padding: int) -> None:
    given, before = spooled_event(1, padding), spooled_event(1, padding)
    spool = open_spool(tmp_path)
    spool.append([event_pb2.Event(event_id="first"), given])
    spool.close()
    assert given == before
    expected = event_pb2.LoggedEvent(event=before, producer=spool.producer, sequence=1)
    actor = expected.event.actor
    actor.user_id, actor.device_id = map(NAMES.encrypt, ("user-1", "device-1"))
    (_, first), (_, found) = read_log(tmp_path, 0, 10)
    assert event_pb2.LoggedEvent.FromString(found) == expected
    assert not event_pb2.LoggedEvent.FromString(first).event.HasField("actor")


def test_ships_everything_once_in_order_with_raw_ids(spool: Spool, sink: Sink) -> None:
    shipping = Shipping(spool, sink)
    for start in range(0, 1_200, 3):
        spool.append([spooled_event(start + i) for i in range(3)])
    shipping.shipper.close()
    assert list(sink.taken) == list(range(1_200))
    assert list(sink.taken.values()) == [spooled_event(number) for number in range(1_200)]
    assert spool.acknowledged() == 1_200
    assert shipping.value("shipped_total") == 1_200
    assert shipping.value("lag") == 0


def test_no_file_holds_a_raw_id(spool: Spool) -> None:
    spool.append([spooled_event(7)])
    for path in spool.directory.iterdir():
        assert b"user-7" not in path.read_bytes()
        assert b"device-7" not in path.read_bytes()
    (_, record), *_ = read_log(spool.directory)
    logged = event_pb2.LoggedEvent.FromString(record)
    assert NAMES.decrypt(logged.event.actor.user_id) == "user-7"
    assert (logged.producer, logged.sequence) == (spool.producer, 0)


def test_append_leaves_the_callers_event_alone(spool: Spool) -> None:
    event = spooled_event(1)
    spool.append([event])
    assert event == spooled_event(1)


def test_an_outage_is_waited_out(spool: Spool, sink: Sink) -> None:
    down = threading.Event()
    down.set()

    def fail() -> None:
        if down.is_set():
            no_log()

    sink.fail = fail
    shipping = Shipping(spool, sink)
    spool.append([spooled_event(number) for number in range(10)])
    eventually(lambda: shipping.value("failures_total") >= 2)
    assert not sink.taken
    down.clear()
    eventually(lambda: len(sink.taken) == 10)
    shipping.shipper.close()
    assert list(sink.taken) == list(range(10))


def test_close_leaves_the_rest_for_the_next_process(tmp_path: Path, sink: Sink) -> None:
    sink.fail = no_log
    spool = open_spool(tmp_path)
    producer = spool.producer
    shipping = Shipping(spool, sink)
    spool.append([spooled_event(0), spooled_event(1)])
    shipping.shipper.close(flush_seconds=0.1)
    spool.close()

    spool = open_spool(tmp_path)
    assert spool.producer == producer
    assert spool.next_sequence == 2
    sink.fail = lambda: None
    shipping = Shipping(spool, sink)
    spool.append([spooled_event(2)])
    shipping.shipper.close()
    spool.close()
    assert sink.taken == {number: spooled_event(number) for number in range(3)}


def test_a_refused_batch_does_not_stop_the_rest(spool: Spool, sink: Sink) -> None:
    spool.append([spooled_event(0)])

    def fail() -> None:
        if sink.calls == 1:
            raise InvalidArgument("never")

    sink.fail = fail
    shipping = Shipping(spool, sink)
    eventually(lambda: shipping.value("refused_total") == 1)
    spool.append([spooled_event(1)])
    shipping.shipper.close()
    assert list(sink.taken) == [1]


def test_shipped_files_are_deleted_and_numbers_go_on(tmp_path: Path, sink: Sink) -> None:
    spool = open_spool(tmp_path, segment_bytes=1_000)
    spool.append([spooled_event(number) for number in range(100)])
    assert len(list_segments(tmp_path)) > 5
    shipping = Shipping(spool, sink)
    eventually(lambda: spool.acknowledged() == 100)
    shipping.shipper.close()
    assert len(list_segments(tmp_path)) == 1
    spool.close()
    reopened = open_spool(tmp_path)
    assert reopened.next_sequence == 100
    reopened.close()


def test_a_segment_that_begins_while_the_one_before_is_shipped_is_no_failure(
    tmp_path: Path, sink: Sink
) -> None:
    spool = open_spool(tmp_path, segment_bytes=1)
    spool.append([spooled_event(0)])

    def begin_a_segment() -> None:
        sink.fail = lambda: None
        spool.append([spooled_event(1)])

    sink.fail = begin_a_segment
    shipping = Shipping(spool, sink)
    eventually(lambda: spool.acknowledged() == 2)
    shipping.shipper.close()
    assert list(sink.taken) == [0, 1]
    assert shipping.value("failures_total") == 0
    spool.close()


def test_large_events_ship_in_small_batches(spool: Spool, sink: Sink) -> None:
    spool.append([spooled_event(number, padding=900_000) for number in range(5)])
    Shipping(spool, sink).shipper.close()
    assert list(sink.taken) == list(range(5))
    assert sink.calls == 3


def test_a_full_spool_gives_up_the_oldest_and_counts_them(tmp_path: Path, sink: Sink) -> None:
    spool = open_spool(tmp_path, segment_bytes=5_000, max_bytes=20_000)
    for start in range(0, 3_000, 500):
        spool.append([spooled_event(start + i) for i in range(500)])
    shipping = Shipping(spool, sink)
    shipping.shipper.close()
    spool.close()
    lost = shipping.value("gaps_total")
    assert 0 < lost < 3_000
    assert list(sink.taken) == list(range(int(lost), 3_000))


def test_a_damaged_segment_is_a_gap(tmp_path: Path, sink: Sink) -> None:
    spool = open_spool(tmp_path, segment_bytes=1_000)
    spool.append([spooled_event(number) for number in range(20)])
    second, third = list_segments(tmp_path)[1:3]
    data = bytearray(second.path.read_bytes())
    data[HEADER.size] ^= 1
    second.path.write_bytes(data)
    shipping = Shipping(spool, sink)
    shipping.shipper.close()
    spool.close()
    missing = set(range(second.first_arrival, third.first_arrival))
    assert set(sink.taken) == set(range(20)) - missing
    assert shipping.value("gaps_total") == len(missing)


def test_numbers_never_fall_back_behind_what_was_acknowledged(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([spooled_event(0), spooled_event(1), spooled_event(2)])
    spool.acknowledge(3)
    spool.close()
    # The machine lost power: what was written and acknowledged never reached this disk.
    (segment,) = list_segments(tmp_path)
    segment.path.write_bytes(b"")
    reopened = open_spool(tmp_path)
    assert reopened.next_sequence == 3
    reopened.append([spooled_event(3)])
    reopened.close()
    assert [number for number, _ in read_log(tmp_path, 3)] == [3]


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"12x"])
def test_a_damaged_acknowledgement_ships_again(tmp_path: Path, sink: Sink, content: bytes) -> None:
    spool = open_spool(tmp_path, segment_bytes=1_000)
    spool.append([spooled_event(number) for number in range(20)])
    third = list_segments(tmp_path)[2].first_arrival
    spool.acknowledge(third)
    spool.close()
    (tmp_path / "acknowledged").write_bytes(content)
    reopened = open_spool(tmp_path)
    shipping = Shipping(reopened, sink)
    shipping.shipper.close()
    assert set(sink.taken) == set(range(third, 20))
    assert reopened.acknowledged() == 20
    reopened.close()


@pytest.mark.parametrize("content", [b"", b"\xff\x00", b"two words", b"x" * 129])
def test_a_damaged_stream_name_is_replaced(tmp_path: Path, content: bytes) -> None:
    open_spool(tmp_path).close()
    (tmp_path / "producer").write_bytes(content)
    reopened = open_spool(tmp_path)
    assert reopened.producer.startswith("ranker-")
    assert (tmp_path / "producer").read_text() == reopened.producer
    reopened.close()


def test_a_failed_write_is_unavailable_and_the_next_one_works(tmp_path: Path) -> None:
    spool = open_spool(tmp_path)
    spool.append([spooled_event(0)])
    writer = spool._writer
    assert writer is not None
    broken = os.open("/dev/full", os.O_WRONLY)
    os.dup2(broken, writer._handle)
    os.close(broken)
    with pytest.raises(Unavailable) as failed:
        spool.append([spooled_event(1)])
    assert failed.value.reason == "SPOOL_WRITE_FAILED"
    spool.append([spooled_event(2)])
    spool.close()
    records = [event_pb2.LoggedEvent.FromString(record) for _, record in read_log(tmp_path)]
    assert [(r.sequence, r.event.event_id) for r in records] == [(0, "e0"), (1, "e2")]


def test_a_missing_key_holds_up_what_follows_until_it_is_back(tmp_path: Path, sink: Sink) -> None:
    append_under(tmp_path, NAMES, spooled_event(0), spooled_event(1))
    append_under(tmp_path, BOTH_KEYS, spooled_event(2))
    append_under(tmp_path, NAMES, spooled_event(3))
    spool = open_spool(tmp_path)
    shipping = Shipping(spool, sink)
    eventually(lambda: shipping.value("failures_total") >= 2)
    shipping.shipper.close(flush_seconds=0)
    spool.close()
    assert sink.taken == {0: spooled_event(0), 1: spooled_event(1)}
    assert spool.acknowledged() == 2
    assert shipping.value("refused_total") == 0

    spool = Spool(tmp_path, "ranker", BOTH_KEYS)
    Shipping(spool, sink).shipper.close()
    spool.close()
    assert sink.taken == {number: spooled_event(number) for number in range(4)}


@pytest.mark.parametrize("last", [3, 5])
def test_an_event_that_can_never_be_read_is_refused_alone(
    tmp_path: Path, sink: Sink, last: int
) -> None:
    append_under(tmp_path, NAMES, spooled_event(0), spooled_event(1))
    append_under(tmp_path, Pseudonymiser({1: b"another".ljust(64)}, 1), spooled_event(2))
    with LogWriter(tmp_path, durable=False) as log:
        log.append([b"\xff"])
    append_under(tmp_path, NAMES, *(spooled_event(number) for number in range(4, last + 1)))
    spool = open_spool(tmp_path)
    shipping = Shipping(spool, sink)
    shipping.shipper.close()
    spool.close()
    assert sink.taken == {n: spooled_event(n) for n in range(last + 1) if n not in {2, 3}}
    assert spool.acknowledged() == last + 1
    assert shipping.value("refused_total") == 2
    assert shipping.value("shipped_total") == last - 1
