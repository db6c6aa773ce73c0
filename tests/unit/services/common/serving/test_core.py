"""The core alone: a port, a thread that polls, and gRPC's own client."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import grpc
import pytest

from services.common.serving.core import NOT_FOUND, Core, IncomingCall
from tests.support.eventually import eventually

TRAILERS = (("said", "so"),)


@contextmanager
def polled(
    arrived: Callable[[IncomingCall], None],
) -> Iterator[tuple[Core, grpc.Channel, list[BaseException]]]:
    """A core that a thread polls, a channel to it, and what failed in it."""
    failures: list[BaseException] = []
    core = Core((), arrived, failures.append)
    port = core.bind("127.0.0.1:0")
    core.start()

    def poll() -> None:
        while not core.closed:
            core.poll(1.0)

    thread = threading.Thread(target=poll, daemon=True)
    thread.start()
    with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
        try:
            yield core, channel, failures
        finally:
            core.close()
            core.cancel()
            thread.join(10)
            assert core.closed


def echo(call: IncomingCall, message: bytes | None) -> None:
    assert message is not None
    call.answer(call.method.encode() + b" " + message, TRAILERS)


def test_a_message_is_answered_with_its_trailers() -> None:
    with polled(lambda call: call.receive(echo)) as (_, channel, failures):
        answer, call = channel.unary_unary("/a/B").with_call(b"hello", timeout=10)
        assert answer == b"/a/B hello"
        assert call.trailing_metadata() == TRAILERS
    assert failures == []


def test_the_first_status_counts() -> None:
    def arrived(call: IncomingCall) -> None:
        call.end(NOT_FOUND, "no such thing", ())
        call.end(0, "", ())

    with polled(arrived) as (_, channel, _), pytest.raises(grpc.RpcError) as raised:
        channel.unary_unary("/a/B")(b"", timeout=10)
    assert raised.value.code() is grpc.StatusCode.NOT_FOUND
    assert raised.value.details() == "no such thing"


def test_messages_of_a_stream_come_in_order_before_its_status() -> None:
    def count(call: IncomingCall, message: bytes | None) -> None:
        assert message is not None
        for number in range(int(message)):
            call.send(str(number).encode())
        call.end(0, "", ())

    with polled(lambda call: call.receive(count)) as (_, channel, _):
        answers = channel.unary_stream("/a/B")(b"50", timeout=10)
        assert [int(answer) for answer in answers] == list(range(50))


def test_who_does_not_read_is_not_heard_further() -> None:
    heard = []
    answer = bytes(1 << 16)

    def asked(call: IncomingCall, message: bytes | None) -> None:
        if message is None:
            call.end(0, "", ())
            return
        heard.append(message)
        call.send(answer)
        call.receive_when_sent(asked)

    with polled(lambda call: call.receive(asked)) as (_, channel, _):
        answers = channel.stream_stream("/a/B")(iter([b"?"] * 400), timeout=60)
        eventually(lambda: heard, "the first question")
        assert next(answers) == answer
        # 25 MiB of answers would wait here otherwise: windows of a connection hold far less.
        eventually(lambda: len(heard) > 1, "the second question")
        assert len(heard) < 400
        assert sum(1 for _ in answers) == 399
    assert len(heard) == 400


def test_an_error_ends_neither_the_thread_nor_other_calls() -> None:
    def arrived(call: IncomingCall) -> None:
        if call.method == "/a/Wrong":
            raise ValueError("of its own")
        call.receive(echo)

    with polled(arrived) as (_, channel, failures):
        wrong = channel.unary_unary("/a/Wrong").future(b"", timeout=60)
        eventually(lambda: failures, "the failure")
        assert channel.unary_unary("/a/B")(b"x", timeout=10) == b"/a/B x"
        wrong.cancel()
    assert [str(error) for error in failures] == ["of its own"]


def test_a_caller_that_leaves_is_told_from_one_whose_time_is_over() -> None:
    calls: dict[str, IncomingCall] = {}
    ended = threading.Semaphore(0)

    def arrived(call: IncomingCall) -> None:
        calls[call.method] = call
        call.on_end(ended.release)

    with polled(arrived) as (_, channel, _):
        left = channel.unary_unary("/a/Left").future(b"", timeout=60)
        eventually(lambda: "/a/Left" in calls, "the call")
        assert calls["/a/Left"].is_active()
        left.cancel()
        late = channel.unary_unary("/a/Late").future(b"", timeout=0.2)
        assert all(ended.acquire(timeout=10) for _ in range(2))
        assert late.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        assert not any(call.is_active() for call in calls.values())
        assert [calls[name].has_left() for name in ("/a/Left", "/a/Late")] == [True, False]
        assert calls["/a/Late"].deadline_s is not None
        assert calls["/a/Late"].deadline_s <= time.monotonic() + 0.2


def test_a_port_that_is_taken_is_told() -> None:
    with polled(lambda call: call.receive(echo)) as (core, _, _):
        # The port of the first is not known here: a name that is no address does as well.
        assert core.bind("999.999.999.999:1") == 0
