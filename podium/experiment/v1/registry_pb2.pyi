import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ExperimentState(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    EXPERIMENT_STATE_UNSPECIFIED: _ClassVar[ExperimentState]
    EXPERIMENT_STATE_DRAFT: _ClassVar[ExperimentState]
    EXPERIMENT_STATE_RUNNING: _ClassVar[ExperimentState]
    EXPERIMENT_STATE_PAUSED: _ClassVar[ExperimentState]
    EXPERIMENT_STATE_CONCLUDED: _ClassVar[ExperimentState]
    EXPERIMENT_STATE_ARCHIVED: _ClassVar[ExperimentState]
EXPERIMENT_STATE_UNSPECIFIED: ExperimentState
EXPERIMENT_STATE_DRAFT: ExperimentState
EXPERIMENT_STATE_RUNNING: ExperimentState
EXPERIMENT_STATE_PAUSED: ExperimentState
EXPERIMENT_STATE_CONCLUDED: ExperimentState
EXPERIMENT_STATE_ARCHIVED: ExperimentState

class ExperimentRecord(_message.Message):
    __slots__ = ("key", "state", "version", "revision", "evaluator_version", "definition_json", "description", "winner", "rolled_out", "created_at", "updated_at", "started_at", "concluded_at")
    KEY_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_JSON_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    WINNER_FIELD_NUMBER: _ClassVar[int]
    ROLLED_OUT_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    UPDATED_AT_FIELD_NUMBER: _ClassVar[int]
    STARTED_AT_FIELD_NUMBER: _ClassVar[int]
    CONCLUDED_AT_FIELD_NUMBER: _ClassVar[int]
    key: str
    state: ExperimentState
    version: int
    revision: int
    evaluator_version: int
    definition_json: str
    description: str
    winner: str
    rolled_out: bool
    created_at: _timestamp_pb2.Timestamp
    updated_at: _timestamp_pb2.Timestamp
    started_at: _timestamp_pb2.Timestamp
    concluded_at: _timestamp_pb2.Timestamp
    def __init__(self, key: _Optional[str] = ..., state: _Optional[_Union[ExperimentState, str]] = ..., version: _Optional[int] = ..., revision: _Optional[int] = ..., evaluator_version: _Optional[int] = ..., definition_json: _Optional[str] = ..., description: _Optional[str] = ..., winner: _Optional[str] = ..., rolled_out: _Optional[bool] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., updated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., started_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., concluded_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class CreateExperimentRequest(_message.Message):
    __slots__ = ("key", "definition_json")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_JSON_FIELD_NUMBER: _ClassVar[int]
    key: str
    definition_json: str
    def __init__(self, key: _Optional[str] = ..., definition_json: _Optional[str] = ...) -> None: ...

class CreateExperimentResponse(_message.Message):
    __slots__ = ("experiment",)
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    experiment: ExperimentRecord
    def __init__(self, experiment: _Optional[_Union[ExperimentRecord, _Mapping]] = ...) -> None: ...

class UpdateExperimentRequest(_message.Message):
    __slots__ = ("key", "expected_version", "definition_json")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEFINITION_JSON_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected_version: int
    definition_json: str
    def __init__(self, key: _Optional[str] = ..., expected_version: _Optional[int] = ..., definition_json: _Optional[str] = ...) -> None: ...

class UpdateExperimentResponse(_message.Message):
    __slots__ = ("experiment",)
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    experiment: ExperimentRecord
    def __init__(self, experiment: _Optional[_Union[ExperimentRecord, _Mapping]] = ...) -> None: ...

class StartExperimentRequest(_message.Message):
    __slots__ = ("key", "expected_version")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected_version: int
    def __init__(self, key: _Optional[str] = ..., expected_version: _Optional[int] = ...) -> None: ...

class StartExperimentResponse(_message.Message):
    __slots__ = ("experiment",)
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    experiment: ExperimentRecord
    def __init__(self, experiment: _Optional[_Union[ExperimentRecord, _Mapping]] = ...) -> None: ...

class RampExperimentRequest(_message.Message):
    __slots__ = ("key", "expected_version", "coverage", "steps")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    STEPS_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected_version: int
    coverage: float
    steps: _containers.RepeatedCompositeFieldContainer[RampStep]
    def __init__(self, key: _Optional[str] = ..., expected_version: _Optional[int] = ..., coverage: _Optional[float] = ..., steps: _Optional[_Iterable[_Union[RampStep, _Mapping]]] = ...) -> None: ...

class RampStep(_message.Message):
    __slots__ = ("at", "coverage")
    AT_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    at: _timestamp_pb2.Timestamp
    coverage: float
    def __init__(self, at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., coverage: _Optional[float] = ...) -> None: ...

class RampExperimentResponse(_message.Message):
    __slots__ = ("experiment",)
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    experiment: ExperimentRecord
    def __init__(self, experiment: _Optional[_Union[ExperimentRecord, _Mapping]] = ...) -> None: ...

class PauseExperimentRequest(_message.Message):
    __slots__ = ("key", "expected_version")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected_version: int
    def __init__(self, key: _Optional[str] = ..., expected_version: _Optional[int] = ...) -> None: ...

class PauseExperimentResponse(_message.Message):
    __slots__ = ("experiment",)
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    experiment: ExperimentRecord
    def __init__(self, experiment: _Optional[_Union[ExperimentRecord, _Mapping]] = ...) -> None: ...

class ResumeExperimentRequest(_message.Message):
    __slots__ = ("key", "expected_version")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected_version: int
    def __init__(self, key: _Optional[str] = ..., expected_version: _Optional[int] = ...) -> None: ...

class ResumeExperimentResponse(_message.Message):
    __slots__ = ("experiment",)
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    experiment: ExperimentRecord
    def __init__(self, experiment: _Optional[_Union[ExperimentRecord, _Mapping]] = ...) -> None: ...

class ConcludeExperimentRequest(_message.Message):
    __slots__ = ("key", "expected_version", "winner", "roll_out")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    WINNER_FIELD_NUMBER: _ClassVar[int]
    ROLL_OUT_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected_version: int
    winner: str
    roll_out: bool
    def __init__(self, key: _Optional[str] = ..., expected_version: _Optional[int] = ..., winner: _Optional[str] = ..., roll_out: _Optional[bool] = ...) -> None: ...

class ConcludeExperimentResponse(_message.Message):
    __slots__ = ("experiment",)
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    experiment: ExperimentRecord
    def __init__(self, experiment: _Optional[_Union[ExperimentRecord, _Mapping]] = ...) -> None: ...

class ArchiveExperimentRequest(_message.Message):
    __slots__ = ("key", "expected_version")
    KEY_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_VERSION_FIELD_NUMBER: _ClassVar[int]
    key: str
    expected_version: int
    def __init__(self, key: _Optional[str] = ..., expected_version: _Optional[int] = ...) -> None: ...

class ArchiveExperimentResponse(_message.Message):
    __slots__ = ("experiment",)
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    experiment: ExperimentRecord
    def __init__(self, experiment: _Optional[_Union[ExperimentRecord, _Mapping]] = ...) -> None: ...

class GetExperimentRequest(_message.Message):
    __slots__ = ("key",)
    KEY_FIELD_NUMBER: _ClassVar[int]
    key: str
    def __init__(self, key: _Optional[str] = ...) -> None: ...

class GetExperimentResponse(_message.Message):
    __slots__ = ("experiment",)
    EXPERIMENT_FIELD_NUMBER: _ClassVar[int]
    experiment: ExperimentRecord
    def __init__(self, experiment: _Optional[_Union[ExperimentRecord, _Mapping]] = ...) -> None: ...

class ListExperimentRecordsRequest(_message.Message):
    __slots__ = ("states", "page_size", "after_key")
    STATES_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    AFTER_KEY_FIELD_NUMBER: _ClassVar[int]
    states: _containers.RepeatedScalarFieldContainer[ExperimentState]
    page_size: int
    after_key: str
    def __init__(self, states: _Optional[_Iterable[_Union[ExperimentState, str]]] = ..., page_size: _Optional[int] = ..., after_key: _Optional[str] = ...) -> None: ...

class ListExperimentRecordsResponse(_message.Message):
    __slots__ = ("experiments", "next_after_key")
    EXPERIMENTS_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_KEY_FIELD_NUMBER: _ClassVar[int]
    experiments: _containers.RepeatedCompositeFieldContainer[ExperimentRecord]
    next_after_key: str
    def __init__(self, experiments: _Optional[_Iterable[_Union[ExperimentRecord, _Mapping]]] = ..., next_after_key: _Optional[str] = ...) -> None: ...

class ListAuditTrailRequest(_message.Message):
    __slots__ = ("key", "page_size", "before_number")
    KEY_FIELD_NUMBER: _ClassVar[int]
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    BEFORE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    key: str
    page_size: int
    before_number: int
    def __init__(self, key: _Optional[str] = ..., page_size: _Optional[int] = ..., before_number: _Optional[int] = ...) -> None: ...

class ListAuditTrailResponse(_message.Message):
    __slots__ = ("entries", "next_before_number")
    ENTRIES_FIELD_NUMBER: _ClassVar[int]
    NEXT_BEFORE_NUMBER_FIELD_NUMBER: _ClassVar[int]
    entries: _containers.RepeatedCompositeFieldContainer[AuditEntry]
    next_before_number: int
    def __init__(self, entries: _Optional[_Iterable[_Union[AuditEntry, _Mapping]]] = ..., next_before_number: _Optional[int] = ...) -> None: ...

class AuditEntry(_message.Message):
    __slots__ = ("number", "at", "caller", "action", "kind", "key", "version_before", "version_after", "changed_fields", "state_before", "state_after", "remark")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    AT_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    VERSION_BEFORE_FIELD_NUMBER: _ClassVar[int]
    VERSION_AFTER_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELDS_FIELD_NUMBER: _ClassVar[int]
    STATE_BEFORE_FIELD_NUMBER: _ClassVar[int]
    STATE_AFTER_FIELD_NUMBER: _ClassVar[int]
    REMARK_FIELD_NUMBER: _ClassVar[int]
    number: int
    at: _timestamp_pb2.Timestamp
    caller: str
    action: str
    kind: str
    key: str
    version_before: int
    version_after: int
    changed_fields: _containers.RepeatedScalarFieldContainer[str]
    state_before: ExperimentState
    state_after: ExperimentState
    remark: str
    def __init__(self, number: _Optional[int] = ..., at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., caller: _Optional[str] = ..., action: _Optional[str] = ..., kind: _Optional[str] = ..., key: _Optional[str] = ..., version_before: _Optional[int] = ..., version_after: _Optional[int] = ..., changed_fields: _Optional[_Iterable[str]] = ..., state_before: _Optional[_Union[ExperimentState, str]] = ..., state_after: _Optional[_Union[ExperimentState, str]] = ..., remark: _Optional[str] = ...) -> None: ...

class PutDefinitionsRequest(_message.Message):
    __slots__ = ("definitions_json", "remove", "expected_registry_version")
    DEFINITIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    REMOVE_FIELD_NUMBER: _ClassVar[int]
    EXPECTED_REGISTRY_VERSION_FIELD_NUMBER: _ClassVar[int]
    definitions_json: str
    remove: _containers.RepeatedCompositeFieldContainer[DefinitionName]
    expected_registry_version: int
    def __init__(self, definitions_json: _Optional[str] = ..., remove: _Optional[_Iterable[_Union[DefinitionName, _Mapping]]] = ..., expected_registry_version: _Optional[int] = ...) -> None: ...

class DefinitionName(_message.Message):
    __slots__ = ("kind", "key")
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    key: str
    def __init__(self, kind: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...

class PutDefinitionsResponse(_message.Message):
    __slots__ = ("registry_version", "changed", "removed")
    REGISTRY_VERSION_FIELD_NUMBER: _ClassVar[int]
    CHANGED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    registry_version: int
    changed: _containers.RepeatedCompositeFieldContainer[DefinitionName]
    removed: _containers.RepeatedCompositeFieldContainer[DefinitionName]
    def __init__(self, registry_version: _Optional[int] = ..., changed: _Optional[_Iterable[_Union[DefinitionName, _Mapping]]] = ..., removed: _Optional[_Iterable[_Union[DefinitionName, _Mapping]]] = ...) -> None: ...

class GetDefinitionsRequest(_message.Message):
    __slots__ = ("after",)
    AFTER_FIELD_NUMBER: _ClassVar[int]
    after: DefinitionName
    def __init__(self, after: _Optional[_Union[DefinitionName, _Mapping]] = ...) -> None: ...

class GetDefinitionsResponse(_message.Message):
    __slots__ = ("registry_version", "definitions_json", "next_after", "unreadable")
    REGISTRY_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_JSON_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_FIELD_NUMBER: _ClassVar[int]
    UNREADABLE_FIELD_NUMBER: _ClassVar[int]
    registry_version: int
    definitions_json: str
    next_after: DefinitionName
    unreadable: _containers.RepeatedCompositeFieldContainer[DefinitionName]
    def __init__(self, registry_version: _Optional[int] = ..., definitions_json: _Optional[str] = ..., next_after: _Optional[_Union[DefinitionName, _Mapping]] = ..., unreadable: _Optional[_Iterable[_Union[DefinitionName, _Mapping]]] = ...) -> None: ...

class SetKillSwitchRequest(_message.Message):
    __slots__ = ("killed",)
    KILLED_FIELD_NUMBER: _ClassVar[int]
    killed: bool
    def __init__(self, killed: _Optional[bool] = ...) -> None: ...

class SetKillSwitchResponse(_message.Message):
    __slots__ = ("registry_version",)
    REGISTRY_VERSION_FIELD_NUMBER: _ClassVar[int]
    registry_version: int
    def __init__(self, registry_version: _Optional[int] = ...) -> None: ...

class PutReportRequest(_message.Message):
    __slots__ = ("experiment_key", "json", "html")
    EXPERIMENT_KEY_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    HTML_FIELD_NUMBER: _ClassVar[int]
    experiment_key: str
    json: str
    html: str
    def __init__(self, experiment_key: _Optional[str] = ..., json: _Optional[str] = ..., html: _Optional[str] = ...) -> None: ...

class PutReportResponse(_message.Message):
    __slots__ = ("report",)
    REPORT_FIELD_NUMBER: _ClassVar[int]
    report: ReportInfo
    def __init__(self, report: _Optional[_Union[ReportInfo, _Mapping]] = ...) -> None: ...

class GetReportRequest(_message.Message):
    __slots__ = ("experiment_key", "number")
    EXPERIMENT_KEY_FIELD_NUMBER: _ClassVar[int]
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    experiment_key: str
    number: int
    def __init__(self, experiment_key: _Optional[str] = ..., number: _Optional[int] = ...) -> None: ...

class GetReportResponse(_message.Message):
    __slots__ = ("report", "json", "html")
    REPORT_FIELD_NUMBER: _ClassVar[int]
    JSON_FIELD_NUMBER: _ClassVar[int]
    HTML_FIELD_NUMBER: _ClassVar[int]
    report: ReportInfo
    json: str
    html: str
    def __init__(self, report: _Optional[_Union[ReportInfo, _Mapping]] = ..., json: _Optional[str] = ..., html: _Optional[str] = ...) -> None: ...

class ListReportsRequest(_message.Message):
    __slots__ = ("experiment_key",)
    EXPERIMENT_KEY_FIELD_NUMBER: _ClassVar[int]
    experiment_key: str
    def __init__(self, experiment_key: _Optional[str] = ...) -> None: ...

class ListReportsResponse(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[ReportInfo]
    def __init__(self, reports: _Optional[_Iterable[_Union[ReportInfo, _Mapping]]] = ...) -> None: ...

class ReportInfo(_message.Message):
    __slots__ = ("number", "experiment_key", "created_at", "caller", "revision")
    NUMBER_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_KEY_FIELD_NUMBER: _ClassVar[int]
    CREATED_AT_FIELD_NUMBER: _ClassVar[int]
    CALLER_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    number: int
    experiment_key: str
    created_at: _timestamp_pb2.Timestamp
    caller: str
    revision: int
    def __init__(self, number: _Optional[int] = ..., experiment_key: _Optional[str] = ..., created_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., caller: _Optional[str] = ..., revision: _Optional[int] = ...) -> None: ...
