"""Log records to rows of the archive."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pyarrow as pa
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from offline.archive.columns import SCHEMA
from podium.common.v1.common_pb2 import AttributeValue, TrafficClass
from podium.event.v1.event_pb2 import LoggedEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
_TRAFFIC = {
    number: "live" if number == 0 else name.removeprefix("TRAFFIC_CLASS_").lower()
    for name, number in TrafficClass.items()
}
_NESTED = ("entities", "attributes")
_PLAIN = [name for name in SCHEMA.names if name not in _NESTED]
_UNSAID = (None,) * (len(_PLAIN) - 4)
_AMOUNTS = ("purchase", "refund")


def parse(record: bytes) -> LoggedEvent | None:
    """The event of a record; None for one that is no event."""
    try:
        return LoggedEvent.FromString(record)
    except (DecodeError, UnicodeDecodeError):
        return None


def arrival_us(logged: LoggedEvent) -> int | None:
    """When it was written, epoch microseconds; None where it does not say."""
    return _microseconds(logged.arrival_time) if logged.HasField("arrival_time") else None


class Rows:
    """Rows of ``SCHEMA`` in the making, in plain lists: one object a record slows the collector."""

    def __init__(self) -> None:
        self.payload_bytes = 0
        self._columns: dict[str, list[Any]] = {name: [] for name in _PLAIN}
        self._append = [self._columns[name].append for name in _PLAIN]
        self._entity_ends = [0]
        self._entity_types: list[str] = []
        self._entity_ids: list[str] = []
        self._attribute_ends = [0]
        self._attribute_names: list[str] = []
        self._attribute_values: list[str | None] = []

    def __len__(self) -> int:
        return len(self._entity_ends) - 1

    def add(self, arrival: int, record: bytes, logged: LoggedEvent | None) -> None:
        """Adds a record with what ``parse`` made of it; of None only the bytes are kept."""
        self.payload_bytes += len(record)
        if logged is None:
            cells: tuple[Any, ...] = (arrival, *_UNSAID, False, False, record)
        else:
            event = logged.event
            actor = event.actor
            kind = event.WhichOneof("payload")
            amount = getattr(event, kind).amount.amount_minor if kind in _AMOUNTS else None
            traffic = event.traffic_class
            cells = (
                arrival,
                arrival_us(logged),
                _microseconds(event.event_time) if event.HasField("event_time") else None,
                event.event_id or None,
                event.type or None,
                actor.user_id or None,
                actor.device_id or None,
                event.rank_id or None,
                event.position if event.HasField("position") else None,
                event.surface or None,
                _TRAFFIC.get(traffic) or str(traffic),
                kind,
                amount,
                logged.producer or None,
                logged.sequence if logged.HasField("sequence") else None,
                logged.config_hash or None,
                logged.duplicate,
                logged.too_late,
                record,
            )
            for entity in event.entities:
                self._entity_types.append(entity.type)
                self._entity_ids.append(entity.id)
            attributes = event.attributes
            for name in sorted(attributes):
                self._attribute_names.append(name)
                self._attribute_values.append(_text(attributes[name]))
        for append, cell in zip(self._append, cells, strict=True):
            append(cell)
        self._entity_ends.append(len(self._entity_ids))
        self._attribute_ends.append(len(self._attribute_names))

    def table(self) -> pa.Table:
        """The rows as a table of ``SCHEMA``."""
        columns = {
            name: pa.array(cells, SCHEMA.field(name).type) for name, cells in self._columns.items()
        }
        columns["entities"] = pa.ListArray.from_arrays(
            pa.array(self._entity_ends, pa.int32()),
            pa.StructArray.from_arrays(
                [
                    pa.array(self._entity_types, pa.string()),
                    pa.array(self._entity_ids, pa.string()),
                ],
                fields=list(SCHEMA.field("entities").type.value_type),
            ),
        )
        columns["attributes"] = pa.MapArray.from_arrays(
            pa.array(self._attribute_ends, pa.int32()),
            pa.array(self._attribute_names, pa.string()),
            pa.array(self._attribute_values, pa.string()),
        )
        return pa.Table.from_arrays([columns[name] for name in SCHEMA.names], schema=SCHEMA)


def utc_date(microseconds: int) -> date:
    """UTC date of an epoch time."""
    return (_EPOCH + timedelta(microseconds=microseconds)).date()


def _microseconds(time: Timestamp) -> int | None:
    """Epoch microseconds, rounded down; None outside the years 1 to 9999."""
    seconds = time.seconds
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        return None
    return seconds * 1_000_000 + time.nanos // 1_000


def _text(value: AttributeValue) -> str | None:
    match value.WhichOneof("kind"):
        case "string_value":
            return value.string_value
        case "int_value":
            return str(value.int_value)
        case "double_value":
            return repr(value.double_value)
        case "bool_value":
            return "true" if value.bool_value else "false"
        case "string_list_value":
            return json.dumps(list(value.string_list_value.values), ensure_ascii=False)
        case "float_list_value":
            return json.dumps(list(value.float_list_value.values))
        case _:
            return None
