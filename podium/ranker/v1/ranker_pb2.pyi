from google.api import annotations_pb2 as _annotations_pb2
from podium.common.v1 import common_pb2 as _common_pb2
from podium.ranker.v1 import filter_pb2 as _filter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class RankRequest(_message.Message):
    __slots__ = ("actor", "surface", "k", "context", "traffic_class", "dry_run", "forced_variants", "filter")
    class ForcedVariantsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    FORCED_VARIANTS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    actor: _common_pb2.Actor
    surface: str
    k: int
    context: _common_pb2.RequestContext
    traffic_class: _common_pb2.TrafficClass
    dry_run: bool
    forced_variants: _containers.ScalarMap[str, str]
    filter: _filter_pb2.Filter
    def __init__(self, actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ..., surface: _Optional[str] = ..., k: _Optional[int] = ..., context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ..., dry_run: _Optional[bool] = ..., forced_variants: _Optional[_Mapping[str, str]] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("slate", "rank_id", "assignments", "bundle_version", "degraded", "timings", "traffic_class")
    SLATE_FIELD_NUMBER: _ClassVar[int]
    RANK_ID_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    slate: Slate
    rank_id: str
    assignments: _containers.RepeatedCompositeFieldContainer[_common_pb2.Assignment]
    bundle_version: str
    degraded: _containers.RepeatedCompositeFieldContainer[Degradation]
    timings: _containers.RepeatedCompositeFieldContainer[StageTiming]
    traffic_class: _common_pb2.TrafficClass
    def __init__(self, slate: _Optional[_Union[Slate, _Mapping]] = ..., rank_id: _Optional[str] = ..., assignments: _Optional[_Iterable[_Union[_common_pb2.Assignment, _Mapping]]] = ..., bundle_version: _Optional[str] = ..., degraded: _Optional[_Iterable[_Union[Degradation, _Mapping]]] = ..., timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ...) -> None: ...

class Slate(_message.Message):
    __slots__ = ("entity_type", "ids", "selling_course_ids", "sources", "values", "objectives", "predictions")
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    SELLING_COURSE_IDS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    entity_type: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    selling_course_ids: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[float]
    objectives: _containers.RepeatedScalarFieldContainer[str]
    predictions: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, entity_type: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., selling_course_ids: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[float]] = ..., objectives: _Optional[_Iterable[str]] = ..., predictions: _Optional[_Iterable[float]] = ...) -> None: ...

class Degradation(_message.Message):
    __slots__ = ("part", "reason")
    class Part(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PART_UNSPECIFIED: _ClassVar[Degradation.Part]
        PART_USER_FEATURES: _ClassVar[Degradation.Part]
        PART_CATALOGUE: _ClassVar[Degradation.Part]
        PART_RETRIEVAL: _ClassVar[Degradation.Part]
        PART_SCORING: _ClassVar[Degradation.Part]
    PART_UNSPECIFIED: Degradation.Part
    PART_USER_FEATURES: Degradation.Part
    PART_CATALOGUE: Degradation.Part
    PART_RETRIEVAL: Degradation.Part
    PART_SCORING: Degradation.Part
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Degradation.Reason]
        REASON_UNAVAILABLE: _ClassVar[Degradation.Reason]
        REASON_TIMEOUT: _ClassVar[Degradation.Reason]
        REASON_STALE: _ClassVar[Degradation.Reason]
        REASON_NON_FINITE: _ClassVar[Degradation.Reason]
        REASON_UNKNOWN_VIEW: _ClassVar[Degradation.Reason]
        REASON_FAILED: _ClassVar[Degradation.Reason]
    REASON_UNSPECIFIED: Degradation.Reason
    REASON_UNAVAILABLE: Degradation.Reason
    REASON_TIMEOUT: Degradation.Reason
    REASON_STALE: Degradation.Reason
    REASON_NON_FINITE: Degradation.Reason
    REASON_UNKNOWN_VIEW: Degradation.Reason
    REASON_FAILED: Degradation.Reason
    PART_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    part: Degradation.Part
    reason: Degradation.Reason
    def __init__(self, part: _Optional[_Union[Degradation.Part, str]] = ..., reason: _Optional[_Union[Degradation.Reason, str]] = ...) -> None: ...

class StageTiming(_message.Message):
    __slots__ = ("stage", "duration_us")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    stage: str
    duration_us: int
    def __init__(self, stage: _Optional[str] = ..., duration_us: _Optional[int] = ...) -> None: ...
