"""Health alone: who is told what, and who is forgotten."""

from __future__ import annotations

from collections.abc import Callable

from grpc_health.v1 import health_pb2

from services.common.serving.core import INVALID_ARGUMENT, NOT_FOUND, OK, UNIMPLEMENTED
from services.common.serving.health import Health

CHECK, WATCH = "/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch"
SERVING, NOT_SERVING, UNKNOWN = (
    health_pb2.HealthCheckResponse.SERVING,
    health_pb2.HealthCheckResponse.NOT_SERVING,
    health_pb2.HealthCheckResponse.SERVICE_UNKNOWN,
)


class FakeCall:
    """A call with one message, or none; what came back, and how it ended."""

    def __init__(self, message: bytes | None) -> None:
        self._message = message
        self.told: list[int] = []
        self.ended: int | None = None
        self.leave: Callable[[], None] = lambda: None

    def receive(self, received: Callable[[FakeCall, bytes | None], None]) -> None:
        received(self, self._message)

    def send(self, message: bytes) -> None:
        self.told.append(health_pb2.HealthCheckResponse.FromString(message).status)

    def answer(self, message: bytes, trailers: object) -> None:
        self.send(message)
        self.end(OK, "", trailers)

    def end(self, code: int, *_: object) -> None:
        if self.ended is None:
            self.ended = code

    def on_end(self, callback: Callable[[], None]) -> None:
        self.leave = callback


def called(health: Health, method: str, service: str) -> FakeCall:
    return called_with(
        health, method, health_pb2.HealthCheckRequest(service=service).SerializeToString()
    )


def called_with(health: Health, method: str, message: bytes | None) -> FakeCall:
    call = FakeCall(message)
    health.methods()[method](call)  # type: ignore[arg-type]
    return call


def test_a_check_says_what_was_set_last() -> None:
    health = Health()
    health.set(["", "a"], NOT_SERVING)
    health.set(["a"], SERVING)
    assert [called(health, CHECK, name).told for name in ("a", "")] == [[SERVING], [NOT_SERVING]]
    unknown = called(health, CHECK, "b")
    assert (unknown.told, unknown.ended) == ([], NOT_FOUND)


def test_who_watches_is_told_of_every_change_until_the_end() -> None:
    health = Health()
    health.set(["a"], NOT_SERVING)
    one, other, early = (called(health, WATCH, name) for name in ("a", "a", "b"))
    health.set(["a", "b"], SERVING)
    one.leave()
    health.set(["a"], NOT_SERVING)
    assert one.told == [NOT_SERVING, SERVING]
    assert other.told == [NOT_SERVING, SERVING, NOT_SERVING]
    assert early.told == [UNKNOWN, SERVING]
    health.end_watches()
    assert (one.ended, other.ended, early.ended) == (None, OK, OK)


def test_names_that_nobody_watches_any_longer_take_no_room() -> None:
    health = Health()
    for number in range(3):
        one, other = (called(health, WATCH, f"guess {number}") for _ in range(2))
        one.leave()
        assert len(health._watches) == 1
        other.leave()
    assert health._watches == {}


def test_bytes_that_are_no_request_and_calls_without_one_are_refused() -> None:
    health = Health()
    for method in (CHECK, WATCH):
        assert called_with(health, method, b"\xff").ended == INVALID_ARGUMENT
        assert called_with(health, method, None).ended == UNIMPLEMENTED
    assert health._watches == {}
