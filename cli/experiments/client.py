"""Calls the registry of a running experiment service."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC
from typing import Any, TypeVar

import grpc
from google.protobuf.timestamp_pb2 import Timestamp

from podium.experiment.v1 import experiment_pb2_grpc, registry_pb2
from services.common.call import CALLER_KEY
from services.common.callers import TOKEN_KEY
from services.common.channels import open_channel
from services.common.errors import Unavailable, VersionConflict
from services.common.status import error_from_rpc

TIMEOUT_S = 15.0
CONNECT_S = 10.0
PAGE = 500
READINGS = 5
"""How often all definitions are read anew where somebody changes them meanwhile."""

SECTIONS = ("experiments", "flags", "layers", "saved_groups")
"""Of an experiments file: definitions by key."""

_STATES = {
    registry_pb2.EXPERIMENT_STATE_DRAFT: "draft",
    registry_pb2.EXPERIMENT_STATE_RUNNING: "running",
    registry_pb2.EXPERIMENT_STATE_PAUSED: "paused",
    registry_pb2.EXPERIMENT_STATE_CONCLUDED: "concluded",
    registry_pb2.EXPERIMENT_STATE_ARCHIVED: "archived",
}
STATES = tuple(_STATES.values())

Request = TypeVar("Request")
Response = TypeVar("Response")


@dataclass(frozen=True)
class Shown:
    """An experiment of the registry. Times in ISO 8601, empty for never; ``definition`` is its
    JSON, empty in lists."""

    key: str
    state: str
    version: int
    revision: int
    description: str
    winner: str
    rolled_out: bool
    created: str
    updated: str
    started: str
    concluded: str
    definition: str


@dataclass(frozen=True)
class Told:
    """An entry of the audit trail. States are empty where there is none."""

    number: int
    at: str
    caller: str
    action: str
    kind: str
    key: str
    version_before: int
    version_after: int
    state_before: str
    state_after: str
    changed_fields: tuple[str, ...]
    remark: str


@dataclass(frozen=True)
class Put:
    """What came of definitions in bulk: (kind, key) of what changed and of what was removed."""

    registry_version: int
    changed: tuple[tuple[str, str], ...]
    removed: tuple[tuple[str, str], ...]


class RegistryClient:
    """Client of one experiment service. Every method raises a PodiumError."""

    def __init__(self, channel: grpc.Channel, caller: str, token: str) -> None:
        self._stub = experiment_pb2_grpc.ExperimentServiceStub(channel)
        self._metadata = [(CALLER_KEY, caller)] if caller else []
        if token:
            self._metadata.append((TOKEN_KEY, f"Bearer {token}"))

    def get(self, key: str) -> Shown:
        """One experiment."""
        request = registry_pb2.GetExperimentRequest(key=key)
        return _shown(self._call(self._stub.GetExperiment, request).experiment)

    def find(self, states: Sequence[str]) -> list[Shown]:
        """Experiments of these states, or else all but archived ones."""
        found: list[Shown] = []
        numbers = [number for number, name in _STATES.items() if name in states]
        request = registry_pb2.ListExperimentRecordsRequest(page_size=PAGE)
        request.states.extend(numbers)
        while True:
            page = self._call(self._stub.ListExperimentRecords, request)
            found += map(_shown, page.experiments)
            if not page.next_after_key:
                return found
            request.after_key = page.next_after_key

    def audit(self, key: str, limit: int) -> list[Told]:
        """The newest entries, of a key where it is not empty."""
        request = registry_pb2.ListAuditTrailRequest(key=key, page_size=limit)
        return [_told(entry) for entry in self._call(self._stub.ListAuditTrail, request).entries]

    def create(self, key: str, definition: object) -> Shown:
        """Makes a draft."""
        request = registry_pb2.CreateExperimentRequest(key=key, definition_json=_json(definition))
        return _shown(self._call(self._stub.CreateExperiment, request).experiment)

    def update(self, key: str, version: int, definition: object) -> Shown:
        """Changes a definition."""
        request = registry_pb2.UpdateExperimentRequest(
            key=key, expected_version=version, definition_json=_json(definition)
        )
        return _shown(self._call(self._stub.UpdateExperiment, request).experiment)

    def start(self, key: str, version: int) -> Shown:
        """Starts a draft."""
        request = registry_pb2.StartExperimentRequest(key=key, expected_version=version)
        return _shown(self._call(self._stub.StartExperiment, request).experiment)

    def ramp(
        self, key: str, version: int, coverage: float, steps: Sequence[tuple[int, float]]
    ) -> Shown:
        """Sets coverage, and steps (epoch ms, coverage) to come."""
        request = registry_pb2.RampExperimentRequest(
            key=key, expected_version=version, coverage=coverage
        )
        for at_ms, share in steps:
            request.steps.add(coverage=share).at.FromMilliseconds(at_ms)
        return _shown(self._call(self._stub.RampExperiment, request).experiment)

    def pause(self, key: str, version: int) -> Shown:
        """Takes everybody out for now."""
        request = registry_pb2.PauseExperimentRequest(key=key, expected_version=version)
        return _shown(self._call(self._stub.PauseExperiment, request).experiment)

    def resume(self, key: str, version: int) -> Shown:
        """Goes on."""
        request = registry_pb2.ResumeExperimentRequest(key=key, expected_version=version)
        return _shown(self._call(self._stub.ResumeExperiment, request).experiment)

    def conclude(self, key: str, version: int, winner: str, roll_out: bool) -> Shown:
        """Ends an experiment."""
        request = registry_pb2.ConcludeExperimentRequest(
            key=key, expected_version=version, winner=winner, roll_out=roll_out
        )
        return _shown(self._call(self._stub.ConcludeExperiment, request).experiment)

    def archive(self, key: str, version: int) -> Shown:
        """Takes an experiment out of the definitions."""
        request = registry_pb2.ArchiveExperimentRequest(key=key, expected_version=version)
        return _shown(self._call(self._stub.ArchiveExperiment, request).experiment)

    def registry_version(self) -> int:
        """Version of the whole registry."""
        request = registry_pb2.GetDefinitionsRequest()
        return self._call(self._stub.GetDefinitions, request).registry_version

    def put(self, file: object, remove: Sequence[tuple[str, str]], version: int) -> Put:
        """Brings the content of an experiments file in."""
        request = registry_pb2.PutDefinitionsRequest(
            definitions_json=_json(file), expected_registry_version=version
        )
        for kind, key in remove:
            request.remove.add(kind=kind, key=key)
        done = self._call(self._stub.PutDefinitions, request)
        return Put(done.registry_version, _names(done.changed), _names(done.removed))

    def definitions(self) -> str:
        """All that the registry has, as JSON of an experiments file; what can't be read is left
        out. Raises ``VersionConflict`` where it changes faster than it is read."""
        for _ in range(READINGS):
            parts = self._parts()
            if len({part.registry_version for part in parts}) == 1:
                return _json(_together(json.loads(part.definitions_json) for part in parts))
        raise VersionConflict(
            f"the registry was changed while it was read, {READINGS} times",
            version=parts[-1].registry_version,
        )

    def _parts(self) -> list[registry_pb2.GetDefinitionsResponse]:
        found: list[registry_pb2.GetDefinitionsResponse] = []
        request = registry_pb2.GetDefinitionsRequest()
        while True:
            found.append(self._call(self._stub.GetDefinitions, request))
            if not found[-1].HasField("next_after"):
                return found
            request.after.CopyFrom(found[-1].next_after)

    def put_report(self, key: str, json_text: str, html: str) -> int:
        """Stores a report; its number."""
        request = registry_pb2.PutReportRequest(experiment_key=key, json=json_text, html=html)
        return self._call(self._stub.PutReport, request).report.number

    def switch(self, killed: bool) -> None:
        """Turns all experiments off, or on again."""
        self._call(self._stub.SetKillSwitch, registry_pb2.SetKillSwitchRequest(killed=killed))

    def _call(self, method: Callable[..., Response], request: object) -> Response:
        try:
            return method(request, timeout=TIMEOUT_S, metadata=self._metadata)
        except grpc.RpcError as error:
            raise error_from_rpc(error) from error


@contextmanager
def registry_at(
    target: str, caller: str, token: str, *, connect_s: float = CONNECT_S
) -> Iterator[RegistryClient]:
    """A client of the service at ``target``, host:port, as ``caller``, or with a token.

    Raises ``Unavailable`` where nothing answers there for ``connect_s``.
    """
    channel = open_channel(target)
    try:
        try:
            grpc.channel_ready_future(channel).result(timeout=connect_s)
        except grpc.FutureTimeoutError as error:
            raise Unavailable(f"no experiment service answers at {target}") from error
        yield RegistryClient(channel, caller, token)
    finally:
        channel.close()


def _shown(record: registry_pb2.ExperimentRecord) -> Shown:
    return Shown(
        record.key,
        _STATES.get(record.state, ""),
        record.version,
        record.revision,
        record.description,
        record.winner,
        record.rolled_out,
        _moment(record, "created_at"),
        _moment(record, "updated_at"),
        _moment(record, "started_at"),
        _moment(record, "concluded_at"),
        record.definition_json,
    )


def _told(entry: registry_pb2.AuditEntry) -> Told:
    return Told(
        entry.number,
        _moment(entry, "at"),
        entry.caller,
        entry.action,
        entry.kind,
        entry.key,
        entry.version_before,
        entry.version_after,
        _STATES.get(entry.state_before, ""),
        _STATES.get(entry.state_after, ""),
        tuple(entry.changed_fields),
        entry.remark,
    )


def _names(names: Sequence[registry_pb2.DefinitionName]) -> tuple[tuple[str, str], ...]:
    return tuple((name.kind, name.key) for name in names)


def _moment(message: Any, field: str) -> str:
    if not message.HasField(field):
        return ""
    moment: Timestamp = getattr(message, field)
    return moment.ToDatetime(UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def _together(parts: Iterable[dict[str, Any]]) -> dict[str, Any]:
    """One experiments file of parts of it."""
    found: dict[str, Any] = {}
    for part in parts:
        for name, content in part.items():
            if name in SECTIONS:
                found.setdefault(name, {}).update(content)
            else:
                found[name] = content
    return found


def _json(data: object) -> str:
    return json.dumps(data, ensure_ascii=False)
