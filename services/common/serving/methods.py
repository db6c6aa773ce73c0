"""What happens between a call's arrival and its end, by method."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any

from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from services.common.call import Call, CallPolicy, call_from_metadata
from services.common.errors import DeadlinePassed
from services.common.gate import Gate
from services.common.rpc import DEFAULT_POLICY, Observed, check_decoded, tolerant, trailers
from services.common.serving.core import ONE_REQUEST, UNIMPLEMENTED, IncomingCall, Metadata
from services.common.serving.promise import Tasks
from services.common.telemetry import RpcMetrics

Method = Callable[[IncomingCall], None]


class CallContext:
    """What a method learns of its call beside the request."""

    __slots__ = ("_incoming", "call")

    def __init__(self, incoming: IncomingCall, call: Call) -> None:
        self._incoming = incoming
        self.call = call

    def is_active(self) -> bool:
        """Whether the caller still waits."""
        return self._incoming.is_active()

    def peer_identities(self) -> Sequence[bytes]:
        """Who the caller is by its certificate; empty without one."""
        return self._incoming.identities()

    def invocation_metadata(self) -> Metadata:
        """What came with the request."""
        return self._incoming.metadata


Behaviour = Callable[[Any, CallContext], Coroutine[Any, None, Message]]


class UnaryMethod:
    """A coroutine that answers one request with one message.

    Its request is decoded (bytes that are no request become INVALID_ARGUMENT) and refused when the
    service is not ready or has no capacity; the coroutine is run, an error becomes its status, and
    the call is counted. The request id goes back in the trailers under ``x-request-id``.
    """

    def __init__(
        self,
        behaviour: Behaviour,
        decode: Callable[[bytes], object],
        gate: Gate,
        observed: Observed,
        policy: CallPolicy,
        tasks: Tasks,
    ) -> None:
        self._behaviour = behaviour
        self._decode = tolerant(decode)
        self._gate = gate
        self._observed = observed
        self._policy = policy
        self._tasks = tasks

    def __call__(self, incoming: IncomingCall) -> None:
        """Answers a call."""
        incoming.receive(self._received)

    def _received(self, incoming: IncomingCall, message: bytes | None) -> None:
        if message is None:
            incoming.end(UNIMPLEMENTED, ONE_REQUEST, ())
            return
        asked_s = None
        if incoming.deadline_s is not None:
            asked_s = max(0.0, incoming.deadline_s - time.monotonic())
        call = call_from_metadata(incoming.metadata, self._policy, asked_s)
        incoming.on_end(self._tasks.start(self._answer(incoming, call, message), call))

    async def _answer(self, incoming: IncomingCall, call: Call, message: bytes) -> None:
        started_s = time.perf_counter()
        try:
            assert self._decode is not None  # noqa: S101 - it was given one
            request = self._decode(message)
            check_decoded(request)
            call.check_deadline()
            self._gate.enter()
            try:
                response = await self._behaviour(request, CallContext(incoming, call))
            finally:
                self._gate.leave()
            call.check_deadline()
            answer = response.SerializeToString()
        except Exception as error:
            if isinstance(error, DeadlinePassed) and incoming.has_left():
                self._observed.cancelled(started_s)
                return
            status = self._observed.ended(started_s, error)
            assert status is not None  # noqa: S101 - there was an error
            incoming.end(status.code.value[0], status.message, trailers(call, status))
        else:
            self._observed.ended(started_s)
            incoming.answer(answer, trailers(call))


def unary_methods(
    service: ServiceDescriptor,
    servicer: object,
    gate: Gate,
    metrics: RpcMetrics,
    policies: Mapping[str, CallPolicy],
    tasks: Tasks,
) -> dict[str, Method]:
    """The methods of a service that ``servicer`` has, by full name."""
    methods: dict[str, Method] = {}
    for described in service.methods:
        behaviour: Behaviour | None = getattr(servicer, described.name, None)
        if behaviour is None:
            continue
        name = f"/{service.full_name}/{described.name}"
        request = GetMessageClass(described.input_type)
        methods[name] = UnaryMethod(
            behaviour,
            request.FromString,
            gate,
            Observed(metrics, name),
            policies.get(name, DEFAULT_POLICY),
            tasks,
        )
    return methods
