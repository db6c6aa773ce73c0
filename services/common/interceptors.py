"""What surrounds a service's methods on a grpc.aio server: errors, deadlines, request ids, metrics.

In this order: decode the request (bytes that are no request become INVALID_ARGUMENT), refuse when
the service is not ready or has no capacity, set the deadline, call the method, turn an error into
its status, count. The request id goes back in the trailers under ``x-request-id``.
``services.common.serving.methods`` does the same for calls on one thread.

Methods outside of the packages ``podium`` and ``flagd`` (health, reflection) pass untouched.
"""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any, TypeAlias

import grpc

from services.common.call import Call, CallPolicy, call_from_metadata, enter_call
from services.common.errors import DeadlinePassed
from services.common.gate import Gate
from services.common.rpc import (
    DEFAULT_POLICY,
    STREAM_POLICY,
    Observed,
    check_decoded,
    tolerant,
    trailers,
    unless_encoded,
)
from services.common.status import RpcStatus
from services.common.streams import RequestsUntil, stopping, until_late
from services.common.telemetry import RpcMetrics

_PREFIXES = ("/podium.", "/flagd.")

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"


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
        if handler is None or not method.startswith(_PREFIXES):
            return handler
        decode = tolerant(handler.request_deserializer)
        encode = unless_encoded(handler.response_serializer)
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
        observed = Observed(self._metrics, method)
        policy = self._policies.get(method, DEFAULT_POLICY)
        gate = self._gate

        async def answer(request: object, context: grpc.aio.ServicerContext[Any, Any]) -> object:
            started_s = time.perf_counter()
            call = _call_of(context, policy)
            enter_call(call)
            try:
                check_decoded(request)
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
            context.set_trailing_metadata(trailers(call))
            return response

        return answer

    def _wrap_stream(
        self,
        method: str,
        behaviour: Callable[[Any, Any], Any],
        draining: asyncio.Event | None,
    ) -> Any:
        observed = Observed(self._metrics, method)
        policy = self._policies.get(method, STREAM_POLICY)
        streams = self._metrics.streams.labels(method)

        async def answer(
            request: object, context: grpc.aio.ServicerContext[Any, Any]
        ) -> AsyncIterator[object]:
            started_s = time.perf_counter()
            call = _call_of(context, policy)
            enter_call(call)
            try:
                check_decoded(request)
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
            context.set_trailing_metadata(trailers(call))

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
        check_decoded(request)
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
    await context.abort(status.code, status.message, trailers(call, status))
