"""What surrounds every Podium method on the server: errors, deadlines, request ids, metrics.

One interceptor for sync servers, one for grpc.aio; both do the same, in this order: decode the
request (bytes that are no request become INVALID_ARGUMENT), refuse when the service is not ready
or has no capacity, set the deadline, call the method, turn an error into its status, count. The
request id goes back in the trailers under ``x-request-id``.

Methods outside the ``podium.`` packages (health, reflection) pass untouched.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from enum import Enum
from typing import Any, TypeAlias

import grpc
from google.protobuf.message import DecodeError

from services.common.call import (
    REQUEST_ID_KEY,
    Call,
    CallPolicy,
    call_from_metadata,
    enter_call,
    leave_call,
)
from services.common.errors import (
    DeadlinePassed,
    InvalidArgument,
    Overloaded,
    PodiumError,
    Unavailable,
)
from services.common.status import RpcStatus, code_name, status_of
from services.common.streams import RequestsUntil, stopping, until_late
from services.common.telemetry import RpcMetrics

DEFAULT_POLICY = CallPolicy(default_deadline_ms=5_000, max_deadline_ms=30_000)
STREAM_POLICY = CallPolicy(default_deadline_ms=None, max_deadline_ms=None)
_PREFIX = "/podium."
_NO_DEADLINE_S = 1e9

_logger = logging.getLogger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


class State(Enum):
    """Stages of a server's life."""

    WARMING = "warming"
    READY = "ready"
    DRAINING = "draining"
    CLOSING = "closing"


class Gate:
    """Whether a method may start: the server's state and how many calls it works on.

    Thread-safe. Streams are not counted: they live long and cost little.
    """

    def __init__(self, max_concurrent_calls: int) -> None:
        self.state = State.WARMING
        self.in_flight = 0
        self._limit = max_concurrent_calls
        # A bare lock: a semaphore costs ten times as much, on every call.
        self._lock = threading.Lock()

    def enter(self) -> None:
        """Counts a call in. Raises ``Unavailable`` while warming or closing, ``Overloaded`` at the
        limit."""
        self.check_ready()
        with self._lock:
            if self.in_flight < self._limit:
                self.in_flight += 1
                return
        raise Overloaded(f"{self._limit} calls are being worked on", retry_after_ms=50)

    def check_ready(self) -> None:
        """Raises ``Unavailable`` while warming or closing. A draining server still takes calls."""
        if self.state is State.WARMING:
            raise Unavailable("the service is starting", reason="NOT_READY")
        if self.state is State.CLOSING:
            raise Unavailable("the service is shutting down", reason="DRAINING")

    def leave(self) -> None:
        """Counts a call out."""
        with self._lock:
            self.in_flight -= 1


class _Undecodable:
    """Stands for a request that could not be decoded."""


_UNDECODABLE = _Undecodable()


def _tolerant(
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


def _unless_encoded(serialise: Callable[[Any], bytes] | None) -> Callable[[Any], bytes] | None:
    """Passes bytes on: a message that goes to many is encoded once."""
    if serialise is None:
        return None
    return lambda message: message if isinstance(message, bytes) else serialise(message)


def _check_decoded(request: object) -> None:
    if request is _UNDECODABLE:
        raise InvalidArgument(
            "the request's bytes are no message of its type, or a string is not UTF-8",
            reason="UNDECODABLE_REQUEST",
        )


class _Observed:
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


def _trailers(call: Call, status: RpcStatus | None = None) -> tuple[tuple[str, str | bytes], ...]:
    own = ((REQUEST_ID_KEY, call.request_id),)
    return own if status is None else (*own, *status.trailing_metadata)


class _Status(grpc.Status):
    """What ``abort_with_status`` wants."""

    def __init__(self, status: RpcStatus, call: Call) -> None:
        self.code = status.code
        self.details = status.message
        self.trailing_metadata = _trailers(call, status)


class SyncInterceptor(grpc.ServerInterceptor):
    """For servers with threads; unary methods only.

    A thread can't be interrupted: a method is to look at ``current_call()``'s deadline where it
    waits, and an answer that is late anyway becomes DEADLINE_EXCEEDED.
    """

    def __init__(self, gate: Gate, metrics: RpcMetrics, policies: Mapping[str, CallPolicy]) -> None:
        metrics.in_flight.set_function(lambda: gate.in_flight)
        self._gate = gate
        self._metrics = metrics
        self._policies = policies
        self._wrapped: dict[str, Handler] = {}

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The method's handler, wrapped once and kept."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = continuation(handler_call_details)
        if handler is None or not method.startswith(_PREFIX) or handler.unary_unary is None:
            return handler
        wrapped = grpc.unary_unary_rpc_method_handler(
            self._wrap(method, handler.unary_unary),
            request_deserializer=_tolerant(handler.request_deserializer),
            response_serializer=handler.response_serializer,
        )
        self._wrapped[method] = wrapped
        return wrapped

    def _wrap(
        self, method: str, behaviour: Callable[[Any, grpc.ServicerContext], object]
    ) -> Callable[[Any, grpc.ServicerContext], object]:
        observed = _Observed(self._metrics, method)
        policy = self._policies.get(method, DEFAULT_POLICY)
        gate = self._gate

        def answer(request: object, context: grpc.ServicerContext) -> object:
            started_s = time.perf_counter()
            remaining_s = context.time_remaining()
            # A sync context states a caller without a deadline as one centuries away.
            asked_s = None if remaining_s > _NO_DEADLINE_S else remaining_s
            call = call_from_metadata(context.invocation_metadata(), policy, asked_s)
            enter_call(call)
            try:
                _check_decoded(request)
                call.check_deadline()
                gate.enter()
                try:
                    response = behaviour(request, context)
                finally:
                    gate.leave()
                call.check_deadline()
            except Exception as error:
                status = observed.ended(started_s, error)
                assert status is not None  # noqa: S101 - there was an error
                context.abort_with_status(_Status(status, call))
            finally:
                leave_call()
            observed.ended(started_s)
            context.set_trailing_metadata(_trailers(call))
            return response

        return answer


class AioInterceptor(grpc.aio.ServerInterceptor):
    """For servers on an event loop; methods answer with one message or a stream.

    A method is cancelled at its deadline. A stream is ended with UNAVAILABLE (DRAINING) when
    ``draining`` is set, since it would outlive any patience; one that takes requests, too, gets no
    more of them then and answers those that it has.
    """

    def __init__(
        self,
        gate: Gate,
        metrics: RpcMetrics,
        policies: Mapping[str, CallPolicy],
        draining: asyncio.Event,
    ) -> None:
        metrics.in_flight.set_function(lambda: gate.in_flight)
        self._gate = gate
        self._metrics = metrics
        self._policies = policies
        self._draining = draining
        self._wrapped: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """The method's handler, wrapped once and kept."""
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is not None:
            return wrapped
        handler = await continuation(handler_call_details)
        if handler is None or not method.startswith(_PREFIX):
            return handler
        decode = _tolerant(handler.request_deserializer)
        encode = _unless_encoded(handler.response_serializer)
        if handler.unary_unary is not None:
            wrapped = grpc.unary_unary_rpc_method_handler(
                self._wrap_unary(method, handler.unary_unary),
                request_deserializer=decode,
                response_serializer=encode,
            )
        elif handler.unary_stream is not None and inspect.isasyncgenfunction(handler.unary_stream):
            wrapped = grpc.unary_stream_rpc_method_handler(
                self._wrap_stream(method, handler.unary_stream, self._draining),
                request_deserializer=decode,
                response_serializer=encode,
            )
        elif handler.stream_stream is not None and inspect.isasyncgenfunction(
            handler.stream_stream
        ):
            wrapped = grpc.stream_stream_rpc_method_handler(
                self._wrap_both_streams(method, handler.stream_stream),
                request_deserializer=decode,
                response_serializer=encode,
            )
        else:
            raise TypeError(f"{method} must be a coroutine or an asynchronous generator")
        self._wrapped[method] = wrapped
        return wrapped

    def _wrap_unary(self, method: str, behaviour: Callable[[Any, Any], Any]) -> Any:
        observed = _Observed(self._metrics, method)
        policy = self._policies.get(method, DEFAULT_POLICY)
        gate = self._gate

        async def answer(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> object:
            started_s = time.perf_counter()
            call = _call_of(context, policy)
            enter_call(call)
            try:
                _check_decoded(request)
                call.check_deadline()
                gate.enter()
                try:
                    response: object = await _within(call, behaviour(request, context))
                finally:
                    gate.leave()
            except asyncio.CancelledError:
                observed.cancelled(started_s)
                raise
            except Exception as error:
                await _abort(context, call, observed.ended(started_s, error))
            observed.ended(started_s)
            context.set_trailing_metadata(_trailers(call))
            return response

        return answer

    def _wrap_stream(
        self,
        method: str,
        behaviour: Callable[[Any, Any], Any],
        draining: asyncio.Event | None,
    ) -> Any:
        observed = _Observed(self._metrics, method)
        policy = self._policies.get(method, STREAM_POLICY)
        streams = self._metrics.streams.labels(method)

        async def answer(
            request: object, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[object]:
            started_s = time.perf_counter()
            call = _call_of(context, policy)
            enter_call(call)
            try:
                _check_decoded(request)
                self._gate.check_ready()
                messages = until_late(behaviour(request, context), call, draining)
                with streams.track_inprogress():
                    async with aclosing(messages):
                        async for message in messages:
                            yield message
            except (asyncio.CancelledError, GeneratorExit):
                observed.cancelled(started_s)
                raise
            except Exception as error:
                await _abort(context, call, observed.ended(started_s, error))
            observed.ended(started_s)
            context.set_trailing_metadata(_trailers(call))

        return answer

    def _wrap_both_streams(self, method: str, behaviour: Callable[[Any, Any], Any]) -> Any:
        """The method ends by itself after its last request, also while draining."""

        async def answered(
            requests: AsyncIterator[object], context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncGenerator[object, None]:
            taken = RequestsUntil(requests, self._draining)
            async with aclosing(behaviour(_decoded(taken), context)) as messages:
                async for message in messages:
                    yield message
            if taken.cut:
                raise stopping()

        return self._wrap_stream(method, answered, draining=None)


async def _decoded(requests: RequestsUntil) -> AsyncIterator[object]:
    async for request in requests:
        _check_decoded(request)
        yield request


def _call_of(context: grpc.aio.ServicerContext[Any, Any], policy: CallPolicy) -> Call:
    asked_s: float | None = context.time_remaining()
    return call_from_metadata(context.invocation_metadata() or (), policy, asked_s)


async def _within(call: Call, answer: Awaitable[object]) -> object:
    """Awaits ``answer`` until the call's deadline. Raises ``DeadlinePassed``."""
    try:
        async with asyncio.timeout(call.remaining_s()) as limit:
            return await answer
    except TimeoutError as error:
        if limit.expired():
            raise DeadlinePassed("the deadline passed before the answer was ready") from error
        raise


async def _abort(
    context: grpc.aio.ServicerContext[Any, Any], call: Call, status: RpcStatus | None
) -> None:
    assert status is not None  # noqa: S101 - there was an error
    await context.abort(status.code, status.message, _trailers(call, status))
