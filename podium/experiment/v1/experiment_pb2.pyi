import datetime

from google.api import annotations_pb2 as _annotations_pb2
from google.protobuf import struct_pb2 as _struct_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from podium.common.v1 import common_pb2 as _common_pb2
from podium.experiment.v1 import registry_pb2 as _registry_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AssignRequest(_message.Message):
    __slots__ = ("actor", "experiment_keys", "forced_variants", "context")
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
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    actor: _common_pb2.Actor
    experiment_keys: _containers.RepeatedScalarFieldContainer[str]
    forced_variants: _containers.ScalarMap[str, str]
    context: EvaluationContext
    def __init__(self, actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ..., experiment_keys: _Optional[_Iterable[str]] = ..., forced_variants: _Optional[_Mapping[str, str]] = ..., context: _Optional[_Union[EvaluationContext, _Mapping]] = ...) -> None: ...

class EvaluationContext(_message.Message):
    __slots__ = ("units", "attributes", "sticky_documents")
    class UnitsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    UNITS_FIELD_NUMBER: _ClassVar[int]
    ATTRIBUTES_FIELD_NUMBER: _ClassVar[int]
    STICKY_DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    units: _containers.ScalarMap[str, str]
    attributes: _struct_pb2.Struct
    sticky_documents: StickyDocuments
    def __init__(self, units: _Optional[_Mapping[str, str]] = ..., attributes: _Optional[_Union[_struct_pb2.Struct, _Mapping]] = ..., sticky_documents: _Optional[_Union[StickyDocuments, _Mapping]] = ...) -> None: ...

class StickyDocuments(_message.Message):
    __slots__ = ("documents",)
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    documents: _containers.RepeatedCompositeFieldContainer[StickyDocument]
    def __init__(self, documents: _Optional[_Iterable[_Union[StickyDocument, _Mapping]]] = ...) -> None: ...

class StickyDocument(_message.Message):
    __slots__ = ("unit_type", "unit_id", "assignments")
    class AssignmentsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    UNIT_TYPE_FIELD_NUMBER: _ClassVar[int]
    UNIT_ID_FIELD_NUMBER: _ClassVar[int]
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    unit_type: str
    unit_id: str
    assignments: _containers.ScalarMap[str, str]
    def __init__(self, unit_type: _Optional[str] = ..., unit_id: _Optional[str] = ..., assignments: _Optional[_Mapping[str, str]] = ...) -> None: ...

class AssignResponse(_message.Message):
    __slots__ = ("assignments", "definitions_hash", "sticky_changes")
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_HASH_FIELD_NUMBER: _ClassVar[int]
    STICKY_CHANGES_FIELD_NUMBER: _ClassVar[int]
    assignments: _containers.RepeatedCompositeFieldContainer[_common_pb2.Assignment]
    definitions_hash: str
    sticky_changes: _containers.RepeatedCompositeFieldContainer[StickyDocument]
    def __init__(self, assignments: _Optional[_Iterable[_Union[_common_pb2.Assignment, _Mapping]]] = ..., definitions_hash: _Optional[str] = ..., sticky_changes: _Optional[_Iterable[_Union[StickyDocument, _Mapping]]] = ...) -> None: ...

class AssignBatchRequest(_message.Message):
    __slots__ = ("units", "experiment_keys")
    UNITS_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_KEYS_FIELD_NUMBER: _ClassVar[int]
    units: _containers.RepeatedCompositeFieldContainer[BatchUnit]
    experiment_keys: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, units: _Optional[_Iterable[_Union[BatchUnit, _Mapping]]] = ..., experiment_keys: _Optional[_Iterable[str]] = ...) -> None: ...

class BatchUnit(_message.Message):
    __slots__ = ("actor", "forced_variants", "context")
    class ForcedVariantsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    ACTOR_FIELD_NUMBER: _ClassVar[int]
    FORCED_VARIANTS_FIELD_NUMBER: _ClassVar[int]
    CONTEXT_FIELD_NUMBER: _ClassVar[int]
    actor: _common_pb2.Actor
    forced_variants: _containers.ScalarMap[str, str]
    context: EvaluationContext
    def __init__(self, actor: _Optional[_Union[_common_pb2.Actor, _Mapping]] = ..., forced_variants: _Optional[_Mapping[str, str]] = ..., context: _Optional[_Union[EvaluationContext, _Mapping]] = ...) -> None: ...

class AssignBatchResponse(_message.Message):
    __slots__ = ("assignments", "definitions_hash", "sticky_changes")
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_HASH_FIELD_NUMBER: _ClassVar[int]
    STICKY_CHANGES_FIELD_NUMBER: _ClassVar[int]
    assignments: AssignmentColumns
    definitions_hash: str
    sticky_changes: _containers.RepeatedCompositeFieldContainer[BatchStickyChanges]
    def __init__(self, assignments: _Optional[_Union[AssignmentColumns, _Mapping]] = ..., definitions_hash: _Optional[str] = ..., sticky_changes: _Optional[_Iterable[_Union[BatchStickyChanges, _Mapping]]] = ...) -> None: ...

class AssignmentColumns(_message.Message):
    __slots__ = ("texts", "counts", "experiment_keys", "variant_keys", "reasons", "buckets", "unit_types", "revisions", "other_variant_keys")
    TEXTS_FIELD_NUMBER: _ClassVar[int]
    COUNTS_FIELD_NUMBER: _ClassVar[int]
    EXPERIMENT_KEYS_FIELD_NUMBER: _ClassVar[int]
    VARIANT_KEYS_FIELD_NUMBER: _ClassVar[int]
    REASONS_FIELD_NUMBER: _ClassVar[int]
    BUCKETS_FIELD_NUMBER: _ClassVar[int]
    UNIT_TYPES_FIELD_NUMBER: _ClassVar[int]
    REVISIONS_FIELD_NUMBER: _ClassVar[int]
    OTHER_VARIANT_KEYS_FIELD_NUMBER: _ClassVar[int]
    texts: _containers.RepeatedScalarFieldContainer[str]
    counts: _containers.RepeatedScalarFieldContainer[int]
    experiment_keys: _containers.RepeatedScalarFieldContainer[int]
    variant_keys: _containers.RepeatedScalarFieldContainer[int]
    reasons: _containers.RepeatedScalarFieldContainer[_common_pb2.AssignmentReason]
    buckets: _containers.RepeatedScalarFieldContainer[float]
    unit_types: _containers.RepeatedScalarFieldContainer[int]
    revisions: _containers.RepeatedScalarFieldContainer[int]
    other_variant_keys: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, texts: _Optional[_Iterable[str]] = ..., counts: _Optional[_Iterable[int]] = ..., experiment_keys: _Optional[_Iterable[int]] = ..., variant_keys: _Optional[_Iterable[int]] = ..., reasons: _Optional[_Iterable[_Union[_common_pb2.AssignmentReason, str]]] = ..., buckets: _Optional[_Iterable[float]] = ..., unit_types: _Optional[_Iterable[int]] = ..., revisions: _Optional[_Iterable[int]] = ..., other_variant_keys: _Optional[_Iterable[int]] = ...) -> None: ...

class BatchStickyChanges(_message.Message):
    __slots__ = ("unit", "documents")
    UNIT_FIELD_NUMBER: _ClassVar[int]
    DOCUMENTS_FIELD_NUMBER: _ClassVar[int]
    unit: int
    documents: _containers.RepeatedCompositeFieldContainer[StickyDocument]
    def __init__(self, unit: _Optional[int] = ..., documents: _Optional[_Iterable[_Union[StickyDocument, _Mapping]]] = ...) -> None: ...

class ListExperimentsRequest(_message.Message):
    __slots__ = ("after_key",)
    AFTER_KEY_FIELD_NUMBER: _ClassVar[int]
    after_key: str
    def __init__(self, after_key: _Optional[str] = ...) -> None: ...

class ListExperimentsResponse(_message.Message):
    __slots__ = ("experiments", "definitions_hash", "next_after_key")
    EXPERIMENTS_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_HASH_FIELD_NUMBER: _ClassVar[int]
    NEXT_AFTER_KEY_FIELD_NUMBER: _ClassVar[int]
    experiments: _containers.RepeatedCompositeFieldContainer[Experiment]
    definitions_hash: str
    next_after_key: str
    def __init__(self, experiments: _Optional[_Iterable[_Union[Experiment, _Mapping]]] = ..., definitions_hash: _Optional[str] = ..., next_after_key: _Optional[str] = ...) -> None: ...

class Experiment(_message.Message):
    __slots__ = ("key", "description", "unit_type", "coverage", "running", "revision", "variants", "canonical_json")
    KEY_FIELD_NUMBER: _ClassVar[int]
    DESCRIPTION_FIELD_NUMBER: _ClassVar[int]
    UNIT_TYPE_FIELD_NUMBER: _ClassVar[int]
    COVERAGE_FIELD_NUMBER: _ClassVar[int]
    RUNNING_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    VARIANTS_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_JSON_FIELD_NUMBER: _ClassVar[int]
    key: str
    description: str
    unit_type: str
    coverage: float
    running: bool
    revision: int
    variants: _containers.RepeatedCompositeFieldContainer[Variant]
    canonical_json: str
    def __init__(self, key: _Optional[str] = ..., description: _Optional[str] = ..., unit_type: _Optional[str] = ..., coverage: _Optional[float] = ..., running: _Optional[bool] = ..., revision: _Optional[int] = ..., variants: _Optional[_Iterable[_Union[Variant, _Mapping]]] = ..., canonical_json: _Optional[str] = ...) -> None: ...

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

class WatchExperimentsRequest(_message.Message):
    __slots__ = ("resume_token",)
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    resume_token: bytes
    def __init__(self, resume_token: _Optional[bytes] = ...) -> None: ...

class WatchExperimentsResponse(_message.Message):
    __slots__ = ("reset", "snapshot_chunk", "snapshot_end", "delta", "heartbeat", "resume_token", "as_of", "definitions_hash")
    RESET_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_CHUNK_FIELD_NUMBER: _ClassVar[int]
    SNAPSHOT_END_FIELD_NUMBER: _ClassVar[int]
    DELTA_FIELD_NUMBER: _ClassVar[int]
    HEARTBEAT_FIELD_NUMBER: _ClassVar[int]
    RESUME_TOKEN_FIELD_NUMBER: _ClassVar[int]
    AS_OF_FIELD_NUMBER: _ClassVar[int]
    DEFINITIONS_HASH_FIELD_NUMBER: _ClassVar[int]
    reset: DefinitionsReset
    snapshot_chunk: DefinitionsChunk
    snapshot_end: DefinitionsSnapshotEnd
    delta: DefinitionsDelta
    heartbeat: DefinitionsHeartbeat
    resume_token: bytes
    as_of: _timestamp_pb2.Timestamp
    definitions_hash: str
    def __init__(self, reset: _Optional[_Union[DefinitionsReset, _Mapping]] = ..., snapshot_chunk: _Optional[_Union[DefinitionsChunk, _Mapping]] = ..., snapshot_end: _Optional[_Union[DefinitionsSnapshotEnd, _Mapping]] = ..., delta: _Optional[_Union[DefinitionsDelta, _Mapping]] = ..., heartbeat: _Optional[_Union[DefinitionsHeartbeat, _Mapping]] = ..., resume_token: _Optional[bytes] = ..., as_of: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., definitions_hash: _Optional[str] = ...) -> None: ...

class DefinitionsReset(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DefinitionsChunk(_message.Message):
    __slots__ = ("definitions",)
    DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    definitions: _containers.RepeatedCompositeFieldContainer[Definition]
    def __init__(self, definitions: _Optional[_Iterable[_Union[Definition, _Mapping]]] = ...) -> None: ...

class DefinitionsSnapshotEnd(_message.Message):
    __slots__ = ("definitions",)
    DEFINITIONS_FIELD_NUMBER: _ClassVar[int]
    definitions: int
    def __init__(self, definitions: _Optional[int] = ...) -> None: ...

class DefinitionsDelta(_message.Message):
    __slots__ = ("upserts", "tombstones")
    UPSERTS_FIELD_NUMBER: _ClassVar[int]
    TOMBSTONES_FIELD_NUMBER: _ClassVar[int]
    upserts: _containers.RepeatedCompositeFieldContainer[Definition]
    tombstones: _containers.RepeatedCompositeFieldContainer[DefinitionRef]
    def __init__(self, upserts: _Optional[_Iterable[_Union[Definition, _Mapping]]] = ..., tombstones: _Optional[_Iterable[_Union[DefinitionRef, _Mapping]]] = ...) -> None: ...

class DefinitionsHeartbeat(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class Definition(_message.Message):
    __slots__ = ("kind", "key", "revision", "evaluator_version", "canonical_json")
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EVALUATOR_VERSION_FIELD_NUMBER: _ClassVar[int]
    CANONICAL_JSON_FIELD_NUMBER: _ClassVar[int]
    kind: str
    key: str
    revision: int
    evaluator_version: int
    canonical_json: str
    def __init__(self, kind: _Optional[str] = ..., key: _Optional[str] = ..., revision: _Optional[int] = ..., evaluator_version: _Optional[int] = ..., canonical_json: _Optional[str] = ...) -> None: ...

class DefinitionRef(_message.Message):
    __slots__ = ("kind", "key")
    KIND_FIELD_NUMBER: _ClassVar[int]
    KEY_FIELD_NUMBER: _ClassVar[int]
    kind: str
    key: str
    def __init__(self, kind: _Optional[str] = ..., key: _Optional[str] = ...) -> None: ...
