"""The experiment service's methods: convert, call, convert."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from podium.experiment.v1 import experiment_pb2
from services.common.assign.assign import evaluate
from services.common.call import CallPolicy
from services.common.rpc import STREAM_POLICY
from services.experiment import convert, convert_assigning, servicer_registry
from services.experiment.servicer_registry import SERVICE_NAME, OpenRegistry
from services.experiment.source import DefinitionsSource
from services.experiment.watch.stream import DefinitionsWatch

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]

POLICIES = {
    **servicer_registry.POLICIES,
    f"/{SERVICE_NAME}/Assign": CallPolicy(default_deadline_ms=500, max_deadline_ms=5_000),
    f"/{SERVICE_NAME}/AssignBatch": CallPolicy(default_deadline_ms=5_000, max_deadline_ms=30_000),
    f"/{SERVICE_NAME}/ListExperiments": CallPolicy(
        default_deadline_ms=2_000, max_deadline_ms=10_000
    ),
    f"/{SERVICE_NAME}/WatchExperiments": STREAM_POLICY,
}


class ExperimentServicer(servicer_registry.RegistryServicer):
    """Answers from the definitions in force. ``clock_ms``: for schedules and time slices;
    ``opened``: the registry, None where the definitions come from a file."""

    def __init__(
        self,
        source: DefinitionsSource,
        watch: DefinitionsWatch,
        clock_ms: Callable[[], int],
        opened: OpenRegistry | None = None,
    ) -> None:
        super().__init__(opened)
        self._source = source
        self._watch = watch
        self._clock_ms = clock_ms

    async def Assign(
        self,
        request: experiment_pb2.AssignRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> experiment_pb2.AssignResponse:
        """Assigns one visitor."""
        call = convert_assigning.assign_call(request, self._clock_ms())
        definitions = self._source.current().definitions
        evaluation = evaluate(definitions, call.context, call.keys)
        return convert_assigning.assign_response(evaluation, definitions)

    async def AssignBatch(
        self,
        request: experiment_pb2.AssignBatchRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> experiment_pb2.AssignBatchResponse:
        """Assigns many; others get their turn on the event loop in between."""
        batch = convert_assigning.batch_of(request)
        definitions = self._source.current().definitions
        answer = convert_assigning.BatchAnswer(definitions.hash)
        for _ in convert_assigning.answered(batch, definitions, self._clock_ms(), answer):
            await asyncio.sleep(0)
        return answer.message()

    async def ListExperiments(
        self,
        request: experiment_pb2.ListExperimentsRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> experiment_pb2.ListExperimentsResponse:
        """Lists the experiments in force."""
        after_key = convert.after_key(request)
        return convert.list_response(self._source.current().definitions, after_key)

    async def WatchExperiments(  # type: ignore[override]
        self,
        request: experiment_pb2.WatchExperimentsRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> AsyncIterator[bytes]:
        """Streams a snapshot and changes until the caller leaves or the server drains.

        Steps are encoded already, once for all watchers.
        """
        token = convert.resume_token(request)
        async with aclosing(self._watch.stream(token)) as steps:
            async for step in steps:
                yield step
