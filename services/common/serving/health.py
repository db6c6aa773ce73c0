"""``grpc.health.v1`` and reflection for a server on one thread."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Sequence

from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection
from grpc_reflection.v1alpha.reflection_pb2 import ServerReflectionRequest

from services.common.health import SERVICE_NAME
from services.common.serving.core import (
    INVALID_ARGUMENT,
    NOT_FOUND,
    OK,
    ONE_REQUEST,
    UNIMPLEMENTED,
    IncomingCall,
)
from services.common.serving.methods import Method

_UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN


class Health:
    """Statuses by service, and those who watch them. ``set`` and ``end_watches`` may come from any
    thread."""

    def __init__(self) -> None:
        self._statuses: dict[str, int] = {}
        self._watches: dict[str, set[IncomingCall]] = {}
        self._lock = threading.Lock()

    def methods(self) -> dict[str, Method]:
        """By full name."""
        return {
            f"/{SERVICE_NAME}/Check": lambda call: call.receive(self._check),
            f"/{SERVICE_NAME}/Watch": lambda call: call.receive(self._watch),
        }

    def set(self, services: Iterable[str], status: int) -> None:
        """Sets the status of services and tells who watches them."""
        with self._lock:
            for service in services:
                self._statuses[service] = status
                for call in self._watches.get(service, ()):
                    call.send(_response(status))

    def end_watches(self) -> None:
        """Ends every open watch with OK: one would hold a drain up until its time is over."""
        with self._lock:
            watches = [call for calls in self._watches.values() for call in calls]
        for call in watches:
            call.end(OK, "", ())

    def _check(self, call: IncomingCall, message: bytes | None) -> None:
        service = _service(call, message)
        if service is None:
            return
        with self._lock:
            status = self._statuses.get(service)
        if status is None:
            call.end(NOT_FOUND, "", ())
        else:
            call.answer(_response(status), ())

    def _watch(self, call: IncomingCall, message: bytes | None) -> None:
        service = _service(call, message)
        if service is None:
            return
        with self._lock:
            call.send(_response(self._statuses.get(service, _UNKNOWN)))
            self._watches.setdefault(service, set()).add(call)
        call.on_end(lambda: self._forget(service, call))

    def _forget(self, service: str, call: IncomingCall) -> None:
        with self._lock:
            watches = self._watches[service]
            watches.discard(call)
            if not watches:
                del self._watches[service]


def _service(call: IncomingCall, message: bytes | None) -> str | None:
    """The service that is asked for; None where the call was ended."""
    if message is None:
        call.end(UNIMPLEMENTED, ONE_REQUEST, ())
        return None
    try:
        service: str = health_pb2.HealthCheckRequest.FromString(message).service
    except DecodeError:
        call.end(INVALID_ARGUMENT, "the request's bytes are no message of its type", ())
        return None
    return service


def _response(status: int) -> bytes:
    encoded: bytes = health_pb2.HealthCheckResponse(status=status).SerializeToString()
    return encoded


class Reflection:
    """Describes services to whoever asks."""

    def __init__(self, services: Sequence[str]) -> None:
        self._servicer = reflection.ReflectionServicer(services)

    def methods(self) -> dict[str, Method]:
        """By full name."""
        name = f"/{reflection.SERVICE_NAME}/ServerReflectionInfo"
        return {name: lambda call: call.receive(self._asked)}

    def _asked(self, call: IncomingCall, message: bytes | None) -> None:
        if message is None:
            call.end(OK, "", ())
            return
        try:
            request = ServerReflectionRequest.FromString(message)
        except DecodeError:
            call.end(INVALID_ARGUMENT, "the request's bytes are no message of its type", ())
            return
        for response in self._servicer.ServerReflectionInfo(iter([request]), None):
            call.send(response.SerializeToString())
        call.receive_when_sent(self._asked)
