from google.api import annotations_pb2 as _annotations_pb2
from podium.common.v1 import common_pb2 as _common_pb2
from podium.experiment.v1 import experiment_pb2 as _experiment_pb2
from podium.ranker.v1 import debug_pb2 as _debug_pb2
from podium.ranker.v1 import filter_pb2 as _filter_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Idempotency(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    IDEMPOTENCY_UNSPECIFIED: _ClassVar[Idempotency]
    IDEMPOTENCY_RANKED: _ClassVar[Idempotency]
    IDEMPOTENCY_KEPT: _ClassVar[Idempotency]
IDEMPOTENCY_UNSPECIFIED: Idempotency
IDEMPOTENCY_RANKED: Idempotency
IDEMPOTENCY_KEPT: Idempotency

class RankRequest(_message.Message):
    __slots__ = ("actor", "surface", "k", "context", "traffic_class", "dry_run", "forced_variants", "filter", "page_token", "idempotency_key", "candidate_ids", "debug", "evaluation_context")
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
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_IDS_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_CONTEXT_FIELD_NUMBER: _ClassVar[int]
    actor: _common_pb2.Actor
    surface: str
    k: int
    context: _common_pb2.RequestContext
    traffic_class: _common_pb2.TrafficClass
    dry_run: bool
    forced_variants: _containers.ScalarMap[str, str]
    filter: _filter_pb2.Filter
    page_token: str
    idempotency_key: str
    candidate_ids: _containers.RepeatedScalarFieldContainer[str]
    debug: bool
    evaluation_context: _experiment_pb2.EvaluationContext
    def __init__(self, actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ..., surface: _Optional[str] = ..., k: _Optional[int] = ..., context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ..., dry_run: _Optional[bool] = ..., forced_variants: _Optional[_Mapping[str, str]] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., page_token: _Optional[str] = ..., idempotency_key: _Optional[str] = ..., candidate_ids: _Optional[_Iterable[str]] = ..., debug: _Optional[bool] = ..., evaluation_context: _Optional[_Union[_experiment_pb2.EvaluationContext, _Mapping]] = ...) -> None: ...

class RankResponse(_message.Message):
    __slots__ = ("slate", "rank_id", "assignments", "bundle_version", "degraded", "timings", "traffic_class", "next_page_token", "refresh_token", "parent_rank_id", "idempotency", "debug", "sticky_changes")
    SLATE_FIELD_NUMBER: _ClassVar[int]
    RANK_ID_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PARENT_RANK_ID_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_FIELD_NUMBER: _ClassVar[int]
    DEBUG_FIELD_NUMBER: _ClassVar[int]
    STICKY_CHANGES_FIELD_NUMBER: _ClassVar[int]
    slate: Slate
    rank_id: str
    assignments: _containers.RepeatedCompositeFieldContainer[_common_pb2.Assignment]
    bundle_version: str
    degraded: _containers.RepeatedCompositeFieldContainer[Degradation]
    timings: _containers.RepeatedCompositeFieldContainer[StageTiming]
    traffic_class: _common_pb2.TrafficClass
    next_page_token: str
    refresh_token: str
    parent_rank_id: str
    idempotency: Idempotency
    debug: _debug_pb2.Debug
    sticky_changes: _containers.RepeatedCompositeFieldContainer[_experiment_pb2.StickyDocument]
    def __init__(self, slate: _Optional[_Union[Slate, _Mapping]] = ..., rank_id: _Optional[str] = ..., assignments: _Optional[_Iterable[_Union[_common_pb2.Assignment, _Mapping]]] = ..., bundle_version: _Optional[str] = ..., degraded: _Optional[_Iterable[_Union[Degradation, _Mapping]]] = ..., timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ..., next_page_token: _Optional[str] = ..., refresh_token: _Optional[str] = ..., parent_rank_id: _Optional[str] = ..., idempotency: _Optional[_Union[Idempotency, str]] = ..., debug: _Optional[_Union[_debug_pb2.Debug, _Mapping]] = ..., sticky_changes: _Optional[_Iterable[_Union[_experiment_pb2.StickyDocument, _Mapping]]] = ...) -> None: ...

class RankBatchRequest(_message.Message):
    __slots__ = ("actors", "surface", "k", "context", "traffic_class", "dry_run", "forced_variants", "filter", "idempotency_key", "evaluation_contexts")
    class ForcedVariantsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ACTORS_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    FORCED_VARIANTS_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    IDEMPOTENCY_KEY_FIELD_NUMBER: _ClassVar[int]
    EVALUATION_CONTEXTS_FIELD_NUMBER: _ClassVar[int]
    actors: _containers.RepeatedCompositeFieldContainer[_common_pb2.Actor]
    surface: str
    k: int
    context: _common_pb2.RequestContext
    traffic_class: _common_pb2.TrafficClass
    dry_run: bool
    forced_variants: _containers.ScalarMap[str, str]
    filter: _filter_pb2.Filter
    idempotency_key: str
    evaluation_contexts: _containers.RepeatedCompositeFieldContainer[_experiment_pb2.EvaluationContext]
    def __init__(self, actors: _Optional[_Iterable[_Union[_common_pb2.Actor, _Mapping]]] = ..., surface: _Optional[str] = ..., k: _Optional[int] = ..., context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ..., dry_run: _Optional[bool] = ..., forced_variants: _Optional[_Mapping[str, str]] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ..., idempotency_key: _Optional[str] = ..., evaluation_contexts: _Optional[_Iterable[_Union[_experiment_pb2.EvaluationContext, _Mapping]]] = ...) -> None: ...

class RankBatchResponse(_message.Message):
    __slots__ = ("results",)
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[RankBatchResult]
    def __init__(self, results: _Optional[_Iterable[_Union[RankBatchResult, _Mapping]]] = ...) -> None: ...

class RankBatchResult(_message.Message):
    __slots__ = ("ranked", "error")
    RANKED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    ranked: RankResponse
    error: CallError
    def __init__(self, ranked: _Optional[_Union[RankResponse, _Mapping]] = ..., error: _Optional[_Union[CallError, _Mapping]] = ...) -> None: ...

class CallError(_message.Message):
    __slots__ = ("code", "reason", "message")
    CODE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MESSAGE_FIELD_NUMBER: _ClassVar[int]
    code: int
    reason: str
    message: str
    def __init__(self, code: _Optional[int] = ..., reason: _Optional[str] = ..., message: _Optional[str] = ...) -> None: ...

class RefreshRequest(_message.Message):
    __slots__ = ("actor", "surface", "refresh_token", "context", "dry_run", "filter")
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    actor: _common_pb2.Actor
    surface: str
    refresh_token: str
    context: _common_pb2.RequestContext
    dry_run: bool
    filter: _filter_pb2.Filter
    def __init__(self, actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ..., surface: _Optional[str] = ..., refresh_token: _Optional[str] = ..., context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., dry_run: _Optional[bool] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ...) -> None: ...

class RefreshResponse(_message.Message):
    __slots__ = ("slate", "rank_id", "assignments", "bundle_version", "degraded", "timings", "traffic_class", "refresh_token", "parent_rank_id", "removed")
    SLATE_FIELD_NUMBER: _ClassVar[int]
    RANK_ID_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    REFRESH_TOKEN_FIELD_NUMBER: _ClassVar[int]
    PARENT_RANK_ID_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    slate: Slate
    rank_id: str
    assignments: _containers.RepeatedCompositeFieldContainer[_common_pb2.Assignment]
    bundle_version: str
    degraded: _containers.RepeatedCompositeFieldContainer[Degradation]
    timings: _containers.RepeatedCompositeFieldContainer[StageTiming]
    traffic_class: _common_pb2.TrafficClass
    refresh_token: str
    parent_rank_id: str
    removed: _containers.RepeatedCompositeFieldContainer[RemovedItem]
    def __init__(self, slate: _Optional[_Union[Slate, _Mapping]] = ..., rank_id: _Optional[str] = ..., assignments: _Optional[_Iterable[_Union[_common_pb2.Assignment, _Mapping]]] = ..., bundle_version: _Optional[str] = ..., degraded: _Optional[_Iterable[_Union[Degradation, _Mapping]]] = ..., timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ..., refresh_token: _Optional[str] = ..., parent_rank_id: _Optional[str] = ..., removed: _Optional[_Iterable[_Union[RemovedItem, _Mapping]]] = ...) -> None: ...

class RemovedItem(_message.Message):
    __slots__ = ("id", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class SimilarRequest(_message.Message):
    __slots__ = ("item", "surface", "actor", "k", "context", "traffic_class", "dry_run", "filter")
    ITEM_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    K_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    DRY_RUN_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    item: _common_pb2.EntityRef
    surface: str
    actor: _common_pb2.Actor
    k: int
    context: _common_pb2.RequestContext
    traffic_class: _common_pb2.TrafficClass
    dry_run: bool
    filter: _filter_pb2.Filter
    def __init__(self, item: _Optional[_Union[_common_pb2.EntityRef, _Mapping]] = ..., surface: _Optional[str] = ..., actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ..., k: _Optional[int] = ..., context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ..., dry_run: _Optional[bool] = ..., filter: _Optional[_Union[_filter_pb2.Filter, _Mapping]] = ...) -> None: ...

class SimilarResponse(_message.Message):
    __slots__ = ("slate", "rank_id", "bundle_version", "degraded", "timings", "traffic_class")
    SLATE_FIELD_NUMBER: _ClassVar[int]
    RANK_ID_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    slate: Slate
    rank_id: str
    bundle_version: str
    degraded: _containers.RepeatedCompositeFieldContainer[Degradation]
    timings: _containers.RepeatedCompositeFieldContainer[StageTiming]
    traffic_class: _common_pb2.TrafficClass
    def __init__(self, slate: _Optional[_Union[Slate, _Mapping]] = ..., rank_id: _Optional[str] = ..., bundle_version: _Optional[str] = ..., degraded: _Optional[_Iterable[_Union[Degradation, _Mapping]]] = ..., timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ...) -> None: ...

class ScoreRequest(_message.Message):
    __slots__ = ("actor", "surface", "item_ids", "context", "traffic_class", "forced_variants")
    class ForcedVariantsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    FORCED_VARIANTS_FIELD_NUMBER: _ClassVar[int]
    actor: _common_pb2.Actor
    surface: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    context: _common_pb2.RequestContext
    traffic_class: _common_pb2.TrafficClass
    forced_variants: _containers.ScalarMap[str, str]
    def __init__(self, actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ..., surface: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ..., forced_variants: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ScoreResponse(_message.Message):
    __slots__ = ("scored", "removed", "assignments", "bundle_version", "degraded", "timings", "traffic_class")
    SCORED_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    TIMINGS_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    scored: Slate
    removed: _containers.RepeatedCompositeFieldContainer[RemovedItem]
    assignments: _containers.RepeatedCompositeFieldContainer[_common_pb2.Assignment]
    bundle_version: str
    degraded: _containers.RepeatedCompositeFieldContainer[Degradation]
    timings: _containers.RepeatedCompositeFieldContainer[StageTiming]
    traffic_class: _common_pb2.TrafficClass
    def __init__(self, scored: _Optional[_Union[Slate, _Mapping]] = ..., removed: _Optional[_Iterable[_Union[RemovedItem, _Mapping]]] = ..., assignments: _Optional[_Iterable[_Union[_common_pb2.Assignment, _Mapping]]] = ..., bundle_version: _Optional[str] = ..., degraded: _Optional[_Iterable[_Union[Degradation, _Mapping]]] = ..., timings: _Optional[_Iterable[_Union[StageTiming, _Mapping]]] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ...) -> None: ...

class Slate(_message.Message):
    __slots__ = ("entity_type", "ids", "selling_course_ids", "sources", "values", "objectives", "predictions", "positions", "interleaving_teams", "prices_minor")
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    IDS_FIELD_NUMBER: _ClassVar[int]
    SELLING_COURSE_IDS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    INTERLEAVING_TEAMS_FIELD_NUMBER: _ClassVar[int]
    PRICES_MINOR_FIELD_NUMBER: _ClassVar[int]
    entity_type: str
    ids: _containers.RepeatedScalarFieldContainer[str]
    selling_course_ids: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[float]
    objectives: _containers.RepeatedScalarFieldContainer[str]
    predictions: _containers.RepeatedScalarFieldContainer[float]
    positions: _containers.RepeatedScalarFieldContainer[int]
    interleaving_teams: _containers.RepeatedScalarFieldContainer[str]
    prices_minor: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, entity_type: _Optional[str] = ..., ids: _Optional[_Iterable[str]] = ..., selling_course_ids: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[float]] = ..., objectives: _Optional[_Iterable[str]] = ..., predictions: _Optional[_Iterable[float]] = ..., positions: _Optional[_Iterable[int]] = ..., interleaving_teams: _Optional[_Iterable[str]] = ..., prices_minor: _Optional[_Iterable[int]] = ...) -> None: ...

class Degradation(_message.Message):
    __slots__ = ("part", "reason", "name", "age_ms")
    class Part(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PART_UNSPECIFIED: _ClassVar[Degradation.Part]
        PART_USER_FEATURES: _ClassVar[Degradation.Part]
        PART_CATALOGUE: _ClassVar[Degradation.Part]
        PART_RETRIEVAL: _ClassVar[Degradation.Part]
        PART_SCORING: _ClassVar[Degradation.Part]
        PART_EXPERIMENTS: _ClassVar[Degradation.Part]
    PART_UNSPECIFIED: Degradation.Part
    PART_USER_FEATURES: Degradation.Part
    PART_CATALOGUE: Degradation.Part
    PART_RETRIEVAL: Degradation.Part
    PART_SCORING: Degradation.Part
    PART_EXPERIMENTS: Degradation.Part
    class Reason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        REASON_UNSPECIFIED: _ClassVar[Degradation.Reason]
        REASON_UNAVAILABLE: _ClassVar[Degradation.Reason]
        REASON_TIMEOUT: _ClassVar[Degradation.Reason]
        REASON_STALE: _ClassVar[Degradation.Reason]
        REASON_NON_FINITE: _ClassVar[Degradation.Reason]
        REASON_UNKNOWN_VIEW: _ClassVar[Degradation.Reason]
        REASON_FAILED: _ClassVar[Degradation.Reason]
        REASON_REPLACED: _ClassVar[Degradation.Reason]
        REASON_OVERLOADED: _ClassVar[Degradation.Reason]
    REASON_UNSPECIFIED: Degradation.Reason
    REASON_UNAVAILABLE: Degradation.Reason
    REASON_TIMEOUT: Degradation.Reason
    REASON_STALE: Degradation.Reason
    REASON_NON_FINITE: Degradation.Reason
    REASON_UNKNOWN_VIEW: Degradation.Reason
    REASON_FAILED: Degradation.Reason
    REASON_REPLACED: Degradation.Reason
    REASON_OVERLOADED: Degradation.Reason
    PART_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    AGE_MS_FIELD_NUMBER: _ClassVar[int]
    part: Degradation.Part
    reason: Degradation.Reason
    name: str
    age_ms: int
    def __init__(self, part: _Optional[_Union[Degradation.Part, str]] = ..., reason: _Optional[_Union[Degradation.Reason, str]] = ..., name: _Optional[str] = ..., age_ms: _Optional[int] = ...) -> None: ...

class StageTiming(_message.Message):
    __slots__ = ("stage", "duration_us")
    STAGE_FIELD_NUMBER: _ClassVar[int]
    DURATION_US_FIELD_NUMBER: _ClassVar[int]
    stage: str
    duration_us: int
    def __init__(self, stage: _Optional[str] = ..., duration_us: _Optional[int] = ...) -> None: ...
