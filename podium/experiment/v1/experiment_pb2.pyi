from google.api import annotations_pb2 as _annotations_pb2
from podium.common.v1 import common_pb2 as _common_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AssignRequest(_message.Message):
    __slots__ = ("actor", "experiment_keys", "forced_variants")
    class ForcedVariantsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_KEYS_FIELD_NUMBER: _ClassVar[int]
    FORCED_VARIANTS_FIELD_NUMBER: _ClassVar[int]
    actor: _common_pb2.Actor
    experiment_keys: _containers.RepeatedScalarFieldContainer[str]
    forced_variants: _containers.ScalarMap[str, str]
    def __init__(self, actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ..., experiment_keys: _Optional[_Iterable[str]] = ..., forced_variants: _Optional[_Mapping[str, str]] = ...) -> None: ...

class AssignResponse(_message.Message):
    __slots__ = ("assignments", "definitions_hash")
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_HASH_FIELD_NUMBER: _ClassVar[int]
    assignments: _containers.RepeatedCompositeFieldContainer[_common_pb2.Assignment]
    definitions_hash: str
    def __init__(self, assignments: _Optional[_Iterable[_Union[_common_pb2.Assignment, _Mapping]]] = ..., definitions_hash: _Optional[str] = ...) -> None: ...

class ListExperimentsRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class ListExperimentsResponse(_message.Message):
    __slots__ = ("experiments", "definitions_hash")
    EXPERIMENTS_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_HASH_FIELD_NUMBER: _ClassVar[int]
    experiments: _containers.RepeatedCompositeFieldContainer[Experiment]
    definitions_hash: str
    def __init__(self, experiments: _Optional[_Iterable[_Union[Experiment, _Mapping]]] = ..., definitions_hash: _Optional[str] = ...) -> None: ...

class Experiment(_message.Message):
    __slots__ = ("key", "description", "unit_type", "coverage", "running", "revision", "variants")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    UNIT_TYPE_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    key: str
    description: str
    unit_type: str
    coverage: float
    running: bool
    revision: int
    variants: _containers.RepeatedCompositeFieldContainer[Variant]
    def __init__(self, key: _Optional[str] = ..., description: _Optional[str] = ..., unit_type: _Optional[str] = ..., coverage: _Optional[float] = ..., running: _Optional[bool] = ..., revision: _Optional[int] = ..., variants: _Optional[_Iterable[_Union[Variant, _Mapping]]] = ...) -> None: ...

class Variant(_message.Message):
    __slots__ = ("key", "weight", "objective_weights", "interleave", "bundle")
    class ObjectiveWeightsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: float
        def __init__(self, key: _Optional[str] = ..., value: _Optional[float] = ...) -> None: ...
    KEY_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    OBJECTIVE_WEIGHTS_FIELD_NUMBER: _ClassVar[int]
    INTERLEAVE_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_FIELD_NUMBER: _ClassVar[int]
    key: str
    weight: float
    objective_weights: _containers.ScalarMap[str, float]
    interleave: _containers.RepeatedScalarFieldContainer[str]
    bundle: str
    def __init__(self, key: _Optional[str] = ..., weight: _Optional[float] = ..., objective_weights: _Optional[_Mapping[str, float]] = ..., interleave: _Optional[_Iterable[str]] = ..., bundle: _Optional[str] = ...) -> None: ...
