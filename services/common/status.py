"""The one table from domain errors to gRPC statuses, and the way back on the client's side.

Every error status carries ``grpc-status-details-bin`` with ErrorInfo (domain ``podium``, the
error's reason), BadRequest for wrong fields, and RetryInfo on overload, or where it is known when a
part that is down is worth another try, together with the trailer ``grpc-retry-pushback-ms``, which
gRPC's built-in retries obey. A VersionConflict's ErrorInfo has the version in force as metadata.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple, Protocol, runtime_checkable

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from services.common.errors import (
    AlreadyExists,
    BundleError,
    ConfigError,
    DeadlinePassed,
    FailedPrecondition,
    FieldViolation,
    InvalidArgument,
    NotFound,
    Overloaded,
    PermissionDenied,
    PodiumError,
    Unavailable,
    UnknownFeatureView,
    VersionConflict,
)

DOMAIN = "podium"
DETAILS_KEY = "grpc-status-details-bin"
PUSHBACK_KEY = "grpc-retry-pushback-ms"
VERSION_KEY = "version"

# The most special class comes first. ConfigError cannot leave a service that has started.
STATUS_TABLE: tuple[tuple[type[PodiumError], grpc.StatusCode], ...] = (
    (InvalidArgument, grpc.StatusCode.INVALID_ARGUMENT),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (AlreadyExists, grpc.StatusCode.ALREADY_EXISTS),
    (PermissionDenied, grpc.StatusCode.PERMISSION_DENIED),
    (UnknownFeatureView, grpc.StatusCode.FAILED_PRECONDITION),
    (FailedPrecondition, grpc.StatusCode.FAILED_PRECONDITION),
    (VersionConflict, grpc.StatusCode.ABORTED),
    (Overloaded, grpc.StatusCode.RESOURCE_EXHAUSTED),
    (DeadlinePassed, grpc.StatusCode.DEADLINE_EXCEEDED),
    (Unavailable, grpc.StatusCode.UNAVAILABLE),
    (BundleError, grpc.StatusCode.FAILED_PRECONDITION),
    (ConfigError, grpc.StatusCode.INTERNAL),
    (PodiumError, grpc.StatusCode.INTERNAL),
)

MAX_MESSAGE_BYTES = 1_024
"""Of an error's text: gRPC drops a call's trailers above 8 KiB, and the whole error with them."""

MAX_VIOLATIONS_BYTES = 2_048
"""Of all wrong fields together."""

_LEFT_OUT = " … "
_INTERNAL_MESSAGE = "internal error; the service's log has it under the request id"


class RpcStatus(NamedTuple):
    """What a call is ended with."""

    code: grpc.StatusCode
    message: str
    trailing_metadata: tuple[tuple[str, str | bytes], ...]


@runtime_checkable
class _FailedCall(Protocol):
    """What errors of sync and of aio calls have in common; ``grpc.RpcError`` declares nothing."""

    def code(self) -> grpc.StatusCode: ...

    def details(self) -> str | None: ...

    def trailing_metadata(self) -> Iterable[tuple[str, str | bytes]] | None: ...


def code_of(error: BaseException) -> grpc.StatusCode:
    """Status code of an error; INTERNAL for what is not a ``PodiumError``."""
    for kind, code in STATUS_TABLE:
        if isinstance(error, kind):
            return code
    return grpc.StatusCode.INTERNAL


def code_number(error: BaseException) -> int:
    """The same as gRPC's number, e.g. 3 for INVALID_ARGUMENT."""
    number: int = code_of(error).value[0]
    return number


def code_name(code: grpc.StatusCode | None) -> str:
    """Name of a status for logs and metrics; OK for None."""
    return "OK" if code is None else code.name


def status_of(error: BaseException) -> RpcStatus:
    """Status, message and trailers for an error. An unexpected error's text is not let out."""
    code = code_of(error)
    expected = isinstance(error, PodiumError) and code is not grpc.StatusCode.INTERNAL
    message = shown(str(error), MAX_MESSAGE_BYTES) if expected else _INTERNAL_MESSAGE
    reason = error.reason if isinstance(error, PodiumError) else "INTERNAL"
    status = status_pb2.Status(code=code.value[0], message=message)
    info = error_details_pb2.ErrorInfo(domain=DOMAIN, reason=reason)
    if isinstance(error, VersionConflict):
        info.metadata[VERSION_KEY] = str(error.version)
    _attach(status, info)
    trailers: list[tuple[str, str | bytes]] = []
    if isinstance(error, InvalidArgument) and error.violations:
        _attach(status, _bad_request(error.violations))
    if isinstance(error, Overloaded | Unavailable) and error.retry_after_ms is not None:
        delay = Duration()
        delay.FromMilliseconds(error.retry_after_ms)
        _attach(status, error_details_pb2.RetryInfo(retry_delay=delay))
        trailers.append((PUSHBACK_KEY, str(error.retry_after_ms)))
    trailers.append((DETAILS_KEY, status.SerializeToString()))
    return RpcStatus(code, message, tuple(trailers))


def shown(text: str, max_bytes: int) -> str:
    """A text that can be sent, of ``max_bytes`` UTF-8 bytes or less: half a surrogate pair is
    replaced, and the middle left out of what is longer, since both ends tell what is wrong."""
    sendable = text.encode("utf-8", "backslashreplace")
    if len(sendable) <= max_bytes:
        return sendable.decode()
    half = max_bytes // 2 - len(_LEFT_OUT.encode())
    return (
        sendable[:half].decode("utf-8", "ignore")
        + _LEFT_OUT
        + sendable[-half:].decode("utf-8", "ignore")
    )


def error_from_rpc(error: BaseException) -> PodiumError:
    """The domain error behind a failed call, for clients.

    Reason, field violations and retry delay come from the status details where the server sent
    them; otherwise the status code decides, and the reason is its name.
    """
    if not isinstance(error, _FailedCall):
        return Unavailable(str(error))
    code = error.code()
    message = error.details() or code.name
    reason = code.name
    violations: list[FieldViolation] = []
    retry_after_ms: int | None = None
    version = 0
    for detail in _details(error):
        info, request = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
        retry = error_details_pb2.RetryInfo()
        if detail.Unpack(info) and info.domain == DOMAIN:
            reason = info.reason
            version = int(info.metadata.get(VERSION_KEY, version))
        elif detail.Unpack(request):
            violations = [FieldViolation(v.field, v.description) for v in request.field_violations]
        elif detail.Unpack(retry):
            retry_after_ms = retry.retry_delay.ToMilliseconds()
    match code:
        case grpc.StatusCode.INVALID_ARGUMENT:
            return InvalidArgument(message, violations=violations, reason=reason)
        case grpc.StatusCode.NOT_FOUND:
            return NotFound(message, reason=reason)
        case grpc.StatusCode.ALREADY_EXISTS:
            return AlreadyExists(message, reason=reason)
        case grpc.StatusCode.ABORTED if version:
            return VersionConflict(message, version=version, reason=reason)
        case grpc.StatusCode.PERMISSION_DENIED:
            return PermissionDenied(message, reason=reason)
        case grpc.StatusCode.FAILED_PRECONDITION if reason == UnknownFeatureView.reason:
            return UnknownFeatureView(message)
        case grpc.StatusCode.FAILED_PRECONDITION:
            return FailedPrecondition(message, reason=reason)
        case grpc.StatusCode.RESOURCE_EXHAUSTED:
            return Overloaded(message, retry_after_ms=retry_after_ms or 100, reason=reason)
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return DeadlinePassed(message, reason=reason)
        case grpc.StatusCode.UNAVAILABLE | grpc.StatusCode.CANCELLED:
            return Unavailable(message, retry_after_ms=retry_after_ms, reason=reason)
        case _:
            return PodiumError(message, reason=reason)


def _bad_request(violations: Iterable[FieldViolation]) -> error_details_pb2.BadRequest:
    """The wrong fields, as many as fit; the first in any case."""
    found = error_details_pb2.BadRequest()
    for violation in violations:
        found.field_violations.add(
            field=shown(violation.field, MAX_MESSAGE_BYTES),
            description=shown(violation.description, MAX_MESSAGE_BYTES),
        )
        if found.ByteSize() > MAX_VIOLATIONS_BYTES and len(found.field_violations) > 1:
            del found.field_violations[-1]
            break
    return found


def _attach(status: status_pb2.Status, detail: object) -> None:
    packed: AnyMessage = status.details.add()
    packed.Pack(detail)  # type: ignore[arg-type]


def _details(error: _FailedCall) -> list[AnyMessage]:
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY and isinstance(value, bytes):
            return list(status_pb2.Status.FromString(value).details)
    return []
