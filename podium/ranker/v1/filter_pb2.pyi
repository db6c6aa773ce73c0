from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Filter(_message.Message):
    __slots__ = ("all_of", "any_of", "negation", "comparison", "membership")
    class Operator(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        OPERATOR_UNSPECIFIED: _ClassVar[Filter.Operator]
        OPERATOR_EQUAL: _ClassVar[Filter.Operator]
        OPERATOR_NOT_EQUAL: _ClassVar[Filter.Operator]
        OPERATOR_LESS: _ClassVar[Filter.Operator]
        OPERATOR_LESS_OR_EQUAL: _ClassVar[Filter.Operator]
        OPERATOR_GREATER: _ClassVar[Filter.Operator]
        OPERATOR_GREATER_OR_EQUAL: _ClassVar[Filter.Operator]
    OPERATOR_UNSPECIFIED: Filter.Operator
    OPERATOR_EQUAL: Filter.Operator
    OPERATOR_NOT_EQUAL: Filter.Operator
    OPERATOR_LESS: Filter.Operator
    OPERATOR_LESS_OR_EQUAL: Filter.Operator
    OPERATOR_GREATER: Filter.Operator
    OPERATOR_GREATER_OR_EQUAL: Filter.Operator
    class And(_message.Message):
        __slots__ = ("filters",)
        FILTERS_FIELD_NUMBER: _ClassVar[int]
        filters: _containers.RepeatedCompositeFieldContainer[Filter]
        def __init__(self, filters: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ...) -> None: ...
    class Or(_message.Message):
        __slots__ = ("filters",)
        FILTERS_FIELD_NUMBER: _ClassVar[int]
        filters: _containers.RepeatedCompositeFieldContainer[Filter]
        def __init__(self, filters: _Optional[_Iterable[_Union[Filter, _Mapping]]] = ...) -> None: ...
    class Not(_message.Message):
        __slots__ = ("filter",)
        FILTER_FIELD_NUMBER: _ClassVar[int]
        filter: Filter
        def __init__(self, filter: _Optional[_Union[Filter, _Mapping]] = ...) -> None: ...
    class Compare(_message.Message):
        __slots__ = ("field", "operator", "string_value", "int_value", "double_value", "bool_value")
        FIELD_FIELD_NUMBER: _ClassVar[int]
        OPERATOR_FIELD_NUMBER: _ClassVar[int]
        STRING_VALUE_FIELD_NUMBER: _ClassVar[int]
        INT_VALUE_FIELD_NUMBER: _ClassVar[int]
        DOUBLE_VALUE_FIELD_NUMBER: _ClassVar[int]
        BOOL_VALUE_FIELD_NUMBER: _ClassVar[int]
        field: str
        operator: Filter.Operator
        string_value: str
        int_value: int
        double_value: float
        bool_value: bool
        def __init__(self, field: _Optional[str] = ..., operator: _Optional[_Union[Filter.Operator, str]] = ..., string_value: _Optional[str] = ..., int_value: _Optional[int] = ..., double_value: _Optional[float] = ..., bool_value: _Optional[bool] = ...) -> None: ...
    class In(_message.Message):
        __slots__ = ("field", "string_values", "int_values")
        FIELD_FIELD_NUMBER: _ClassVar[int]
        STRING_VALUES_FIELD_NUMBER: _ClassVar[int]
        INT_VALUES_FIELD_NUMBER: _ClassVar[int]
        field: str
        string_values: _containers.RepeatedScalarFieldContainer[str]
        int_values: _containers.RepeatedScalarFieldContainer[int]
        def __init__(self, field: _Optional[str] = ..., string_values: _Optional[_Iterable[str]] = ..., int_values: _Optional[_Iterable[int]] = ...) -> None: ...
    ALL_OF_FIELD_NUMBER: _ClassVar[int]
    ANY_OF_FIELD_NUMBER: _ClassVar[int]
    NEGATION_FIELD_NUMBER: _ClassVar[int]
    COMPARISON_FIELD_NUMBER: _ClassVar[int]
    MEMBERSHIP_FIELD_NUMBER: _ClassVar[int]
    all_of: Filter.And
    any_of: Filter.Or
    negation: Filter.Not
    comparison: Filter.Compare
    membership: Filter.In
    def __init__(self, all_of: _Optional[_Union[Filter.And, _Mapping]] = ..., any_of: _Optional[_Union[Filter.Or, _Mapping]] = ..., negation: _Optional[_Union[Filter.Not, _Mapping]] = ..., comparison: _Optional[_Union[Filter.Compare, _Mapping]] = ..., membership: _Optional[_Union[Filter.In, _Mapping]] = ...) -> None: ...
