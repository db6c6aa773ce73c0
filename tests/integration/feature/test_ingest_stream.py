"""IngestStream of a real service over a real channel."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from queue import SimpleQueue

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from podium.event.v1.event_pb2 import Event, LoggedEvent
from podium.feature.v1 import feature_pb2
from services.common.clock import system_clock_ms as now_ms
from services.common.errors import Overloaded
from services.common.event_log import read_log
from services.common.status import error_from_rpc
from services.feature.ingest.types import IngestLimits
from services.feature.servicer import INGEST_STREAMS
from tests.integration.feature.conftest import DOMAIN_FILE
from tests.support.eventually import eventually
from tests.support.faulty_files import FailingFiles
from tests.support.feature_server import RunningService, running_service
from tests.support.feature_streams import interaction

Request = feature_pb2.IngestStreamRequest
Response = feature_pb2.IngestStreamResponse


def click(event_id: str, course: str = "c") -> Event:
    return interaction(event_id, "click", now_ms(), "ann", f"course:{course}")


def request(sequence: int, *events: Event) -> Request:
    return Request(sequence=sequence, events=events)


class Sending:
    """Requests that a caller sends one by one, until ``end``."""

    def __init__(self) -> None:
        self._queue: SimpleQueue[Request | None] = SimpleQueue()

    def send(self, *requests: Request) -> None:
        for message in requests:
            self._queue.put(message)

    def end(self) -> None:
        self._queue.put(None)

    def __iter__(self) -> Iterator[Request]:
        while (message := self._queue.get()) is not None:
            yield message


def call(running: RunningService, requests: Iterable[Request]) -> Iterator[Response]:
    return running.client.stub.IngestStream(iter(requests), timeout=60)


def stored_ids(running: RunningService) -> list[str]:
    """Ids in the log, without duplicates' records."""
    records = (LoggedEvent.FromString(data) for _, data in read_log(running.files.log_dir))
    return [record.event.event_id for record in records if not record.duplicate]


def test_every_request_is_answered_in_order(running: RunningService) -> None:
    requests = [
        request(10 * n, *(click(f"o-{n}-{i}", "o-c") for i in range(1 + n % 7))) for n in range(60)
    ]
    answers = list(call(running, requests))
    assert [a.acked_through_sequence for a in answers] == [10 * n for n in range(60)]
    assert [a.accepted for a in answers] == [1 + n % 7 for n in range(60)]
    (row,) = running.client.get("course", "o-c", position=answers[-1].log_position)
    assert row["clicks_1h"][0] == sum(1 + n % 7 for n in range(60))


def test_an_answer_comes_before_the_stream_ends(running: RunningService) -> None:
    sending = Sending()
    answers = call(running, sending)
    for number in range(3):
        sending.send(request(number, click(f"b-{number}")))
        assert next(answers).acked_through_sequence == number
    sending.end()
    assert list(answers) == []


def test_a_bad_event_fails_neither_its_request_nor_the_stream(running: RunningService) -> None:
    bad = click("bad")
    bad.ClearField("event_time")
    other = click("r-1")
    other.type = "cart"
    answers = list(
        call(
            running,
            [request(0, click("r-1"), bad, click("r-2")), request(1, other, click("r-3"))],
        )
    )
    assert [a.accepted for a in answers] == [2, 1]
    first, second = (a.rejections[0] for a in answers)
    assert (first.index, first.event_id, first.code) == (1, "bad", 3)
    assert (second.index, second.event_id, second.reason) == (0, "r-1", "EVENT_ID_CONFLICT")
    assert not {"bad"} & set(stored_ids(running))


def test_a_broken_stream_is_resumed_without_loss_or_repetition(running: RunningService) -> None:
    requests = [request(n, *(click(f"s-{n}-{i}") for i in range(20))) for n in range(40)]
    sending = Sending()
    sending.send(*requests[:25])
    answers = running.client.stub.IngestStream(iter(sending), timeout=60)
    acked = next(answers).acked_through_sequence
    answers.cancel()
    sending.end()

    again = list(call(running, requests[acked + 1 :]))

    assert again[-1].acked_through_sequence == 39
    stored = [event_id for event_id in stored_ids(running) if event_id.startswith("s-")]
    assert sorted(stored) == sorted(e.event_id for r in requests for e in r.events)


@pytest.mark.parametrize(
    ("spoilt", "field"),
    [
        (Request(sequence=1), "events"),
        (Request(sequence=1, events=[Event()] * 1_001), "events"),
        (request(0, click("n")), "sequence"),
        (request(1 << 62, click("n")), "sequence"),
        (Request(sequence=1, events=[Event()], first_sequence=3), "first_sequence"),
    ],
)
def test_a_bad_request_ends_the_stream_after_the_answers_before(
    running: RunningService, spoilt: Request, field: str
) -> None:
    answers = call(running, [request(0, click(f"e-{field}")), spoilt, request(9, click("never"))])
    assert next(answers).acked_through_sequence == 0
    with pytest.raises(grpc.RpcError) as ended:
        next(answers)
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert str(error_from_rpc(ended.value)).startswith(f"{field}: ")
    assert "never" not in stored_ids(running)


def test_undecodable_bytes_end_the_stream(running: RunningService) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        raw = channel.stream_stream("/podium.feature.v1.FeatureService/IngestStream")
        good = request(0, click("u-1")).SerializeToString()
        answers = raw(iter([good, b"\xff\xff"]), timeout=60)
        assert Response.FromString(next(answers)).accepted == 1
        with pytest.raises(grpc.RpcError) as ended:
            next(answers)
    assert ended.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def retry_advice(error: grpc.RpcError) -> tuple[int, str]:
    """(milliseconds in RetryInfo, the trailer) of a refusal."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    info = error_details_pb2.RetryInfo()
    assert any(detail.Unpack(info) for detail in status.details)
    return info.retry_delay.ToMilliseconds(), trailers["grpc-retry-pushback-ms"]


def test_a_backlog_of_applying_refuses_with_advice(tmp_path: Path) -> None:
    limits = IngestLimits(max_unapplied_events=20)
    with running_service(DOMAIN_FILE, tmp_path, limits=limits) as running:
        pid = running.service.apply.pid
        assert pid is not None
        os.kill(pid, signal.SIGSTOP)
        batch = [click(f"a-{n}") for n in range(21)]
        assert running.client.ingest(*batch).accepted == 21
        with pytest.raises(grpc.RpcError) as unary:
            running.client.ingest(click("more"))
        answers = call(running, [request(0, click("more"))])
        with pytest.raises(grpc.RpcError) as streamed:
            next(answers)
        for refused in (unary.value, streamed.value):
            assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert error_from_rpc(refused).reason == "APPLY_BACKLOG"
            assert retry_advice(refused) == (250, "250")
        # Reads go on.
        assert running.client.get("course", "c")
        os.kill(pid, signal.SIGCONT)
        eventually(lambda: running.metric("podium_feature_unapplied_records") == 0)
        (answer,) = call(running, [request(0, click("more"))])
        assert answer.accepted == 1


def test_a_full_disk_refuses_until_there_is_room(tmp_path: Path) -> None:
    files = FailingFiles()
    with running_service(DOMAIN_FILE, tmp_path, log_files=files) as running:
        first = running.client.ingest(click("d-0"))
        running.client.get("course", "c", position=first.log_position)
        files.room = 100
        for _ in range(2):
            with pytest.raises(grpc.RpcError) as unary:
                running.client.ingest(click("d-1"))
            with pytest.raises(grpc.RpcError) as streamed:
                next(call(running, [request(0, click("d-2"))]))
            for refused in (unary.value, streamed.value):
                assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
                assert isinstance(error_from_rpc(refused), Overloaded)
                assert error_from_rpc(refused).reason == "DISK_FULL"
                assert retry_advice(refused) == (1_000, "1000")
            (row,) = running.client.get("course", "c")
            assert row["clicks_1h"] == (1, "PRESENT")
        files.room = None
        (answer,) = call(running, [request(0, click("d-1"), click("d-2"))])
        assert answer.accepted == 2
        (row,) = running.client.get("course", "c", position=answer.log_position)
        assert row["clicks_1h"] == (3, "PRESENT")
        assert stored_ids(running) == ["d-0", "d-1", "d-2"]


def test_a_drain_answers_what_was_received_and_ends_the_stream(tmp_path: Path) -> None:
    with running_service(DOMAIN_FILE, tmp_path) as running:
        sending = Sending()
        answers = call(running, sending)
        sending.send(*(request(n, click(f"g-{n}")) for n in range(200)))
        acked = [next(answers).acked_through_sequence]
        draining = threading.Thread(target=running.drain)
        draining.start()
        rest = (answer.acked_through_sequence for answer in answers)
        with pytest.raises(grpc.RpcError) as ended:
            # What comes before the error is kept.
            acked.extend(rest)
        draining.join(60)
        sending.end()
        assert ended.value.code() is grpc.StatusCode.UNAVAILABLE
        assert error_from_rpc(ended.value).reason == "DRAINING"
        assert acked == list(range(len(acked)))
        assert stored_ids(running) == [f"g-{n}" for n in acked]


def test_streams_are_bounded(running: RunningService) -> None:
    sendings = [Sending() for _ in range(INGEST_STREAMS)]
    streams = []
    for number, sending in enumerate(sendings):
        sending.send(request(0, click(f"m-{number}")))
        streams.append(call(running, sending))
    for stream in streams:
        assert next(stream).acked_through_sequence == 0
    with pytest.raises(grpc.RpcError) as refused:
        next(call(running, [request(0, click("m-more"))]))
    assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert error_from_rpc(refused.value).reason == "INGEST_STREAMS"
    assert retry_advice(refused.value) == (250, "250")
    for sending, stream in zip(sendings, streams, strict=True):
        sending.end()
        assert list(stream) == []
    (answer,) = call(running, [request(0, click("m-more"))])
    assert answer.accepted == 1


def test_a_hot_key_holds_neither_ingest_nor_reads_up(running: RunningService) -> None:
    requests = [request(n, *(click(f"h-{n}-{i}", "hot") for i in range(1_000))) for n in range(10)]
    position = 0
    for answer in call(running, requests):
        position = answer.log_position
        # Reads are answered meanwhile, from whatever is applied.
        assert running.client.get("course", "hot")
    (row,) = running.client.get("course", "hot", position=position)
    assert row["clicks_1h"] == (10_000, "PRESENT")
