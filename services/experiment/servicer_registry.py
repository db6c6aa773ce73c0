"""The registry's methods of the experiment service: convert, call, convert."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, TypeVar

from podium.experiment.v1 import experiment_pb2_grpc, registry_pb2
from services.common.call import CallPolicy
from services.common.callers import Callers
from services.common.convert_limits import MAX_PAGE_BYTES, MAX_SEQUENCE, require_range
from services.common.errors import FailedPrecondition, PermissionDenied
from services.experiment import convert_registry as convert
from services.experiment.registry.record import Record
from services.experiment.registry.registry import Registry

if TYPE_CHECKING:
    import grpc

    Context = grpc.aio.ServicerContext[Any, Any]

Result = TypeVar("Result")

SERVICE_NAME = "podium.experiment.v1.ExperimentService"
_METHODS = (
    *("CreateExperiment", "UpdateExperiment", "StartExperiment", "RampExperiment"),
    *("PauseExperiment", "ResumeExperiment", "ConcludeExperiment", "ArchiveExperiment"),
    *("GetExperiment", "ListExperimentRecords", "ListAuditTrail", "PutDefinitions"),
    *("GetDefinitions", "SetKillSwitch", "PutReport", "GetReport", "ListReports"),
)
POLICIES = {
    f"/{SERVICE_NAME}/{method}": CallPolicy(default_deadline_ms=10_000, max_deadline_ms=30_000)
    for method in _METHODS
}


class RegistryCalls(Protocol):
    """Runs what waits for the database, off the event loop."""

    registry: Registry

    async def read(self, call: Callable[[], Result]) -> Result:
        """The result of ``call``."""

    async def write(self, call: Callable[[], Result]) -> Result:
        """The same; what it changed is in force here when this returns."""

    async def write_soon(self, call: Callable[[], Result]) -> Result:
        """The same; what it changed is in force here soon after."""


@dataclass(frozen=True)
class Roles:
    """Who calls, and who may do what, by name."""

    callers: Callers
    may_edit: Callable[[str], bool]
    may_report: Callable[[str], bool]

    def name(self, context: Context) -> str:
        """Who calls; empty for nobody."""
        return self.callers.name(context.peer_identities(), context.invocation_metadata() or ())


class OpenRegistry(NamedTuple):
    """A registry, and who may do what with it."""

    calls: RegistryCalls
    roles: Roles


class RegistryServicer(experiment_pb2_grpc.ExperimentServiceServicer):
    """See ``registry.proto``. ``opened``: None where the definitions come from a file."""

    def __init__(self, opened: OpenRegistry | None) -> None:
        self._opened = opened

    async def CreateExperiment(
        self, request: registry_pb2.CreateExperimentRequest, context: Context
    ) -> registry_pb2.CreateExperimentResponse:
        """Makes a draft."""
        calls, caller = self._editing(context)
        key = convert.stored_key("key", request.key)
        create = partial(calls.registry.create, caller, key, request.definition_json)
        record = await calls.write(create)
        return registry_pb2.CreateExperimentResponse(experiment=convert.record_message(record))

    async def UpdateExperiment(
        self, request: registry_pb2.UpdateExperimentRequest, context: Context
    ) -> registry_pb2.UpdateExperimentResponse:
        """Changes a definition."""
        changed = await self._changed(
            context, request, lambda registry: registry.update, request.definition_json
        )
        return registry_pb2.UpdateExperimentResponse(experiment=changed)

    async def StartExperiment(
        self, request: registry_pb2.StartExperimentRequest, context: Context
    ) -> registry_pb2.StartExperimentResponse:
        """Starts a draft."""
        changed = await self._changed(context, request, lambda registry: registry.start)
        return registry_pb2.StartExperimentResponse(experiment=changed)

    async def RampExperiment(
        self, request: registry_pb2.RampExperimentRequest, context: Context
    ) -> registry_pb2.RampExperimentResponse:
        """Sets the share of units."""
        changed = await self._changed(
            context, request, lambda registry: registry.ramp, *convert.ramp(request)
        )
        return registry_pb2.RampExperimentResponse(experiment=changed)

    async def PauseExperiment(
        self, request: registry_pb2.PauseExperimentRequest, context: Context
    ) -> registry_pb2.PauseExperimentResponse:
        """Takes everybody out for now."""
        changed = await self._changed(context, request, lambda registry: registry.pause)
        return registry_pb2.PauseExperimentResponse(experiment=changed)

    async def ResumeExperiment(
        self, request: registry_pb2.ResumeExperimentRequest, context: Context
    ) -> registry_pb2.ResumeExperimentResponse:
        """Goes on."""
        changed = await self._changed(context, request, lambda registry: registry.resume)
        return registry_pb2.ResumeExperimentResponse(experiment=changed)

    async def ConcludeExperiment(
        self, request: registry_pb2.ConcludeExperimentRequest, context: Context
    ) -> registry_pb2.ConcludeExperimentResponse:
        """Ends an experiment."""
        changed = await self._changed(
            context,
            request,
            lambda registry: registry.conclude,
            request.winner,
            request.roll_out,
        )
        return registry_pb2.ConcludeExperimentResponse(experiment=changed)

    async def ArchiveExperiment(
        self, request: registry_pb2.ArchiveExperimentRequest, context: Context
    ) -> registry_pb2.ArchiveExperimentResponse:
        """Takes an experiment out of the definitions."""
        changed = await self._changed(context, request, lambda registry: registry.archive)
        return registry_pb2.ArchiveExperimentResponse(experiment=changed)

    async def GetExperiment(
        self,
        request: registry_pb2.GetExperimentRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> registry_pb2.GetExperimentResponse:
        """Returns one experiment."""
        calls, key = self._registry(), convert.stored_key("key", request.key)
        record = await calls.read(partial(calls.registry.get, key))
        return registry_pb2.GetExperimentResponse(experiment=convert.record_message(record))

    async def ListExperimentRecords(
        self,
        request: registry_pb2.ListExperimentRecordsRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> registry_pb2.ListExperimentRecordsResponse:
        """Lists experiments with their states."""
        calls, wanted = self._registry(), convert.records_wanted(request)
        records = await calls.read(partial(calls.registry.find, *wanted))
        return convert.records_response(records, wanted.limit)

    async def ListAuditTrail(
        self,
        request: registry_pb2.ListAuditTrailRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> registry_pb2.ListAuditTrailResponse:
        """Lists who changed what."""
        calls, wanted = self._registry(), convert.entries_wanted(request)
        entries = await calls.read(partial(calls.registry.audit, *wanted))
        return convert.entries_response(entries, wanted[2])

    async def PutDefinitions(
        self, request: registry_pb2.PutDefinitionsRequest, context: Context
    ) -> registry_pb2.PutDefinitionsResponse:
        """Brings definitions in."""
        calls, caller = self._editing(context)
        bulk, expected = convert.bulk(request)
        changed = await calls.write(partial(calls.registry.put, caller, bulk, expected))
        return convert.changed_response(changed)

    async def GetDefinitions(
        self,
        request: registry_pb2.GetDefinitionsRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> registry_pb2.GetDefinitionsResponse:
        """Returns all definitions, in parts."""
        calls, after = self._registry(), convert.wanted_after(request)
        part = partial(calls.registry.part, after, MAX_PAGE_BYTES)
        return convert.part_response(*await calls.read(part))

    async def SetKillSwitch(
        self, request: registry_pb2.SetKillSwitchRequest, context: Context
    ) -> registry_pb2.SetKillSwitchResponse:
        """Turns all experiments off, or on again: answered once that is kept, however long it takes
        to read all definitions anew."""
        calls, caller = self._editing(context)
        switch = partial(calls.registry.switch, caller, convert.killed(request))
        return registry_pb2.SetKillSwitchResponse(registry_version=await calls.write_soon(switch))

    async def PutReport(
        self, request: registry_pb2.PutReportRequest, context: Context
    ) -> registry_pb2.PutReportResponse:
        """Stores a report."""
        calls, roles = self._open()
        caller = roles.name(context)
        if not (roles.may_report(caller) or roles.may_edit(caller)):
            raise _denied("store reports")
        put = partial(calls.registry.put_report, caller, *convert.report(request))
        info = await calls.read(put)
        return registry_pb2.PutReportResponse(report=convert.info_message(info))

    async def GetReport(
        self,
        request: registry_pb2.GetReportRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> registry_pb2.GetReportResponse:
        """Returns a report."""
        calls = self._registry()
        key = convert.stored_key("experiment_key", request.experiment_key)
        number = require_range("number", request.number, 0, MAX_SEQUENCE)
        return convert.report_response(
            await calls.read(partial(calls.registry.report, key, number))
        )

    async def ListReports(
        self,
        request: registry_pb2.ListReportsRequest,
        context: Context,  # noqa: ARG002 - gRPC's signature
    ) -> registry_pb2.ListReportsResponse:
        """Lists the reports of an experiment."""
        calls = self._registry()
        key = convert.stored_key("experiment_key", request.experiment_key)
        found = await calls.read(partial(calls.registry.reports, key))
        return registry_pb2.ListReportsResponse(reports=map(convert.info_message, found))

    async def _changed(
        self,
        context: Context,
        request: convert.Versioned,
        method: Callable[[Registry], Callable[..., Record]],
        *arguments: object,
    ) -> registry_pb2.ExperimentRecord:
        """Changes one experiment for the version that the request expects."""
        calls, caller = self._editing(context)
        change = partial(method(calls.registry), caller, *convert.versioned(request), *arguments)
        return convert.record_message(await calls.write(change))

    def _editing(self, context: Context) -> tuple[RegistryCalls, str]:
        calls, roles = self._open()
        caller = roles.name(context)
        if not roles.may_edit(caller):
            raise _denied("change experiments")
        return calls, caller

    def _registry(self) -> RegistryCalls:
        return self._open().calls

    def _open(self) -> OpenRegistry:
        if self._opened is None:
            raise FailedPrecondition(
                "the definitions come from a file: change that, or set up a registry with "
                "PODIUM_EXPERIMENT_DATABASE_URL",
                reason="DEFINITIONS_FROM_FILE",
            )
        return self._opened


def _denied(what: str) -> PermissionDenied:
    return PermissionDenied(
        f"only callers that the service is told of may {what}", reason="NOT_AN_EDITOR"
    )
