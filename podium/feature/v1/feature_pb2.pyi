import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from podium.common.v1 import common_pb2 as _common_pb2
from podium.event.v1 import event_pb2 as _event_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class ValueStatus(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    VALUE_STATUS_UNSPECIFIED: _ClassVar[ValueStatus]
    VALUE_STATUS_PRESENT: _ClassVar[ValueStatus]
    VALUE_STATUS_NULL: _ClassVar[ValueStatus]
    VALUE_STATUS_NOT_FOUND: _ClassVar[ValueStatus]
    VALUE_STATUS_STALE: _ClassVar[ValueStatus]
VALUE_STATUS_UNSPECIFIED: ValueStatus
VALUE_STATUS_PRESENT: ValueStatus
VALUE_STATUS_NULL: ValueStatus
VALUE_STATUS_NOT_FOUND: ValueStatus
VALUE_STATUS_STALE: ValueStatus

class IngestRequest(_message.Message):
    __slots__ = ("events", "producer", "first_sequence")
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    producer: str
    first_sequence: int
    def __init__(self, events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., producer: _Optional[str] = ..., first_sequence: _Optional[int] = ...) -> None: ...

class IngestResponse(_message.Message):
    __slots__ = ("accepted", "duplicates", "rejections", "log_position", "too_late")
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    TOO_LATE_FIELD_NUMBER: _ClassVar[int]
    accepted: int
    duplicates: int
    rejections: _containers.RepeatedCompositeFieldContainer[Rejection]
    log_position: int
    too_late: int
    def __init__(self, accepted: _Optional[int] = ..., duplicates: _Optional[int] = ..., rejections: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ..., log_position: _Optional[int] = ..., too_late: _Optional[int] = ...) -> None: ...

class IngestStreamRequest(_message.Message):
    __slots__ = ("sequence", "events", "producer", "first_sequence")
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    EVENTS_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    FIRST_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    sequence: int
    events: _containers.RepeatedCompositeFieldContainer[_event_pb2.Event]
    producer: str
    first_sequence: int
    def __init__(self, sequence: _Optional[int] = ..., events: _Optional[_Iterable[_Union[_event_pb2.Event, _Mapping]]] = ..., producer: _Optional[str] = ..., first_sequence: _Optional[int] = ...) -> None: ...

class IngestStreamResponse(_message.Message):
    __slots__ = ("acked_through_sequence", "rejections", "accepted", "duplicates", "too_late", "log_position")
    ACKED_THROUGH_SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    REJECTIONS_FIELD_NUMBER: _ClassVar[int]
    ACCEPTED_FIELD_NUMBER: _ClassVar[int]
    DUPLICATES_FIELD_NUMBER: _ClassVar[int]
    TOO_LATE_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    acked_through_sequence: int
    rejections: _containers.RepeatedCompositeFieldContainer[Rejection]
    accepted: int
    duplicates: int
    too_late: int
    log_position: int
    def __init__(self, acked_through_sequence: _Optional[int] = ..., rejections: _Optional[_Iterable[_Union[Rejection, _Mapping]]] = ..., accepted: _Optional[int] = ..., duplicates: _Optional[int] = ..., too_late: _Optional[int] = ..., log_position: _Optional[int] = ...) -> None: ...

class Rejection(_message.Message):
    __slots__ = ("index", "event_id", "code", "reason", "message")
    INDEX_FIELD_NUMBER: _ClassVar[int]
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    index: int
    event_id: str
    code: int
    reason: str
    message: str
    def __init__(self, index: _Optional[int] = ..., event_id: _Optional[str] = ..., code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class AliasRequest(_message.Message):
    __slots__ = ("event_id", "actor")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    actor: _common_pb2.Actor
    def __init__(self, event_id: _Optional[str] = ..., actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ...) -> None: ...

class AliasResponse(_message.Message):
    __slots__ = ("duplicate", "log_position")
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    duplicate: bool
    log_position: int
    def __init__(self, duplicate: _Optional[bool] = ..., log_position: _Optional[int] = ...) -> None: ...

class EraseUserRequest(_message.Message):
    __slots__ = ("event_id", "actor")
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    actor: _common_pb2.Actor
    def __init__(self, event_id: _Optional[str] = ..., actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ...) -> None: ...

class EraseUserResponse(_message.Message):
    __slots__ = ("duplicate", "log_position")
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    duplicate: bool
    log_position: int
    def __init__(self, duplicate: _Optional[bool] = ..., log_position: _Optional[int] = ...) -> None: ...

class GetFeaturesRequest(_message.Message):
    __slots__ = ("entity_type", "ids", "view_name", "view_hash", "pair_ids", "include_event_times", "sticky_ids")
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    VIEW_NAME_FIELD_NUMBER: _ClassVar[int]
    VIEW_HASH_FIELD_NUMBER: _ClassVar[int]
    PAIR_IDS_FIELD_NUMBER: _ClassVar[int]
    INCLUDE_EVENT_TIMES_FIELD_NUMBER: _ClassVar[int]
    STICKY_IDS_FIELD_NUMBER: _ClassVar[int]
    entity_type: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    view_name: str
    view_hash: str
    pair_ids: _containers.RepeatedScalarFieldContainer[str]
    include_event_times: bool
    sticky_ids: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, entity_type: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., view_name: _Optional[str] = ..., view_hash: _Optional[str] = ..., pair_ids: _Optional[_Iterable[str]] = ..., include_event_times: _Optional[bool] = ..., sticky_ids: _Optional[_Iterable[str]] = ...) -> None: ...

class GetFeaturesResponse(_message.Message):
    __slots__ = ("block", "evaluated_at", "log_position", "view_hash", "event_times_ms", "sticky")
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    EVALUATED_AT_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    VIEW_HASH_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIMES_MS_FIELD_NUMBER: _ClassVar[int]
    STICKY_FIELD_NUMBER: _ClassVar[int]
    block: FeatureBlock
    evaluated_at: _timestamp_pb2.Timestamp
    log_position: int
    view_hash: str
    event_times_ms: bytes
    sticky: _containers.RepeatedCompositeFieldContainer[StickyAssignments]
    def __init__(self, block: _Optional[_Union[FeatureBlock, _Mapping]] = ..., evaluated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., log_position: _Optional[int] = ..., view_hash: _Optional[str] = ..., event_times_ms: _Optional[bytes] = ..., sticky: _Optional[_Iterable[_Union[StickyAssignments, _Mapping]]] = ...) -> None: ...

class StickyAssignments(_message.Message):
    __slots__ = ("assignments",)
    class AssignmentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    assignments: _containers.ScalarMap[str, str]
    def __init__(self, assignments: _Optional[_Mapping[str, str]] = ...) -> None: ...

class FeatureBlock(_message.Message):
    __slots__ = ("rows", "float_features", "float_values", "int_features", "int_values", "string_features", "string_values", "list_features", "list_offsets", "list_values", "statuses", "vector_features", "vector_dims", "vector_values")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    FLOAT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    FLOAT_VALUES_FIELD_NUMBER: _ClassVar[int]
    INT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    INT_VALUES_FIELD_NUMBER: _ClassVar[int]
    STRING_FEATURES_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUES_FIELD_NUMBER: _ClassVar[int]
    LIST_FEATURES_FIELD_NUMBER: _ClassVar[int]
    LIST_OFFSETS_FIELD_NUMBER: _ClassVar[int]
    LIST_VALUES_FIELD_NUMBER: _ClassVar[int]
    STATUSES_FIELD_NUMBER: _ClassVar[int]
    VECTOR_FEATURES_FIELD_NUMBER: _ClassVar[int]
    VECTOR_DIMS_FIELD_NUMBER: _ClassVar[int]
    VECTOR_VALUES_FIELD_NUMBER: _ClassVar[int]
    rows: int
    float_features: _containers.RepeatedScalarFieldContainer[str]
    float_values: bytes
    int_features: _containers.RepeatedScalarFieldContainer[str]
    int_values: bytes
    string_features: _containers.RepeatedScalarFieldContainer[str]
    string_values: _containers.RepeatedScalarFieldContainer[str]
    list_features: _containers.RepeatedScalarFieldContainer[str]
    list_offsets: bytes
    list_values: _containers.RepeatedScalarFieldContainer[str]
    statuses: bytes
    vector_features: _containers.RepeatedScalarFieldContainer[str]
    vector_dims: _containers.RepeatedScalarFieldContainer[int]
    vector_values: bytes
    def __init__(self, rows: _Optional[int] = ..., float_features: _Optional[_Iterable[str]] = ..., float_values: _Optional[bytes] = ..., int_features: _Optional[_Iterable[str]] = ..., int_values: _Optional[bytes] = ..., string_features: _Optional[_Iterable[str]] = ..., string_values: _Optional[_Iterable[str]] = ..., list_features: _Optional[_Iterable[str]] = ..., list_offsets: _Optional[bytes] = ..., list_values: _Optional[_Iterable[str]] = ..., statuses: _Optional[bytes] = ..., vector_features: _Optional[_Iterable[str]] = ..., vector_dims: _Optional[_Iterable[int]] = ..., vector_values: _Optional[bytes] = ...) -> None: ...

class WatchEntitiesRequest(_message.Message):
    __slots__ = ("views", "resume_token")
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    views: _containers.RepeatedCompositeFieldContainer[EntityView]
    resume_token: bytes
    def __init__(self, views: _Optional[_Iterable[_Union[EntityView, _Mapping]]] = ..., resume_token: _Optional[bytes] = ...) -> None: ...

class EntityView(_message.Message):
    __slots__ = ("entity_type", "view_name", "view_hash")
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    VIEW_NAME_FIELD_NUMBER: _ClassVar[int]
    VIEW_HASH_FIELD_NUMBER: _ClassVar[int]
    entity_type: str
    view_name: str
    view_hash: str
    def __init__(self, entity_type: _Optional[str] = ..., view_name: _Optional[str] = ..., view_hash: _Optional[str] = ...) -> None: ...

class WatchEntitiesResponse(_message.Message):
    __slots__ = ("reset", "snapshot_chunk", "snapshot_end", "delta", "heartbeat", "resume_token", "as_of")
    RESET_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_END_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    reset: WatchReset
    snapshot_chunk: EntityRows
    snapshot_end: WatchSnapshotEnd
    delta: EntityDelta
    heartbeat: WatchHeartbeat
    resume_token: bytes
    as_of: _timestamp_pb2.Timestamp
    def __init__(self, reset: _Optional[_Union[WatchReset, _Mapping]] = ..., snapshot_chunk: _Optional[_Union[EntityRows, _Mapping]] = ..., snapshot_end: _Optional[_Union[WatchSnapshotEnd, _Mapping]] = ..., delta: _Optional[_Union[EntityDelta, _Mapping]] = ..., heartbeat: _Optional[_Union[WatchHeartbeat, _Mapping]] = ..., resume_token: _Optional[bytes] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class WatchReset(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class WatchSnapshotEnd(_message.Message):
    __slots__ = ("rows",)
    ROWS_FIELD_NUMBER: _ClassVar[int]
    rows: int
    def __init__(self, rows: _Optional[int] = ...) -> None: ...

class WatchHeartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class EntityRows(_message.Message):
    __slots__ = ("entity_type", "ids", "block")
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    BLOCK_FIELD_NUMBER: _ClassVar[int]
    entity_type: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    block: FeatureBlock
    def __init__(self, entity_type: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., block: _Optional[_Union[FeatureBlock, _Mapping]] = ...) -> None: ...

class EntityDelta(_message.Message):
    __slots__ = ("upserts", "tombstones")
    UPSERTS_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    upserts: _containers.RepeatedCompositeFieldContainer[EntityRows]
    tombstones: _containers.RepeatedCompositeFieldContainer[_common_pb2.EntityRef]
    def __init__(self, upserts: _Optional[_Iterable[_Union[EntityRows, _Mapping]]] = ..., tombstones: _Optional[_Iterable[_Union[_common_pb2.EntityRef, _Mapping]]] = ...) -> None: ...

class ListViewsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListViewsResponse(_message.Message):
    __slots__ = ("views", "building", "log_position", "build", "store_key_version", "key_version")
    VIEWS_FIELD_NUMBER: _ClassVar[int]
    BUILDING_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    BUILD_FIELD_NUMBER: _ClassVar[int]
    STORE_KEY_VERSION_FIELD_NUMBER: _ClassVar[int]
    KEY_VERSION_FIELD_NUMBER: _ClassVar[int]
    views: _containers.RepeatedCompositeFieldContainer[ServedView]
    building: StoreBuild
    log_position: int
    build: int
    store_key_version: int
    key_version: int
    def __init__(self, views: _Optional[_Iterable[_Union[ServedView, _Mapping]]] = ..., building: _Optional[_Union[StoreBuild, _Mapping]] = ..., log_position: _Optional[int] = ..., build: _Optional[int] = ..., store_key_version: _Optional[int] = ..., key_version: _Optional[int] = ...) -> None: ...

class ServedView(_message.Message):
    __slots__ = ("entity_type", "view_name", "view_hash", "features")
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    VIEW_NAME_FIELD_NUMBER: _ClassVar[int]
    VIEW_HASH_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    entity_type: str
    view_name: str
    view_hash: str
    features: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, entity_type: _Optional[str] = ..., view_name: _Optional[str] = ..., view_hash: _Optional[str] = ..., features: _Optional[_Iterable[str]] = ...) -> None: ...

class StoreBuild(_message.Message):
    __slots__ = ("new_views", "log_position", "log_end")
    NEW_VIEWS_FIELD_NUMBER: _ClassVar[int]
    LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    LOG_END_FIELD_NUMBER: _ClassVar[int]
    new_views: _containers.RepeatedCompositeFieldContainer[ServedView]
    log_position: int
    log_end: int
    def __init__(self, new_views: _Optional[_Iterable[_Union[ServedView, _Mapping]]] = ..., log_position: _Optional[int] = ..., log_end: _Optional[int] = ...) -> None: ...

class TopEntitiesRequest(_message.Message):
    __slots__ = ("entity_type", "view_name", "view_hash", "feature", "rising", "decayed", "limit", "required")
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    VIEW_NAME_FIELD_NUMBER: _ClassVar[int]
    VIEW_HASH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_FIELD_NUMBER: _ClassVar[int]
    RISING_FIELD_NUMBER: _ClassVar[int]
    DECAYED_FIELD_NUMBER: _ClassVar[int]
    LIMIT_FIELD_NUMBER: _ClassVar[int]
    REQUIRED_FIELD_NUMBER: _ClassVar[int]
    entity_type: str
    view_name: str
    view_hash: str
    feature: str
    rising: RisingScore
    decayed: DecayedScore
    limit: int
    required: str
    def __init__(self, entity_type: _Optional[str] = ..., view_name: _Optional[str] = ..., view_hash: _Optional[str] = ..., feature: _Optional[str] = ..., rising: _Optional[_Union[RisingScore, _Mapping]] = ..., decayed: _Optional[_Union[DecayedScore, _Mapping]] = ..., limit: _Optional[int] = ..., required: _Optional[str] = ...) -> None: ...

class RisingScore(_message.Message):
    __slots__ = ("recent", "baseline", "prior")
    RECENT_FIELD_NUMBER: _ClassVar[int]
    BASELINE_FIELD_NUMBER: _ClassVar[int]
    PRIOR_FIELD_NUMBER: _ClassVar[int]
    recent: str
    baseline: str
    prior: float
    def __init__(self, recent: _Optional[str] = ..., baseline: _Optional[str] = ..., prior: _Optional[float] = ...) -> None: ...

class DecayedScore(_message.Message):
    __slots__ = ("features", "half_life")
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    HALF_LIFE_FIELD_NUMBER: _ClassVar[int]
    features: _containers.RepeatedScalarFieldContainer[str]
    half_life: _duration_pb2.Duration
    def __init__(self, features: _Optional[_Iterable[str]] = ..., half_life: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class TopEntitiesResponse(_message.Message):
    __slots__ = ("ids", "scores", "as_of", "view_hash")
    IDS_FIELD_NUMBER: _ClassVar[int]
    SCORES_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    VIEW_HASH_FIELD_NUMBER: _ClassVar[int]
    ids: _containers.RepeatedScalarFieldContainer[str]
    scores: _containers.RepeatedScalarFieldContainer[float]
    as_of: _timestamp_pb2.Timestamp
    view_hash: str
    def __init__(self, ids: _Optional[_Iterable[str]] = ..., scores: _Optional[_Iterable[float]] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., view_hash: _Optional[str] = ...) -> None: ...
