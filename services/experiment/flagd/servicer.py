"""flagd's evaluation methods: convert, call, convert. A Resolve assigns and writes nothing: it is
no exposure."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from services.common.call import CallPolicy
from services.common.rpc import STREAM_POLICY
from services.experiment.flagd.convert import Answers, asked_context, flag_key
from services.experiment.flagd.events import FlagEvents
from services.experiment.flagd.resolving import Resolution, resolve, resolve_all
from services.experiment.source import DefinitionsSource

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE_NAMES = ("flagd.evaluation.v1.Service", "flagd.evaluation.v2.Service")
_RESOLVE = CallPolicy(default_deadline_ms=500, max_deadline_ms=5_000)
_METHODS = {
    "ResolveAll": CallPolicy(default_deadline_ms=2_000, max_deadline_ms=10_000),
    "ResolveBoolean": _RESOLVE,
    "ResolveString": _RESOLVE,
    "ResolveFloat": _RESOLVE,
    "ResolveInt": _RESOLVE,
    "ResolveObject": _RESOLVE,
    "EventStream": STREAM_POLICY,
}
POLICIES = {
    f"/{service}/{method}": policy
    for service in SERVICE_NAMES
    for method, policy in _METHODS.items()
}


class FlagdServicer:
    """Answers in the messages of one version of the interface. ``clock_ms``: for schedules and time
    slices."""

    def __init__(
        self,
        answers: Answers,
        source: DefinitionsSource,
        events: FlagEvents,
        clock_ms: Callable[[], int],
    ) -> None:
        self._answers = answers
        self._source = source
        self._events = events
        self._clock_ms = clock_ms

    async def ResolveAll(self, request: Any, context: Context) -> Any:  # noqa: ARG002 - gRPC's
        """All flags that have something for somebody."""
        asked = asked_context(request.context, self._clock_ms())
        definitions = self._source.current().definitions
        return self._answers.all_(resolve_all(definitions, asked), definitions)

    async def ResolveBoolean(self, request: Any, context: Context) -> Any:  # noqa: ARG002 - gRPC's
        """A flag that is true or false."""
        return self._answers.boolean(*self._resolved(request))

    async def ResolveString(self, request: Any, context: Context) -> Any:  # noqa: ARG002 - gRPC's
        """A flag that is a text, or the variant of an experiment."""
        return self._answers.string(*self._resolved(request))

    async def ResolveFloat(self, request: Any, context: Context) -> Any:  # noqa: ARG002 - gRPC's
        """A flag that is a number."""
        return self._answers.number(*self._resolved(request))

    async def ResolveInt(self, request: Any, context: Context) -> Any:  # noqa: ARG002 - gRPC's
        """A flag that is a whole number."""
        return self._answers.whole(*self._resolved(request))

    async def ResolveObject(self, request: Any, context: Context) -> Any:  # noqa: ARG002 - gRPC's
        """A flag that is an object."""
        return self._answers.object_(*self._resolved(request))

    async def EventStream(
        self,
        request: Any,  # noqa: ARG002 - gRPC's
        context: Context,  # noqa: ARG002 - gRPC's
    ) -> AsyncIterator[bytes]:
        """Says that the service is there, then which flags change."""
        async with aclosing(self._events.stream()) as events:
            async for event in events:
                yield event

    def _resolved(self, request: Any) -> tuple[str, Resolution]:
        key = flag_key(request.flag_key)
        asked = asked_context(request.context, self._clock_ms())
        return key, resolve(self._source.current().definitions, key, asked)
