from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Debug(_message.Message):
    __slots__ = ("items", "objectives", "weights", "policy", "sources", "filters", "removed", "scored_count", "over_load_count", "candidates_level", "seed", "versions", "captured", "first_pass")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    FILTERS_FIELD_NUMBER: _ClassVar[int]
    REMOVED_FIELD_NUMBER: _ClassVar[int]
    SCORED_COUNT_FIELD_NUMBER: _ClassVar[int]
    OVER_LOAD_COUNT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATES_LEVEL_FIELD_NUMBER: _ClassVar[int]
    SEED_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CAPTURED_FIELD_NUMBER: _ClassVar[int]
    FIRST_PASS_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[ItemDebug]
    objectives: _containers.RepeatedScalarFieldContainer[str]
    weights: _containers.RepeatedScalarFieldContainer[float]
    policy: str
    sources: _containers.RepeatedCompositeFieldContainer[SourceDebug]
    filters: _containers.RepeatedCompositeFieldContainer[FilterDebug]
    removed: _containers.RepeatedCompositeFieldContainer[RemovedDebug]
    scored_count: int
    over_load_count: int
    candidates_level: float
    seed: int
    versions: VersionsDebug
    captured: bool
    first_pass: FirstPassDebug
    def __init__(self, items: _Optional[_Iterable[_Union[ItemDebug, _Mapping]]] = ..., objectives: _Optional[_Iterable[str]] = ..., weights: _Optional[_Iterable[float]] = ..., policy: _Optional[str] = ..., sources: _Optional[_Iterable[_Union[SourceDebug, _Mapping]]] = ..., filters: _Optional[_Iterable[_Union[FilterDebug, _Mapping]]] = ..., removed: _Optional[_Iterable[_Union[RemovedDebug, _Mapping]]] = ..., scored_count: _Optional[int] = ..., over_load_count: _Optional[int] = ..., candidates_level: _Optional[float] = ..., seed: _Optional[int] = ..., versions: _Optional[_Union[VersionsDebug, _Mapping]] = ..., captured: _Optional[bool] = ..., first_pass: _Optional[_Union[FirstPassDebug, _Mapping]] = ...) -> None: ...

class ItemDebug(_message.Message):
    __slots__ = ("id", "found_by", "value", "value_place", "probabilities", "terms", "margin", "pacing", "like_id", "likeness", "likeness_cost", "placement", "features", "first_pass_value", "first_pass_place")
    class Placement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PLACEMENT_UNSPECIFIED: _ClassVar[ItemDebug.Placement]
        PLACEMENT_VALUE: _ClassVar[ItemDebug.Placement]
        PLACEMENT_DRAWN: _ClassVar[ItemDebug.Placement]
        PLACEMENT_PIN: _ClassVar[ItemDebug.Placement]
        PLACEMENT_NEW_ITEM: _ClassVar[ItemDebug.Placement]
        PLACEMENT_FLOOR: _ClassVar[ItemDebug.Placement]
    PLACEMENT_UNSPECIFIED: ItemDebug.Placement
    PLACEMENT_VALUE: ItemDebug.Placement
    PLACEMENT_DRAWN: ItemDebug.Placement
    PLACEMENT_PIN: ItemDebug.Placement
    PLACEMENT_NEW_ITEM: ItemDebug.Placement
    PLACEMENT_FLOOR: ItemDebug.Placement
    ID_FIELD_NUMBER: _ClassVar[int]
    FOUND_BY_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    VALUE_PLACE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    MARGIN_FIELD_NUMBER: _ClassVar[int]
    PACING_FIELD_NUMBER: _ClassVar[int]
    LIKE_ID_FIELD_NUMBER: _ClassVar[int]
    LIKENESS_FIELD_NUMBER: _ClassVar[int]
    LIKENESS_COST_FIELD_NUMBER: _ClassVar[int]
    PLACEMENT_FIELD_NUMBER: _ClassVar[int]
    FEATURES_FIELD_NUMBER: _ClassVar[int]
    FIRST_PASS_VALUE_FIELD_NUMBER: _ClassVar[int]
    FIRST_PASS_PLACE_FIELD_NUMBER: _ClassVar[int]
    id: str
    found_by: _containers.RepeatedCompositeFieldContainer[FoundByDebug]
    value: float
    value_place: int
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    terms: _containers.RepeatedScalarFieldContainer[float]
    margin: float
    pacing: float
    like_id: str
    likeness: float
    likeness_cost: float
    placement: ItemDebug.Placement
    features: _containers.RepeatedCompositeFieldContainer[FeatureDebug]
    first_pass_value: float
    first_pass_place: int
    def __init__(self, id: _Optional[str] = ..., found_by: _Optional[_Iterable[_Union[FoundByDebug, _Mapping]]] = ..., value: _Optional[float] = ..., value_place: _Optional[int] = ..., probabilities: _Optional[_Iterable[float]] = ..., terms: _Optional[_Iterable[float]] = ..., margin: _Optional[float] = ..., pacing: _Optional[float] = ..., like_id: _Optional[str] = ..., likeness: _Optional[float] = ..., likeness_cost: _Optional[float] = ..., placement: _Optional[_Union[ItemDebug.Placement, str]] = ..., features: _Optional[_Iterable[_Union[FeatureDebug, _Mapping]]] = ..., first_pass_value: _Optional[float] = ..., first_pass_place: _Optional[int] = ...) -> None: ...

class FoundByDebug(_message.Message):
    __slots__ = ("source", "place")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    source: str
    place: int
    def __init__(self, source: _Optional[str] = ..., place: _Optional[int] = ...) -> None: ...

class FeatureDebug(_message.Message):
    __slots__ = ("side", "name", "feature_value", "value", "probabilities")
    class Side(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        SIDE_UNSPECIFIED: _ClassVar[FeatureDebug.Side]
        SIDE_USER: _ClassVar[FeatureDebug.Side]
        SIDE_ITEM: _ClassVar[FeatureDebug.Side]
    SIDE_UNSPECIFIED: FeatureDebug.Side
    SIDE_USER: FeatureDebug.Side
    SIDE_ITEM: FeatureDebug.Side
    SIDE_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VALUE_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PROBABILITIES_FIELD_NUMBER: _ClassVar[int]
    side: FeatureDebug.Side
    name: str
    feature_value: float
    value: float
    probabilities: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, side: _Optional[_Union[FeatureDebug.Side, str]] = ..., name: _Optional[str] = ..., feature_value: _Optional[float] = ..., value: _Optional[float] = ..., probabilities: _Optional[_Iterable[float]] = ...) -> None: ...

class SourceDebug(_message.Message):
    __slots__ = ("source", "found_count", "candidate_count", "shown_count")
    SOURCE_FIELD_NUMBER: _ClassVar[int]
    FOUND_COUNT_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    SHOWN_COUNT_FIELD_NUMBER: _ClassVar[int]
    source: str
    found_count: int
    candidate_count: int
    shown_count: int
    def __init__(self, source: _Optional[str] = ..., found_count: _Optional[int] = ..., candidate_count: _Optional[int] = ..., shown_count: _Optional[int] = ...) -> None: ...

class FilterDebug(_message.Message):
    __slots__ = ("reason", "removed_count")
    REASON_FIELD_NUMBER: _ClassVar[int]
    REMOVED_COUNT_FIELD_NUMBER: _ClassVar[int]
    reason: str
    removed_count: int
    def __init__(self, reason: _Optional[str] = ..., removed_count: _Optional[int] = ...) -> None: ...

class RemovedDebug(_message.Message):
    __slots__ = ("id", "reason")
    ID_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    id: str
    reason: str
    def __init__(self, id: _Optional[str] = ..., reason: _Optional[str] = ...) -> None: ...

class FirstPassDebug(_message.Message):
    __slots__ = ("candidate_count", "is_learned", "cut")
    CANDIDATE_COUNT_FIELD_NUMBER: _ClassVar[int]
    IS_LEARNED_FIELD_NUMBER: _ClassVar[int]
    CUT_FIELD_NUMBER: _ClassVar[int]
    candidate_count: int
    is_learned: bool
    cut: _containers.RepeatedCompositeFieldContainer[CutDebug]
    def __init__(self, candidate_count: _Optional[int] = ..., is_learned: _Optional[bool] = ..., cut: _Optional[_Iterable[_Union[CutDebug, _Mapping]]] = ...) -> None: ...

class CutDebug(_message.Message):
    __slots__ = ("id", "value", "place")
    ID_FIELD_NUMBER: _ClassVar[int]
    VALUE_FIELD_NUMBER: _ClassVar[int]
    PLACE_FIELD_NUMBER: _ClassVar[int]
    id: str
    value: float
    place: int
    def __init__(self, id: _Optional[str] = ..., value: _Optional[float] = ..., place: _Optional[int] = ...) -> None: ...

class VersionsDebug(_message.Message):
    __slots__ = ("domain_hash", "experiments_hash", "feature_view_hash", "feature_log_position", "catalogue_change")
    DOMAIN_HASH_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENTS_HASH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEW_HASH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    CATALOGUE_CHANGE_FIELD_NUMBER: _ClassVar[int]
    domain_hash: str
    experiments_hash: str
    feature_view_hash: str
    feature_log_position: int
    catalogue_change: int
    def __init__(self, domain_hash: _Optional[str] = ..., experiments_hash: _Optional[str] = ..., feature_view_hash: _Optional[str] = ..., feature_log_position: _Optional[int] = ..., catalogue_change: _Optional[int] = ...) -> None: ...
