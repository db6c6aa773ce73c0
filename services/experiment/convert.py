"""Between the experiment service's messages and its core; limits are enforced here."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from google.protobuf import json_format, struct_pb2

from podium.experiment.v1 import experiment_pb2
from services.common.assign.assign import (
    Context,
    Definitions,
    Evaluation,
    Experiment,
    StickyDocument,
    units_of,
)
from services.common.assign.canonical import Item, ItemKey
from services.common.assign.model import ENTITY_UNITS, VISITOR_UNITS
from services.common.convert_assignment import assignment_message
from services.common.convert_limits import (
    MAX_ATTRIBUTE_KEY_BYTES,
    MAX_EXPERIMENT_KEYS,
    MAX_ID_BYTES,
    MAX_NAME_BYTES,
    MAX_STRING_BYTES,
    forced_variants,
    optional_text,
    require_actor,
    require_count,
    require_id,
    require_text,
)
from services.common.errors import InvalidArgument

MAX_UNITS = 16
MAX_CONTEXT_ATTRIBUTES = 64
MAX_STICKY_DOCUMENTS = 16
MAX_STICKY_ASSIGNMENTS = 1_000
MAX_RESUME_TOKEN_BYTES = 128

_Response = experiment_pb2.WatchExperimentsResponse


class AssignCall(NamedTuple):
    """A checked request: whom to assign, experiments wanted."""

    context: Context
    keys: tuple[str, ...]


def assign_call(request: experiment_pb2.AssignRequest, now_ms: int) -> AssignCall:
    """Checks a request. Raises ``InvalidArgument`` naming field and limit."""
    asked = request.context
    units = _units(asked)
    if request.HasField("actor") or not units:
        units |= units_of(*require_actor("actor", request.actor))
    require_count("experiment_keys", len(request.experiment_keys), 0, MAX_EXPERIMENT_KEYS)
    keys = tuple(
        require_id(f"experiment_keys[{index}]", key)
        for index, key in enumerate(request.experiment_keys)
    )
    forced = forced_variants("forced_variants", request.forced_variants)
    fields = asked.attributes.fields
    require_count("context.attributes", len(fields), 0, MAX_CONTEXT_ATTRIBUTES)
    attributes = _attributes(asked.attributes) if fields else {}
    sticky = _sticky(asked.sticky_documents) if asked.HasField("sticky_documents") else None
    return AssignCall(Context(units, attributes, forced, sticky, now_ms), keys)


def _units(asked: experiment_pb2.EvaluationContext) -> dict[str, str]:
    require_count("context.units", len(asked.units), 0, MAX_UNITS)
    known = (*VISITOR_UNITS, *ENTITY_UNITS)
    for kind, unit_id in asked.units.items():
        if kind not in known:
            raise InvalidArgument.field(
                "context.units", f"{kind!r} is not one of {', '.join(known)}"
            )
        require_text(f"context.units.{kind}", unit_id, MAX_ID_BYTES)
    return dict(asked.units)


def _attributes(sent: struct_pb2.Struct) -> dict[str, object]:
    field = "context.attributes"
    try:
        found: dict[str, object] = json_format.MessageToDict(sent)
    except ValueError as error:
        # JSON knows no NaN and nothing infinite.
        raise InvalidArgument.field(field, str(error)) from error
    # What patterns of conditions take grows with the texts they are held against.
    _require_short_texts(field, found)
    return found


def _require_short_texts(field: str, value: object) -> None:
    if isinstance(value, str):
        optional_text(field, value, MAX_STRING_BYTES)
    elif isinstance(value, dict):
        for key, inner in value.items():
            require_text(f"{field} key", key, MAX_ATTRIBUTE_KEY_BYTES)
            _require_short_texts(f"{field}.{key}", inner)
    elif isinstance(value, list):
        for index, inner in enumerate(value):
            _require_short_texts(f"{field}[{index}]", inner)


def _sticky(sent: experiment_pb2.StickyDocuments) -> dict[str, StickyDocument]:
    field = "context.sticky_documents"
    require_count(field, len(sent.documents), 0, MAX_STICKY_DOCUMENTS)
    found: dict[str, StickyDocument] = {}
    for index, document in enumerate(sent.documents):
        here = f"{field}[{index}]"
        kind = require_text(f"{here}.unit_type", document.unit_type, MAX_NAME_BYTES)
        unit_id = require_text(f"{here}.unit_id", document.unit_id, MAX_ID_BYTES)
        require_count(f"{here}.assignments", len(document.assignments), 0, MAX_STICKY_ASSIGNMENTS)
        kept = StickyDocument(kind, unit_id, dict(document.assignments))
        found[kept.key] = kept
    return found


def assign_response(
    evaluation: Evaluation, definitions: Definitions
) -> experiment_pb2.AssignResponse:
    """The answer to Assign."""
    return experiment_pb2.AssignResponse(
        assignments=[assignment_message(a) for a in evaluation.assignments],
        definitions_hash=definitions.hash,
        sticky_changes=[
            experiment_pb2.StickyDocument(
                unit_type=d.unit, unit_id=d.unit_id, assignments=d.assignments
            )
            for d in evaluation.sticky_changes.values()
        ],
    )


def resume_token(request: experiment_pb2.WatchExperimentsRequest) -> bytes:
    """Checks a watch. Raises ``InvalidArgument``."""
    if len(request.resume_token) > MAX_RESUME_TOKEN_BYTES:
        raise InvalidArgument.field("resume_token", f"has more than {MAX_RESUME_TOKEN_BYTES} bytes")
    return request.resume_token


def list_response(definitions: Definitions) -> experiment_pb2.ListExperimentsResponse:
    """The answer to ListExperiments."""
    return experiment_pb2.ListExperimentsResponse(
        experiments=[_experiment(e) for e in definitions.experiments.values()],
        definitions_hash=definitions.hash,
    )


def _experiment(experiment: Experiment) -> experiment_pb2.Experiment:
    return experiment_pb2.Experiment(
        key=experiment.key,
        description=experiment.description,
        unit_type=experiment.unit,
        coverage=experiment.coverage,
        running=experiment.running,
        revision=experiment.revision,
        variants=[
            experiment_pb2.Variant(
                key=v.key,
                weight=v.weight,
                objective_weights=dict(v.objective_weights),
                interleave=v.interleave or (),
                bundle=v.bundle,
            )
            for v in experiment.variants
        ],
    )


class WatchEncoder:
    """Implements ``StepEncoder`` with ``WatchExperimentsResponse``."""

    def reset(self) -> bytes:
        """Forget everything; a snapshot follows."""
        return _Response(reset=experiment_pb2.DefinitionsReset()).SerializeToString()

    def chunk(self, items: Sequence[Item]) -> bytes:
        """Part of a snapshot."""
        chunk = experiment_pb2.DefinitionsChunk(definitions=[_definition(i) for i in items])
        return _Response(snapshot_chunk=chunk).SerializeToString()

    def end(self, count: int, token: bytes, as_of_ms: int, definitions_hash: str) -> bytes:
        """The snapshot is complete."""
        end = experiment_pb2.DefinitionsSnapshotEnd(definitions=count)
        return _encoded(_Response(snapshot_end=end), token, as_of_ms, definitions_hash)

    def delta(
        self,
        upserts: Sequence[Item],
        gone: Sequence[ItemKey],
        token: bytes,
        as_of_ms: int,
        definitions_hash: str,
    ) -> bytes:
        """Changes; the last three are empty where more of them follow."""
        delta = experiment_pb2.DefinitionsDelta(
            upserts=[_definition(item) for item in upserts],
            tombstones=[experiment_pb2.DefinitionRef(kind=kind, key=key) for kind, key in gone],
        )
        return _encoded(_Response(delta=delta), token, as_of_ms, definitions_hash)

    def heartbeat(self, token: bytes, as_of_ms: int, definitions_hash: str) -> bytes:
        """Nothing changed."""
        beat = experiment_pb2.DefinitionsHeartbeat()
        return _encoded(_Response(heartbeat=beat), token, as_of_ms, definitions_hash)


def _definition(item: Item) -> experiment_pb2.Definition:
    return experiment_pb2.Definition(
        kind=item.kind,
        key=item.key,
        revision=item.revision,
        evaluator_version=item.evaluator_version,
        canonical_json=item.text,
    )


def _encoded(response: _Response, token: bytes, as_of_ms: int, definitions_hash: str) -> bytes:
    response.resume_token = token
    response.definitions_hash = definitions_hash
    if as_of_ms:
        response.as_of.FromMilliseconds(as_of_ms)
    return response.SerializeToString()
