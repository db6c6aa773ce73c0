import datetime

from google.protobuf import timestamp_pb2 as _timestamp_pb2
from podium.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Event(_message.Message):
    __slots__ = ("event_id", "type", "event_time", "actor", "rank_id", "position", "entities", "surface", "traffic_class", "attributes", "purchase", "refund", "room_state", "entity_upsert", "entity_withdrawal", "slate_served", "exposure", "decision", "profile", "alias", "erasure", "sticky_assigned")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.AttributeValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.AttributeValue, _Mapping]] = ...) -> None: ...
    EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    TYPE_FIELD_NUMBER: _ClassVar[int]
    EVENT_TIME_FIELD_NUMBER: _ClassVar[int]
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    RANK_ID_FIELD_NUMBER: _ClassVar[int]
    POSITION_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_CLASS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_FIELD_NUMBER: _ClassVar[int]
    REFUND_FIELD_NUMBER: _ClassVar[int]
    ROOM_STATE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_UPSERT_FIELD_NUMBER: _ClassVar[int]
    ENTITY_WITHDRAWAL_FIELD_NUMBER: _ClassVar[int]
    SLATE_SERVED_FIELD_NUMBER: _ClassVar[int]
    EXPOSURE_FIELD_NUMBER: _ClassVar[int]
    DECISION_FIELD_NUMBER: _ClassVar[int]
    PROFILE_FIELD_NUMBER: _ClassVar[int]
    ALIAS_FIELD_NUMBER: _ClassVar[int]
    ERASURE_FIELD_NUMBER: _ClassVar[int]
    STICKY_ASSIGNED_FIELD_NUMBER: _ClassVar[int]
    event_id: str
    type: str
    event_time: _timestamp_pb2.Timestamp
    actor: _common_pb2.Actor
    rank_id: str
    position: int
    entities: _containers.RepeatedCompositeFieldContainer[_common_pb2.EntityRef]
    surface: str
    traffic_class: _common_pb2.TrafficClass
    attributes: _containers.MessageMap[str, _common_pb2.AttributeValue]
    purchase: Purchase
    refund: Refund
    room_state: RoomState
    entity_upsert: EntityUpsert
    entity_withdrawal: EntityWithdrawal
    slate_served: SlateServed
    exposure: Exposure
    decision: Decision
    profile: Profile
    alias: Alias
    erasure: Erasure
    sticky_assigned: StickyAssigned
    def __init__(self, event_id: _Optional[str] = ..., type: _Optional[str] = ..., event_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ..., rank_id: _Optional[str] = ..., position: _Optional[int] = ..., entities: _Optional[_Iterable[_Union[_common_pb2.EntityRef, _Mapping]]] = ..., surface: _Optional[str] = ..., traffic_class: _Optional[_Union[_common_pb2.TrafficClass, str]] = ..., attributes: _Optional[_Mapping[str, _common_pb2.AttributeValue]] = ..., purchase: _Optional[_Union[Purchase, _Mapping]] = ..., refund: _Optional[_Union[Refund, _Mapping]] = ..., room_state: _Optional[_Union[RoomState, _Mapping]] = ..., entity_upsert: _Optional[_Union[EntityUpsert, _Mapping]] = ..., entity_withdrawal: _Optional[_Union[EntityWithdrawal, _Mapping]] = ..., slate_served: _Optional[_Union[SlateServed, _Mapping]] = ..., exposure: _Optional[_Union[Exposure, _Mapping]] = ..., decision: _Optional[_Union[Decision, _Mapping]] = ..., profile: _Optional[_Union[Profile, _Mapping]] = ..., alias: _Optional[_Union[Alias, _Mapping]] = ..., erasure: _Optional[_Union[Erasure, _Mapping]] = ..., sticky_assigned: _Optional[_Union[StickyAssigned, _Mapping]] = ...) -> None: ...

class Purchase(_message.Message):
    __slots__ = ("order_id", "line_id", "amount", "coupon_id")
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    COUPON_ID_FIELD_NUMBER: _ClassVar[int]
    order_id: str
    line_id: str
    amount: _common_pb2.Money
    coupon_id: str
    def __init__(self, order_id: _Optional[str] = ..., line_id: _Optional[str] = ..., amount: _Optional[_Union[_common_pb2.Money, _Mapping]] = ..., coupon_id: _Optional[str] = ...) -> None: ...

class Refund(_message.Message):
    __slots__ = ("refund_id", "order_id", "line_id", "amount", "purchase_event_id", "purchase_time", "purchase_amount")
    REFUND_ID_FIELD_NUMBER: _ClassVar[int]
    ORDER_ID_FIELD_NUMBER: _ClassVar[int]
    LINE_ID_FIELD_NUMBER: _ClassVar[int]
    AMOUNT_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_EVENT_ID_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_TIME_FIELD_NUMBER: _ClassVar[int]
    PURCHASE_AMOUNT_FIELD_NUMBER: _ClassVar[int]
    refund_id: str
    order_id: str
    line_id: str
    amount: _common_pb2.Money
    purchase_event_id: str
    purchase_time: _timestamp_pb2.Timestamp
    purchase_amount: _common_pb2.Money
    def __init__(self, refund_id: _Optional[str] = ..., order_id: _Optional[str] = ..., line_id: _Optional[str] = ..., amount: _Optional[_Union[_common_pb2.Money, _Mapping]] = ..., purchase_event_id: _Optional[str] = ..., purchase_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., purchase_amount: _Optional[_Union[_common_pb2.Money, _Mapping]] = ...) -> None: ...

class RoomState(_message.Message):
    __slots__ = ("state", "selling_course_id", "viewers")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[RoomState.State]
        STATE_STARTED: _ClassVar[RoomState.State]
        STATE_HEARTBEAT: _ClassVar[RoomState.State]
        STATE_NOW_SELLING: _ClassVar[RoomState.State]
        STATE_ENDED: _ClassVar[RoomState.State]
    STATE_UNSPECIFIED: RoomState.State
    STATE_STARTED: RoomState.State
    STATE_HEARTBEAT: RoomState.State
    STATE_NOW_SELLING: RoomState.State
    STATE_ENDED: RoomState.State
    STATE_FIELD_NUMBER: _ClassVar[int]
    SELLING_COURSE_ID_FIELD_NUMBER: _ClassVar[int]
    VIEWERS_FIELD_NUMBER: _ClassVar[int]
    state: RoomState.State
    selling_course_id: str
    viewers: int
    def __init__(self, state: _Optional[_Union[RoomState.State, str]] = ..., selling_course_id: _Optional[str] = ..., viewers: _Optional[int] = ...) -> None: ...

class EntityUpsert(_message.Message):
    __slots__ = ("attributes", "price", "seats_left", "language", "region", "enrolment_opens", "enrolment_closes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.AttributeValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.AttributeValue, _Mapping]] = ...) -> None: ...
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    PRICE_FIELD_NUMBER: _ClassVar[int]
    SEATS_LEFT_FIELD_NUMBER: _ClassVar[int]
    LANGUAGE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    ENROLMENT_OPENS_FIELD_NUMBER: _ClassVar[int]
    ENROLMENT_CLOSES_FIELD_NUMBER: _ClassVar[int]
    attributes: _containers.MessageMap[str, _common_pb2.AttributeValue]
    price: _common_pb2.Money
    seats_left: int
    language: str
    region: str
    enrolment_opens: _timestamp_pb2.Timestamp
    enrolment_closes: _timestamp_pb2.Timestamp
    def __init__(self, attributes: _Optional[_Mapping[str, _common_pb2.AttributeValue]] = ..., price: _Optional[_Union[_common_pb2.Money, _Mapping]] = ..., seats_left: _Optional[int] = ..., language: _Optional[str] = ..., region: _Optional[str] = ..., enrolment_opens: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., enrolment_closes: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ...) -> None: ...

class EntityWithdrawal(_message.Message):
    __slots__ = ("reason",)
    REASON_FIELD_NUMBER: _ClassVar[int]
    reason: str
    def __init__(self, reason: _Optional[str] = ...) -> None: ...

class Profile(_message.Message):
    __slots__ = ("version", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: _common_pb2.AttributeValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[_common_pb2.AttributeValue, _Mapping]] = ...) -> None: ...
    VERSION_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    version: str
    attributes: _containers.MessageMap[str, _common_pb2.AttributeValue]
    def __init__(self, version: _Optional[str] = ..., attributes: _Optional[_Mapping[str, _common_pb2.AttributeValue]] = ...) -> None: ...

class SlateServed(_message.Message):
    __slots__ = ("surface", "entity_type", "item_ids", "selling_course_ids", "sources", "values", "objectives", "predictions", "bundle_version", "policy", "assignments", "context", "degraded", "feature_view_hash", "feature_log_position", "user_features", "log_propensities", "feasible_counts", "exploration", "placements", "interleaving_teams", "parent_rank_id", "positions", "prices_minor")
    class Placement(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        PLACEMENT_UNSPECIFIED: _ClassVar[SlateServed.Placement]
        PLACEMENT_VALUE: _ClassVar[SlateServed.Placement]
        PLACEMENT_DRAWN: _ClassVar[SlateServed.Placement]
        PLACEMENT_PIN: _ClassVar[SlateServed.Placement]
        PLACEMENT_NEW_ITEM: _ClassVar[SlateServed.Placement]
        PLACEMENT_FLOOR: _ClassVar[SlateServed.Placement]
    PLACEMENT_UNSPECIFIED: SlateServed.Placement
    PLACEMENT_VALUE: SlateServed.Placement
    PLACEMENT_DRAWN: SlateServed.Placement
    PLACEMENT_PIN: SlateServed.Placement
    PLACEMENT_NEW_ITEM: SlateServed.Placement
    PLACEMENT_FLOOR: SlateServed.Placement
    SURFACE_FIELD_NUMBER: _ClassVar[int]
    ENTITY_TYPE_FIELD_NUMBER: _ClassVar[int]
    ITEM_IDS_FIELD_NUMBER: _ClassVar[int]
    SELLING_COURSE_IDS_FIELD_NUMBER: _ClassVar[int]
    SOURCES_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVES_FIELD_NUMBER: _ClassVar[int]
    PREDICTIONS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_VERSION_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    DEGRADED_FIELD_NUMBER: _ClassVar[int]
    FEATURE_VIEW_HASH_FIELD_NUMBER: _ClassVar[int]
    FEATURE_LOG_POSITION_FIELD_NUMBER: _ClassVar[int]
    USER_FEATURES_FIELD_NUMBER: _ClassVar[int]
    LOG_PROPENSITIES_FIELD_NUMBER: _ClassVar[int]
    FEASIBLE_COUNTS_FIELD_NUMBER: _ClassVar[int]
    EXPLORATION_FIELD_NUMBER: _ClassVar[int]
    PLACEMENTS_FIELD_NUMBER: _ClassVar[int]
    INTERLEAVING_TEAMS_FIELD_NUMBER: _ClassVar[int]
    PARENT_RANK_ID_FIELD_NUMBER: _ClassVar[int]
    POSITIONS_FIELD_NUMBER: _ClassVar[int]
    PRICES_MINOR_FIELD_NUMBER: _ClassVar[int]
    surface: str
    entity_type: str
    item_ids: _containers.RepeatedScalarFieldContainer[str]
    selling_course_ids: _containers.RepeatedScalarFieldContainer[str]
    sources: _containers.RepeatedScalarFieldContainer[str]
    values: _containers.RepeatedScalarFieldContainer[float]
    objectives: _containers.RepeatedScalarFieldContainer[str]
    predictions: _containers.RepeatedScalarFieldContainer[float]
    bundle_version: str
    policy: str
    assignments: _containers.RepeatedCompositeFieldContainer[_common_pb2.Assignment]
    context: _common_pb2.RequestContext
    degraded: _containers.RepeatedScalarFieldContainer[str]
    feature_view_hash: str
    feature_log_position: int
    user_features: ServedFeatures
    log_propensities: _containers.RepeatedScalarFieldContainer[float]
    feasible_counts: _containers.RepeatedScalarFieldContainer[int]
    exploration: Exploration
    placements: _containers.RepeatedScalarFieldContainer[SlateServed.Placement]
    interleaving_teams: _containers.RepeatedScalarFieldContainer[str]
    parent_rank_id: str
    positions: _containers.RepeatedScalarFieldContainer[int]
    prices_minor: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, surface: _Optional[str] = ..., entity_type: _Optional[str] = ..., item_ids: _Optional[_Iterable[str]] = ..., selling_course_ids: _Optional[_Iterable[str]] = ..., sources: _Optional[_Iterable[str]] = ..., values: _Optional[_Iterable[float]] = ..., objectives: _Optional[_Iterable[str]] = ..., predictions: _Optional[_Iterable[float]] = ..., bundle_version: _Optional[str] = ..., policy: _Optional[str] = ..., assignments: _Optional[_Iterable[_Union[_common_pb2.Assignment, _Mapping]]] = ..., context: _Optional[_Union[_common_pb2.RequestContext, _Mapping]] = ..., degraded: _Optional[_Iterable[str]] = ..., feature_view_hash: _Optional[str] = ..., feature_log_position: _Optional[int] = ..., user_features: _Optional[_Union[ServedFeatures, _Mapping]] = ..., log_propensities: _Optional[_Iterable[float]] = ..., feasible_counts: _Optional[_Iterable[int]] = ..., exploration: _Optional[_Union[Exploration, _Mapping]] = ..., placements: _Optional[_Iterable[_Union[SlateServed.Placement, str]]] = ..., interleaving_teams: _Optional[_Iterable[str]] = ..., parent_rank_id: _Optional[str] = ..., positions: _Optional[_Iterable[int]] = ..., prices_minor: _Optional[_Iterable[int]] = ...) -> None: ...

class Exploration(_message.Message):
    __slots__ = ("seed", "share", "temperature", "similarity_weight", "spread", "weights", "candidate_ids", "considered_count", "terms", "adjustments", "similarities", "feasible", "chosen", "earlier_similarities")
    SEED_FIELD_NUMBER: _ClassVar[int]
    SHARE_FIELD_NUMBER: _ClassVar[int]
    TEMPERATURE_FIELD_NUMBER: _ClassVar[int]
    SIMILARITY_WEIGHT_FIELD_NUMBER: _ClassVar[int]
    SPREAD_FIELD_NUMBER: _ClassVar[int]
    WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    CANDIDATE_IDS_FIELD_NUMBER: _ClassVar[int]
    CONSIDERED_COUNT_FIELD_NUMBER: _ClassVar[int]
    TERMS_FIELD_NUMBER: _ClassVar[int]
    ADJUSTMENTS_FIELD_NUMBER: _ClassVar[int]
    SIMILARITIES_FIELD_NUMBER: _ClassVar[int]
    FEASIBLE_FIELD_NUMBER: _ClassVar[int]
    CHOSEN_FIELD_NUMBER: _ClassVar[int]
    EARLIER_SIMILARITIES_FIELD_NUMBER: _ClassVar[int]
    seed: int
    share: float
    temperature: float
    similarity_weight: float
    spread: float
    weights: _containers.RepeatedScalarFieldContainer[float]
    candidate_ids: _containers.RepeatedScalarFieldContainer[str]
    considered_count: int
    terms: bytes
    adjustments: bytes
    similarities: bytes
    feasible: bytes
    chosen: _containers.RepeatedScalarFieldContainer[int]
    earlier_similarities: bytes
    def __init__(self, seed: _Optional[int] = ..., share: _Optional[float] = ..., temperature: _Optional[float] = ..., similarity_weight: _Optional[float] = ..., spread: _Optional[float] = ..., weights: _Optional[_Iterable[float]] = ..., candidate_ids: _Optional[_Iterable[str]] = ..., considered_count: _Optional[int] = ..., terms: _Optional[bytes] = ..., adjustments: _Optional[bytes] = ..., similarities: _Optional[bytes] = ..., feasible: _Optional[bytes] = ..., chosen: _Optional[_Iterable[int]] = ..., earlier_similarities: _Optional[bytes] = ...) -> None: ...

class ServedFeatures(_message.Message):
    __slots__ = ("evaluated_at", "float_features", "float_values", "int_features", "int_values", "string_features", "string_values", "list_features", "list_sizes", "list_values")
    EVALUATED_AT_FIELD_NUMBER: _ClassVar[int]
    FLOAT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    FLOAT_VALUES_FIELD_NUMBER: _ClassVar[int]
    INT_FEATURES_FIELD_NUMBER: _ClassVar[int]
    INT_VALUES_FIELD_NUMBER: _ClassVar[int]
    STRING_FEATURES_FIELD_NUMBER: _ClassVar[int]
    STRING_VALUES_FIELD_NUMBER: _ClassVar[int]
    LIST_FEATURES_FIELD_NUMBER: _ClassVar[int]
    LIST_SIZES_FIELD_NUMBER: _ClassVar[int]
    LIST_VALUES_FIELD_NUMBER: _ClassVar[int]
    evaluated_at: _timestamp_pb2.Timestamp
    float_features: _containers.RepeatedScalarFieldContainer[str]
    float_values: _containers.RepeatedScalarFieldContainer[float]
    int_features: _containers.RepeatedScalarFieldContainer[str]
    int_values: _containers.RepeatedScalarFieldContainer[int]
    string_features: _containers.RepeatedScalarFieldContainer[str]
    string_values: _containers.RepeatedScalarFieldContainer[str]
    list_features: _containers.RepeatedScalarFieldContainer[str]
    list_sizes: _containers.RepeatedScalarFieldContainer[int]
    list_values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, evaluated_at: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., float_features: _Optional[_Iterable[str]] = ..., float_values: _Optional[_Iterable[float]] = ..., int_features: _Optional[_Iterable[str]] = ..., int_values: _Optional[_Iterable[int]] = ..., string_features: _Optional[_Iterable[str]] = ..., string_values: _Optional[_Iterable[str]] = ..., list_features: _Optional[_Iterable[str]] = ..., list_sizes: _Optional[_Iterable[int]] = ..., list_values: _Optional[_Iterable[str]] = ...) -> None: ...

class Exposure(_message.Message):
    __slots__ = ("assignment",)
    ASSIGNMENT_FIELD_NUMBER: _ClassVar[int]
    assignment: _common_pb2.Assignment
    def __init__(self, assignment: _Optional[_Union[_common_pb2.Assignment, _Mapping]] = ...) -> None: ...

class StickyAssigned(_message.Message):
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

class Decision(_message.Message):
    __slots__ = ("policy", "action", "propensity")
    POLICY_FIELD_NUMBER: _ClassVar[int]
    ACTION_FIELD_NUMBER: _ClassVar[int]
    PROPENSITY_FIELD_NUMBER: _ClassVar[int]
    policy: str
    action: str
    propensity: float
    def __init__(self, policy: _Optional[str] = ..., action: _Optional[str] = ..., propensity: _Optional[float] = ...) -> None: ...

class Alias(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Erasure(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class LoggedEvent(_message.Message):
    __slots__ = ("event", "arrival", "arrival_time", "producer", "config_hash", "sequence", "duplicate", "too_late", "erased", "padding")
    EVENT_FIELD_NUMBER: _ClassVar[int]
    ARRIVAL_FIELD_NUMBER: _ClassVar[int]
    ARRIVAL_TIME_FIELD_NUMBER: _ClassVar[int]
    PRODUCER_FIELD_NUMBER: _ClassVar[int]
    CONFIG_HASH_FIELD_NUMBER: _ClassVar[int]
    SEQUENCE_FIELD_NUMBER: _ClassVar[int]
    DUPLICATE_FIELD_NUMBER: _ClassVar[int]
    TOO_LATE_FIELD_NUMBER: _ClassVar[int]
    ERASED_FIELD_NUMBER: _ClassVar[int]
    PADDING_FIELD_NUMBER: _ClassVar[int]
    event: Event
    arrival: int
    arrival_time: _timestamp_pb2.Timestamp
    producer: str
    config_hash: str
    sequence: int
    duplicate: bool
    too_late: bool
    erased: bytes
    padding: bytes
    def __init__(self, event: _Optional[_Union[Event, _Mapping]] = ..., arrival: _Optional[int] = ..., arrival_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., producer: _Optional[str] = ..., config_hash: _Optional[str] = ..., sequence: _Optional[int] = ..., duplicate: _Optional[bool] = ..., too_late: _Optional[bool] = ..., erased: _Optional[bytes] = ..., padding: _Optional[bytes] = ...) -> None: ...
