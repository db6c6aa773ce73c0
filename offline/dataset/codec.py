"""Log records to rows of the compacted columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
from google.protobuf.message import DecodeError

from offline.dataset.schema import ColumnSchema, attribute_column, changes_table
from podium.event.v1 import event_pb2
from services.common.actor import actor_key
from services.common.convert_event import is_live, milliseconds, room_values, upsert_values
from services.common.errors import FailedPrecondition
from services.feature.definitions import (
    AMOUNT,
    ENTITY_UPSERT,
    ENTITY_WITHDRAWAL,
    declared_value,
)

_NO_SUBJECT = ("", "")
_NO_REFUND = (None, None, None, None)


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
                or not is_live(event)
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
            values = upsert_values(event.entity_upsert)
        elif event.HasField("room_state"):
            values = room_values(event.room_state)
        else:
            return None
        for name, said in values:
            dtype = declared.get(name)
            value = None if dtype is None else declared_value(said, dtype)
            if value is not None:
                changed[attribute_column(name)] = bool(value) if dtype == "bool" else value
        return changed


def _refund(refund: event_pb2.Refund) -> tuple[int, str, int, int]:
    return (
        refund.amount.amount_minor,
        refund.purchase_event_id,
        milliseconds(refund.purchase_time),
        refund.purchase_amount.amount_minor,
    )


def _from_columns(columns: list[list[Any]], schema: pa.Schema) -> pa.Table:
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, schema, strict=True)]
    return pa.Table.from_arrays(arrays, schema=schema)
