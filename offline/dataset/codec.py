"""Log records to rows of the compacted columns."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pyarrow as pa
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from offline.dataset.schema import ColumnSchema, attribute_column, changes_table
from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.actor import actor_key
from services.common.errors import FailedPrecondition
from services.feature.definitions import AMOUNT, ENTITY_UPSERT, ENTITY_WITHDRAWAL

_LIVE = (
    common_pb2.TrafficClass.TRAFFIC_CLASS_UNSPECIFIED,
    common_pb2.TrafficClass.TRAFFIC_CLASS_LIVE,
)
_KINDS = {
    "string": ("string_value",),
    "int": ("int_value", "bool_value"),
    "float": ("double_value", "int_value"),
    "bool": ("bool_value",),
}
_NO_SUBJECT = ("", "")
_NO_REFUND = (None, None, None, None)
_CONVERT = {"string": str, "int": int, "float": float, "bool": bool}


def milliseconds(timestamp: Timestamp) -> int:
    """Epoch milliseconds, rounded down."""
    return timestamp.seconds * 1_000 + timestamp.nanos // 1_000_000


class EventCodec:
    """Decodes chunks of the log into Arrow tables of one schema."""

    def __init__(self, schema: ColumnSchema) -> None:
        self._schema = schema
        self._types = frozenset(schema.events)
        self._entity_index = {name: index for index, name in enumerate(schema.entities)}

    def decode(self, records: Sequence[tuple[int, bytes]]) -> dict[str, pa.Table]:
        """Tables ``events`` and ``changes.<entity>`` of the records that count.

        Raises ``FailedPrecondition`` for a record that is no LoggedEvent.
        """
        columns: list[list[Any]] = [[] for _ in self._schema.event_schema]
        changes: dict[str, list[dict[str, Any]]] = {name: [] for name in self._schema.catalogue}
        for arrival, payload in records:
            try:
                logged = event_pb2.LoggedEvent.FromString(payload)
            except DecodeError as error:
                raise FailedPrecondition(f"log record {arrival} is not an event") from error
            event = logged.event
            if (
                event.type not in self._types
                or event.traffic_class not in _LIVE
                or logged.duplicate
                or logged.too_late
            ):
                continue
            time_ms = milliseconds(event.event_time)
            references = [(reference.type, reference.id) for reference in event.entities]
            self._append(columns, arrival, time_ms, event, references)
            if references and references[0][0] in changes:
                subject, identity = references[0]
                change = self._change(event, self._schema.catalogue[subject])
                if change is not None:
                    change |= {"arrival": arrival, "time_ms": time_ms, "id": identity}
                    changes[subject].append(change)
        tables = {"events": _from_columns(columns, self._schema.event_schema)}
        for entity, found in changes.items():
            schema = self._schema.change_schema(entity)
            tables[changes_table(entity)] = pa.Table.from_pylist(found, schema=schema)
        return tables

    def _append(
        self,
        columns: list[list[Any]],
        arrival: int,
        time_ms: int,
        event: event_pb2.Event,
        references: list[tuple[str, str]],
    ) -> None:
        """Adds one row, in the order of ``ColumnSchema.event_schema``."""
        payload = event.WhichOneof("payload")
        actor = event.actor
        named: list[str | None] = [None] * len(self._entity_index)
        for kind, identity in reversed(references):
            index = self._entity_index.get(kind)
            if index is not None:
                named[index] = identity
        row: list[Any] = [
            arrival,
            event.event_id,
            event.type,
            time_ms,
            actor_key(actor.user_id, actor.device_id),
            event.rank_id,
            event.position if event.HasField("position") else None,
            event.surface,
            *(references[0] if references else _NO_SUBJECT),
            *(_refund(event.refund) if payload == "refund" else _NO_REFUND),
            *named,
        ]
        attributes = event.attributes
        for name in self._schema.values:
            value: int | None = None
            if name == AMOUNT and payload == "purchase":
                value = event.purchase.amount.amount_minor
            elif name == AMOUNT and payload == "refund":
                value = event.refund.amount.amount_minor
            elif name in attributes:
                value = attributes[name].int_value
            row.append(value)
        for column, cell in zip(columns, row, strict=True):
            column.append(cell)

    @staticmethod
    def _change(event: event_pb2.Event, declared: dict[str, str]) -> dict[str, Any] | None:
        """What the event changes of its subject; None for an event that is no such change."""
        if event.type == ENTITY_WITHDRAWAL:
            return {"withdrawn": True}
        changed: dict[str, Any] = {}
        if event.type == ENTITY_UPSERT:
            changed["withdrawn"] = False
            values = _upsert_values(event.entity_upsert, declared)
        elif event.HasField("room_state"):
            values = _room_values(event.room_state)
        else:
            return None
        for name, value in values:
            if name in declared:
                changed[attribute_column(name)] = _CONVERT[declared[name]](value)
        return changed


def _refund(refund: event_pb2.Refund) -> tuple[int, str, int, int]:
    return (
        refund.amount.amount_minor,
        refund.purchase_event_id,
        milliseconds(refund.purchase_time),
        refund.purchase_amount.amount_minor,
    )


def _upsert_values(
    upsert: event_pb2.EntityUpsert, declared: dict[str, str]
) -> Iterator[tuple[str, str | int | float | bool]]:
    for name, value in upsert.attributes.items():
        kind = value.WhichOneof("kind")
        if name in declared and kind in _KINDS[declared[name]]:
            yield name, getattr(value, kind)
    if upsert.HasField("price"):
        yield "price_minor", upsert.price.amount_minor
        yield "currency", upsert.price.currency_code
    if upsert.HasField("seats_left"):
        yield "seats_left", upsert.seats_left
    if upsert.HasField("language"):
        yield "language", upsert.language
    if upsert.HasField("region"):
        yield "region", upsert.region
    if upsert.HasField("enrolment_opens"):
        yield "enrolment_opens_ms", milliseconds(upsert.enrolment_opens)
    if upsert.HasField("enrolment_closes"):
        yield "enrolment_closes_ms", milliseconds(upsert.enrolment_closes)


def _room_values(room: event_pb2.RoomState) -> Iterator[tuple[str, str | int | bool]]:
    if room.state == event_pb2.RoomState.STATE_STARTED:
        yield "live", True
        yield "selling_course_id", room.selling_course_id
        yield "viewers", room.viewers
    elif room.state == event_pb2.RoomState.STATE_HEARTBEAT and room.HasField("viewers"):
        yield "viewers", room.viewers
    elif room.state == event_pb2.RoomState.STATE_NOW_SELLING:
        yield "selling_course_id", room.selling_course_id
    elif room.state == event_pb2.RoomState.STATE_ENDED:
        yield "live", False


def _from_columns(columns: list[list[Any]], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
