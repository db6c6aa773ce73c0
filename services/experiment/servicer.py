"""The experiment service's methods: convert, call, convert."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from services.common.assign.assign import evaluate
from services.common.call import CallPolicy
from services.common.rpc import STREAM_POLICY
from services.experiment import convert
from services.experiment.source import DefinitionsSource
from services.experiment.watch.stream import DefinitionsWatch

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE_NAME = "podium.experiment.v1.ExperimentService"
POLICIES = {
    f"/{SERVICE_NAME}/Assign": CallPolicy(default_deadline_ms=500, max_deadline_ms=5_000),
    f"/{SERVICE_NAME}/ListExperiments": CallPolicy(
        default_deadline_ms=2_000, max_deadline_ms=10_000
    ),
    f"/{SERVICE_NAME}/WatchExperiments": STREAM_POLICY,
}


class ExperimentServicer(experiment_pb2_grpc.ExperimentServiceServicer):
    """Answers from the definitions in force. ``clock_ms``: for schedules and time slices."""

    def __init__(
        self, source: DefinitionsSource, watch: DefinitionsWatch, clock_ms: Callable[[], int]
    ) -> None:
        self._source = source
        self._watch = watch
        self._clock_ms = clock_ms

    async def Assign(
        self,
        request: experiment_pb2.AssignRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> experiment_pb2.AssignResponse:
        """Assigns one visitor."""
        call = convert.assign_call(request, self._clock_ms())
        definitions = self._source.current().definitions
        evaluation = evaluate(definitions, call.context, call.keys)
        return convert.assign_response(evaluation, definitions)

    async def ListExperiments(
        self,
        request: experiment_pb2.ListExperimentsRequest,  # noqa: ARG002 - gRPC's signature
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> experiment_pb2.ListExperimentsResponse:
        """Lists the experiments in force."""
        return convert.list_response(self._source.current().definitions)

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
