"""The experiment service's methods: convert, call, convert."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from podium.experiment.v1 import experiment_pb2, experiment_pb2_grpc
from services.common.assign.assign import Definitions, assign
from services.common.call import CallPolicy
from services.experiment import convert

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]

SERVICE_NAME = "podium.experiment.v1.ExperimentService"
POLICIES = {
    f"/{SERVICE_NAME}/Assign": CallPolicy(default_deadline_ms=500, max_deadline_ms=5_000),
    f"/{SERVICE_NAME}/ListExperiments": CallPolicy(
        default_deadline_ms=2_000, max_deadline_ms=10_000
    ),
}


class ExperimentServicer(experiment_pb2_grpc.ExperimentServiceServicer):
    """Answers from definitions that never change while the service runs."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions

    async def Assign(
        self,
        request: experiment_pb2.AssignRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> experiment_pb2.AssignResponse:
        """Assigns one visitor."""
        call = convert.assign_call(request)
        assignments = assign(self._definitions, call.units, call.forced, call.keys)
        return convert.assign_response(assignments, self._definitions)

    async def ListExperiments(
        self,
        request: experiment_pb2.ListExperimentsRequest,  # noqa: ARG002 - gRPC's signature
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> experiment_pb2.ListExperimentsResponse:
        """Lists the experiments in force."""
        return convert.list_response(self._definitions)
