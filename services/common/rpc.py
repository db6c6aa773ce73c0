"""What surrounds a Podium method on either kind of server: decoding, status, metrics, trailers."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any

from google.protobuf.message import DecodeError

from services.common.call import REQUEST_ID_KEY, Call, CallPolicy
from services.common.errors import InvalidArgument, PodiumError
from services.common.status import RpcStatus, code_name, status_of
from services.common.telemetry import RpcMetrics

DEFAULT_POLICY = CallPolicy(default_deadline_ms=5_000, max_deadline_ms=30_000)
STREAM_POLICY = CallPolicy(default_deadline_ms=None, max_deadline_ms=None)

_logger = logging.getLogger(__name__)


class _Undecodable:
    """Stands for a request that could not be decoded."""


_UNDECODABLE = _Undecodable()


def tolerant(
    deserialise: Callable[[bytes], object] | None,
) -> Callable[[bytes], object] | None:
    """Answers with a marker where ``deserialise`` fails: gRPC would make it INTERNAL."""
    if deserialise is None:
        return None

    def decode(data: bytes) -> object:
        try:
            return deserialise(data)
        except (DecodeError, UnicodeError):
            return _UNDECODABLE

    return decode


def check_decoded(request: object) -> None:
    """Raises ``InvalidArgument`` for the marker of ``tolerant``."""
    if request is _UNDECODABLE:
        raise InvalidArgument(
            "the request's bytes are no message of its type, or a string is not UTF-8",
            reason="UNDECODABLE_REQUEST",
        )


def unless_encoded(serialise: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Passes bytes on: a message that goes to many is encoded once."""
    if serialise is None:
        return None
    return lambda message: message if isinstance(message, bytes) else serialise(message)


class Observed:
    """Metrics and the log line of one method."""

    def __init__(self, metrics: RpcMetrics, method: str) -> None:
        self._metrics = metrics
        self._method = method
        self._duration_s = metrics.duration_s.labels(method)
        self._succeeded = metrics.handled.labels(method, code_name(None))

    def ended(self, started_s: float, error: BaseException | None = None) -> RpcStatus | None:
        """Counts a call; the status to end it with where it failed."""
        self._duration_s.observe(time.perf_counter() - started_s)
        if error is None:
            self._succeeded.inc()
            return None
        if not isinstance(error, PodiumError):
            _logger.error("%s failed", self._method, exc_info=error)
        status = status_of(error)
        self._metrics.handled.labels(self._method, code_name(status.code)).inc()
        return status

    def cancelled(self, started_s: float) -> None:
        """Counts a call whose caller has gone."""
        self._duration_s.observe(time.perf_counter() - started_s)
        self._metrics.handled.labels(self._method, "CANCELLED").inc()


def trailers(call: Call, status: RpcStatus | None = None) -> tuple[tuple[str, str | bytes], ...]:
    """Trailing metadata of an answer: the request id, and what a failure has to say."""
    own = ((REQUEST_ID_KEY, call.request_id),)
    return own if status is None else (*own, *status.trailing_metadata)
