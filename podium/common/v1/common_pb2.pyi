from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrafficClass(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    TRAFFIC_CLASS_UNSPECIFIED: _ClassVar[TrafficClass]
    TRAFFIC_CLASS_LIVE: _ClassVar[TrafficClass]
    TRAFFIC_CLASS_TEST: _ClassVar[TrafficClass]
    TRAFFIC_CLASS_LOAD: _ClassVar[TrafficClass]
    TRAFFIC_CLASS_SHADOW: _ClassVar[TrafficClass]
    TRAFFIC_CLASS_REPLAY: _ClassVar[TrafficClass]

class AssignmentReason(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
    __slots__ = ()
    ASSIGNMENT_REASON_UNSPECIFIED: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_SPLIT: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_NOT_COVERED: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_MISSING_UNIT: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_NOT_RUNNING: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_FORCED: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_NOT_SCHEDULED: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_KILLED: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_HOLDOUT: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_NOT_IN_LAYER: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_FILTERED: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_NOT_TARGETED: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_MISSING_ATTRIBUTE: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_PREREQUISITE: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_STICKY: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_STICKY_BLOCKED: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_OTHER_RULE: _ClassVar[AssignmentReason]
    ASSIGNMENT_REASON_UNSUPPORTED: _ClassVar[AssignmentReason]
TRAFFIC_CLASS_UNSPECIFIED: TrafficClass
TRAFFIC_CLASS_LIVE: TrafficClass
TRAFFIC_CLASS_TEST: TrafficClass
TRAFFIC_CLASS_LOAD: TrafficClass
TRAFFIC_CLASS_SHADOW: TrafficClass
TRAFFIC_CLASS_REPLAY: TrafficClass
ASSIGNMENT_REASON_UNSPECIFIED: AssignmentReason
ASSIGNMENT_REASON_SPLIT: AssignmentReason
ASSIGNMENT_REASON_NOT_COVERED: AssignmentReason
ASSIGNMENT_REASON_MISSING_UNIT: AssignmentReason
ASSIGNMENT_REASON_NOT_RUNNING: AssignmentReason
ASSIGNMENT_REASON_FORCED: AssignmentReason
ASSIGNMENT_REASON_NOT_SCHEDULED: AssignmentReason
ASSIGNMENT_REASON_KILLED: AssignmentReason
ASSIGNMENT_REASON_HOLDOUT: AssignmentReason
ASSIGNMENT_REASON_NOT_IN_LAYER: AssignmentReason
ASSIGNMENT_REASON_FILTERED: AssignmentReason
ASSIGNMENT_REASON_NOT_TARGETED: AssignmentReason
ASSIGNMENT_REASON_MISSING_ATTRIBUTE: AssignmentReason
ASSIGNMENT_REASON_PREREQUISITE: AssignmentReason
ASSIGNMENT_REASON_STICKY: AssignmentReason
ASSIGNMENT_REASON_STICKY_BLOCKED: AssignmentReason
ASSIGNMENT_REASON_OTHER_RULE: AssignmentReason
ASSIGNMENT_REASON_UNSUPPORTED: AssignmentReason

class Actor(_message.Message):
    __slots__ = ("user_id", "device_id")
    USER_ID_FIELD_NUMBER: _ClassVar[int]
    DEVICE_ID_FIELD_NUMBER: _ClassVar[int]
    user_id: str
    device_id: str
    def __init__(self, user_id: _Optional[str] = ..., device_id: _Optional[str] = ...) -> None: ...

class EntityRef(_message.Message):
    __slots__ = ("type", "id")
    TYPE_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    type: str
    id: str
    def __init__(self, type: _Optional[str] = ..., id: _Optional[str] = ...) -> None: ...

class Money(_message.Message):
    __slots__ = ("amount_minor", "currency_code")
    AMOUNT_MINOR_FIELD_NUMBER: _ClassVar[int]
    CURRENCY_CODE_FIELD_NUMBER: _ClassVar[int]
    amount_minor: int
    currency_code: str
    def __init__(self, amount_minor: _Optional[int] = ..., currency_code: _Optional[str] = ...) -> None: ...

class StringList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, values: _Optional[_Iterable[str]] = ...) -> None: ...

class FloatList(_message.Message):
    __slots__ = ("values",)
    VALUES_FIELD_NUMBER: _ClassVar[int]
    values: _containers.RepeatedScalarFieldContainer[float]
    def __init__(self, values: _Optional[_Iterable[float]] = ...) -> None: ...

class AttributeValue(_message.Message):
    __slots__ = ("string_value", "int_value", "double_value", "bool_value", "string_list_value", "float_list_value")
    STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
    INT_VALUE_FIELD_NUMBER: _ClassVar[int]
    DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
    BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
    STRING_LIST_VALUE_FIELD_NUMBER: _ClassVar[int]
    FLOAT_LIST_VALUE_FIELD_NUMBER: _ClassVar[int]
    string_value: str
    int_value: int
    double_value: float
    bool_value: bool
    string_list_value: StringList
    float_list_value: FloatList
    def __init__(self, string_value: _Optional[str] = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., bool_value: _Optional[bool] = ..., string_list_value: _Optional[_Union[StringList, _Mapping]] = ..., float_list_value: _Optional[_Union[FloatList, _Mapping]] = ...) -> None: ...

class RequestContext(_message.Message):
    __slots__ = ("locale", "region", "time_zone", "device_type", "app_version", "session_id", "attributes")
    class AttributesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: AttributeValue
        def __init__(self, key: _Optional[str] = ..., value: _Optional[_Union[AttributeValue, _Mapping]] = ...) -> None: ...
    LOCALE_FIELD_NUMBER: _ClassVar[int]
    REGION_FIELD_NUMBER: _ClassVar[int]
    TIME_ZONE_FIELD_NUMBER: _ClassVar[int]
    DEVICE_TYPE_FIELD_NUMBER: _ClassVar[int]
    APP_VERSION_FIELD_NUMBER: _ClassVar[int]
    SESSION_ID_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    locale: str
    region: str
    time_zone: str
    device_type: str
    app_version: str
    session_id: str
    attributes: _containers.MessageMap[str, AttributeValue]
    def __init__(self, locale: _Optional[str] = ..., region: _Optional[str] = ..., time_zone: _Optional[str] = ..., device_type: _Optional[str] = ..., app_version: _Optional[str] = ..., session_id: _Optional[str] = ..., attributes: _Optional[_Mapping[str, AttributeValue]] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("experiment_key", "variant_key", "reason", "bucket", "unit_type", "revision", "other_variant_key")
    EXPERIMENT_KEY_FIELD_NUMBER: _ClassVar[int]
    VARIANT_KEY_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    BUCKET_FIELD_NUMBER: _ClassVar[int]
    UNIT_TYPE_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    OTHER_VARIANT_KEY_FIELD_NUMBER: _ClassVar[int]
    experiment_key: str
    variant_key: str
    reason: AssignmentReason
    bucket: float
    unit_type: str
    revision: int
    other_variant_key: str
    def __init__(self, experiment_key: _Optional[str] = ..., variant_key: _Optional[str] = ..., reason: _Optional[_Union[AssignmentReason, str]] = ..., bucket: _Optional[float] = ..., unit_type: _Optional[str] = ..., revision: _Optional[int] = ..., other_variant_key: _Optional[str] = ...) -> None: ...
