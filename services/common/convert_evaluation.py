"""Whom to assign, from and to messages, for every service that assigns. Limits are enforced."""

from __future__ import annotations

from collections.abc import Iterable

from google.protobuf import struct_pb2

from podium.experiment.v1 import experiment_pb2
from services.common.assign.assign import StickyDocument
from services.common.assign.model import ENTITY_UNITS, VISITOR_UNITS
from services.common.convert_limits import (
    MAX_ATTRIBUTE_KEY_BYTES,
    MAX_ID_BYTES,
    MAX_NAME_BYTES,
    MAX_STICKY_ASSIGNMENTS,
    MAX_STRING_BYTES,
    optional_text,
    require_count,
    require_finite,
    require_id,
    require_text,
)
from services.common.errors import InvalidArgument

MAX_UNITS = 16
MAX_CONTEXT_ATTRIBUTES = 64
MAX_INNER_VALUES = 1_000
MAX_STICKY_DOCUMENTS = 16
_KNOWN_UNITS = (*VISITOR_UNITS, *ENTITY_UNITS)


def context_units(field: str, sent: experiment_pb2.EvaluationContext) -> dict[str, str]:
    """Raw ids by unit type. Raises ``InvalidArgument`` naming parts of ``field``."""
    require_count(f"{field}.units", len(sent.units), 0, MAX_UNITS)
    for kind, unit_id in sent.units.items():
        if kind not in _KNOWN_UNITS:
            raise InvalidArgument.field(
                f"{field}.units", f"{kind!r} is not one of {', '.join(_KNOWN_UNITS)}"
            )
        require_text(f"{field}.units.{kind}", unit_id, MAX_ID_BYTES)
    return dict(sent.units)


def attributes_of(field: str, sent: struct_pb2.Struct) -> dict[str, object]:
    """JSON values by name, for conditions. Raises ``InvalidArgument`` naming ``field``."""
    require_count(field, len(sent.fields), 0, MAX_CONTEXT_ATTRIBUTES)
    return _object(field, sent, _Inside(field)) if sent.fields else {}


class _Inside:
    """Counts the values within lists and objects: what conditions take grows with them."""

    def __init__(self, field: str) -> None:
        self._field = field
        self._count = 0

    def add(self, count: int) -> None:
        """Raises ``InvalidArgument`` where they are too many."""
        self._count += count
        if self._count > MAX_INNER_VALUES:
            raise InvalidArgument.field(
                self._field,
                f"has more than {MAX_INNER_VALUES} values in its lists and objects",
            )


def _object(field: str, sent: struct_pb2.Struct, inside: _Inside) -> dict[str, object]:
    found = {}
    for key, value in sent.fields.items():
        require_text(f"{field} key", key, MAX_ATTRIBUTE_KEY_BYTES)
        found[key] = _value(f"{field}.{key}", value, inside)
    return found


def _value(field: str, sent: struct_pb2.Value, inside: _Inside) -> object:
    kind = sent.WhichOneof("kind")
    if kind == "string_value":
        # What patterns of conditions take grows with the texts they are held against.
        return optional_text(field, sent.string_value, MAX_STRING_BYTES)
    if kind == "number_value":
        # JSON knows no NaN and nothing infinite.
        return require_finite(field, sent.number_value)
    if kind == "bool_value":
        return sent.bool_value
    if kind == "list_value":
        values = sent.list_value.values
        inside.add(len(values))
        return [_value(f"{field}[{index}]", value, inside) for index, value in enumerate(values)]
    if kind == "struct_value":
        inside.add(len(sent.struct_value.fields))
        return _object(field, sent.struct_value, inside)
    return None


def context_documents(
    field: str, sent: experiment_pb2.EvaluationContext
) -> dict[str, StickyDocument] | None:
    """Sticky documents by key, None where nothing is to be kept. Raises the same."""
    if not sent.HasField("sticky_documents"):
        return None
    field = f"{field}.sticky_documents"
    documents = sent.sticky_documents.documents
    require_count(field, len(documents), 0, MAX_STICKY_DOCUMENTS)
    found: dict[str, StickyDocument] = {}
    for index, document in enumerate(documents):
        here = f"{field}[{index}]"
        kind = require_text(f"{here}.unit_type", document.unit_type, MAX_NAME_BYTES)
        unit_id = require_id(f"{here}.unit_id", document.unit_id)
        require_count(f"{here}.assignments", len(document.assignments), 0, MAX_STICKY_ASSIGNMENTS)
        kept = StickyDocument(kind, unit_id, dict(document.assignments))
        found[kept.key] = kept
    return found


def document_messages(documents: Iterable[StickyDocument]) -> list[experiment_pb2.StickyDocument]:
    """Sticky documents as messages."""
    return [
        experiment_pb2.StickyDocument(
            unit_type=document.unit, unit_id=document.unit_id, assignments=document.assignments
        )
        for document in documents
    ]
