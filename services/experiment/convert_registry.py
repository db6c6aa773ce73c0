"""Between the registry's messages and its core; limits are enforced here."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from podium.experiment.v1 import registry_pb2
from services.common.assign.assign import Step
from services.common.assign.canonical import DefinitionError, ItemKey
from services.common.convert_limits import (
    MAX_PAGE_BYTES,
    MAX_SEQUENCE,
    first_of,
    optional_id,
    optional_text,
    require_count,
    require_id,
    require_range,
)
from services.common.errors import InvalidArgument
from services.experiment.registry.authored import json_object, parsed, written
from services.experiment.registry.bulk import Bulk, Changed, Part
from services.experiment.registry.ports import NumberedEntry, Report, ReportInfo
from services.experiment.registry.record import Record, State

MAX_STEPS = 100
MAX_REMOVED = 1_000
MAX_PAGE = 1_000
RECORDS_PAGE = 500
ENTRIES_PAGE = 100
MAX_BULK_BYTES = 3 << 20
MAX_REPORT_HTML_BYTES = 5 << 19

_STATES = {
    State.DRAFT: registry_pb2.EXPERIMENT_STATE_DRAFT,
    State.RUNNING: registry_pb2.EXPERIMENT_STATE_RUNNING,
    State.PAUSED: registry_pb2.EXPERIMENT_STATE_PAUSED,
    State.CONCLUDED: registry_pb2.EXPERIMENT_STATE_CONCLUDED,
    State.ARCHIVED: registry_pb2.EXPERIMENT_STATE_ARCHIVED,
}
_LISTED = tuple(state for state in State if state is not State.ARCHIVED)


class Versioned(Protocol):
    """What requests for a change of an experiment have in common."""

    @property
    def key(self) -> str: ...

    @property
    def expected_version(self) -> int: ...


class RecordsWanted(NamedTuple):
    """A checked request: states, the key after which, how many."""

    states: Sequence[State]
    after_key: str
    limit: int


def stored_key(field: str, value: str) -> str:
    """Key of an experiment, 1 to 128 bytes. Databases know no NUL."""
    return _without_nul(field, require_id(field, value))


def _without_nul(field: str, text: str) -> str:
    if "\0" in text:
        raise InvalidArgument.field(field, "holds a NUL")
    return text


def versioned(request: Versioned) -> tuple[str, int]:
    """Key, and version that the change was made for."""
    key = stored_key("key", request.key)
    return key, require_range("expected_version", request.expected_version, 1, MAX_SEQUENCE)


def ramp(request: registry_pb2.RampExperimentRequest) -> tuple[float, list[Step]]:
    """Coverage from now on, and steps to come."""
    require_count("steps", len(request.steps), 0, MAX_STEPS)
    coverage = _coverage("coverage", request)
    steps = []
    for index, step in enumerate(request.steps):
        if not step.HasField("at"):
            raise InvalidArgument.field(f"steps[{index}].at", "is required")
        share = _coverage(f"steps[{index}].coverage", step)
        steps.append(Step(_moment_ms(f"steps[{index}].at", step.at), share))
    return coverage, steps


def _coverage(
    field: str, message: registry_pb2.RampExperimentRequest | registry_pb2.RampStep
) -> float:
    if not message.HasField("coverage"):
        raise InvalidArgument.field(field, "is required, 0 to 1")
    return require_range(field, message.coverage, 0, 1)


def _moment_ms(field: str, moment: Timestamp) -> int:
    try:
        moment.ToDatetime()
    except (ValueError, OverflowError) as error:
        raise InvalidArgument.field(field, str(error)) from error
    return moment.ToMilliseconds()


def records_wanted(request: registry_pb2.ListExperimentRecordsRequest) -> RecordsWanted:
    """Which experiments."""
    require_count("states", len(request.states), 0, len(_STATES))
    states = [_state(f"states[{index}]", number) for index, number in enumerate(request.states)]
    limit = require_range("page_size", request.page_size, 0, MAX_PAGE) or RECORDS_PAGE
    after_key = _without_nul("after_key", optional_id("after_key", request.after_key))
    return RecordsWanted(states or _LISTED, after_key, limit)


def _state(field: str, number: int) -> State:
    state = next((state for state, known in _STATES.items() if known == number), None)
    if state is None:
        raise InvalidArgument.field(field, f"{number} is no state")
    return state


def entries_wanted(request: registry_pb2.ListAuditTrailRequest) -> tuple[str, int, int]:
    """Key, number before which, how many."""
    limit = require_range("page_size", request.page_size, 0, MAX_PAGE) or ENTRIES_PAGE
    before = require_range("before_number", request.before_number, 0, MAX_SEQUENCE)
    key = _without_nul("key", optional_text("key", request.key, 1_024))
    return key, before, limit


def bulk(request: registry_pb2.PutDefinitionsRequest) -> tuple[Bulk, int | None]:
    """Definitions to take in, and the registry's version that they are for."""
    require_count("remove", len(request.remove), 0, MAX_REMOVED)
    data = json_object("definitions_json", request.definitions_json or "{}", MAX_BULK_BYTES)
    expected = None
    if request.HasField("expected_registry_version"):
        expected = require_range(
            "expected_registry_version", request.expected_registry_version, 0, MAX_SEQUENCE
        )
    return Bulk(data, [(name.kind, name.key) for name in request.remove]), expected


def killed(request: registry_pb2.SetKillSwitchRequest) -> bool:
    """The switch."""
    if not request.HasField("killed"):
        raise InvalidArgument.field("killed", "is required")
    return request.killed


def report(request: registry_pb2.PutReportRequest) -> tuple[str, str, str]:
    """Key, JSON and page of a report."""
    html = _without_nul("html", optional_text("html", request.html, MAX_REPORT_HTML_BYTES))
    json_text = _without_nul("json", request.json)
    return stored_key("experiment_key", request.experiment_key), json_text, html


def record_message(record: Record, *, whole: bool = True) -> registry_pb2.ExperimentRecord:
    """A record; ``whole``: with its definition."""
    item = record.item
    message = registry_pb2.ExperimentRecord(
        key=item.key,
        state=_state_number(record.state),
        version=record.version,
        revision=item.revision,
        evaluator_version=item.evaluator_version,
        definition_json=record.authored if whole else "",
        description=_description(record),
        winner=record.winner,
        rolled_out=record.rolled_out,
    )
    _set(message.created_at, record.created_ms)
    _set(message.updated_at, record.updated_ms)
    if record.started_ms is not None:
        _set(message.started_at, record.started_ms)
    if record.concluded_ms is not None:
        _set(message.concluded_at, record.concluded_ms)
    return message


def _description(record: Record) -> str:
    try:
        found = parsed(record.id, record.authored)
    except DefinitionError as error:
        return str(error)
    description = found.get("description", "") if isinstance(found, dict) else ""
    return description if isinstance(description, str) else ""


def records_response(
    records: Sequence[Record], limit: int
) -> registry_pb2.ListExperimentRecordsResponse:
    """A page of experiments."""
    page = first_of((record_message(record, whole=False) for record in records), MAX_PAGE_BYTES)
    more = len(page) < len(records) or len(records) == limit
    return registry_pb2.ListExperimentRecordsResponse(
        experiments=page, next_after_key=page[-1].key if more else ""
    )


def entries_response(
    entries: Sequence[NumberedEntry], limit: int
) -> registry_pb2.ListAuditTrailResponse:
    """A page of the audit trail."""
    return registry_pb2.ListAuditTrailResponse(
        entries=[_entry_message(numbered) for numbered in entries],
        next_before_number=entries[-1].number if len(entries) == limit else 0,
    )


def _entry_message(numbered: NumberedEntry) -> registry_pb2.AuditEntry:
    entry = numbered.entry
    message = registry_pb2.AuditEntry(
        number=numbered.number,
        caller=entry.caller,
        action=entry.action,
        kind=entry.kind,
        key=entry.key,
        version_before=entry.version_before,
        version_after=entry.version_after,
        changed_fields=entry.changed_fields,
        state_before=_state_number(entry.state_before),
        state_after=_state_number(entry.state_after),
        remark=entry.remark,
    )
    _set(message.at, entry.at_ms)
    return message


def changed_response(changed: Changed) -> registry_pb2.PutDefinitionsResponse:
    """What came of a bulk."""
    return registry_pb2.PutDefinitionsResponse(
        registry_version=changed.registry_version,
        changed=_names(changed.changed),
        removed=_names(changed.removed),
    )


def _names(keys: Iterable[ItemKey]) -> list[registry_pb2.DefinitionName]:
    return [registry_pb2.DefinitionName(kind=kind, key=key) for kind, key in keys]


def wanted_after(request: registry_pb2.GetDefinitionsRequest) -> ItemKey | None:
    """After which definition; None for the beginning."""
    if not request.HasField("after"):
        return None
    kind = _without_nul("after.kind", optional_text("after.kind", request.after.kind, 64))
    return kind, _without_nul("after.key", optional_text("after.key", request.after.key, 1_024))


def part_response(version: int, part: Part) -> registry_pb2.GetDefinitionsResponse:
    """Part of the definitions."""
    response = registry_pb2.GetDefinitionsResponse(
        registry_version=version,
        definitions_json=written(part.data),
        unreadable=_names(part.unreadable),
    )
    if part.next_after is not None:
        response.next_after.kind, response.next_after.key = part.next_after
    return response


def report_response(found: Report) -> registry_pb2.GetReportResponse:
    """A report."""
    return registry_pb2.GetReportResponse(
        report=info_message(found.info), json=found.json, html=found.html
    )


def info_message(info: ReportInfo) -> registry_pb2.ReportInfo:
    """Which report."""
    message = registry_pb2.ReportInfo(
        number=info.number,
        experiment_key=info.experiment_key,
        caller=info.caller,
        revision=info.revision,
    )
    _set(message.created_at, info.created_ms)
    return message


def _state_number(state: State | None) -> registry_pb2.ExperimentState:
    return registry_pb2.EXPERIMENT_STATE_UNSPECIFIED if state is None else _STATES[state]


def _set(moment: Timestamp, at_ms: int) -> None:
    moment.FromMilliseconds(at_ms)
