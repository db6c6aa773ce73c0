"""Log records to rows of the archive."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any, NamedTuple

import pyarrow as pa
from google.protobuf.message import DecodeError
from google.protobuf.timestamp_pb2 import Timestamp

from offline.archive.columns import SCHEMA
from podium.common.v1.common_pb2 import AttributeValue, TrafficClass
from podium.event.v1.event_pb2 import Event, LoggedEvent

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST_SECOND = -62_135_596_800
_LAST_SECOND = 253_402_300_799
_TRAFFIC = {
    number: "live" if number == 0 else name.removeprefix("TRAFFIC_CLASS_").lower()
    for name, number in TrafficClass.items()
}


class Row(NamedTuple):
    """A record as cells in the order of ``SCHEMA``; ``arrival_us`` (epoch) is None without one."""

    arrival_us: int | None
    cells: Sequence[Any]


def decode(arrival: int, record: bytes) -> Row:
    """The row of a record; one that is no event keeps its bytes and says nothing else."""
    try:
        logged = LoggedEvent.FromString(record)
    except (DecodeError, UnicodeDecodeError):
        cells: list[Any] = [None] * len(SCHEMA)
        cells[0], cells[-3], cells[-2], cells[-1] = arrival, False, False, record
        return Row(None, cells)
    event = logged.event
    arrival_us = _microseconds(logged.arrival_time) if logged.HasField("arrival_time") else None
    return Row(
        arrival_us,
        (
            arrival,
            arrival_us,
            _microseconds(event.event_time) if event.HasField("event_time") else None,
            event.event_id or None,
            event.type or None,
            event.actor.user_id or None,
            event.actor.device_id or None,
            event.rank_id or None,
            event.position if event.HasField("position") else None,
            event.surface or None,
            _TRAFFIC.get(event.traffic_class, str(event.traffic_class)),
            [{"type": entity.type, "id": entity.id} for entity in event.entities],
            [(name, _text(event.attributes[name])) for name in sorted(event.attributes)],
            event.WhichOneof("payload"),
            _amount_minor(event),
            logged.producer or None,
            logged.sequence if logged.HasField("sequence") else None,
            logged.config_hash or None,
            logged.duplicate,
            logged.too_late,
            record,
        ),
    )


def to_table(rows: Iterable[Row]) -> pa.Table:
    """The rows as a table of ``SCHEMA``."""
    columns = list(zip(*(row.cells for row in rows), strict=True)) or [()] * len(SCHEMA)
    arrays = [pa.array(c, type=f.type) for c, f in zip(columns, SCHEMA, strict=True)]
    return pa.Table.from_arrays(arrays, schema=SCHEMA)


def utc_date(microseconds: int) -> date:
    """UTC date of an epoch time."""
    return (_EPOCH + timedelta(microseconds=microseconds)).date()


def _microseconds(time: Timestamp) -> int | None:
    """Epoch microseconds, rounded down; None outside the years 1 to 9999."""
    if not _FIRST_SECOND <= time.seconds <= _LAST_SECOND:
        return None
    return time.seconds * 1_000_000 + time.nanos // 1_000


def _amount_minor(event: Event) -> int | None:
    match event.WhichOneof("payload"):
        case "purchase":
            return event.purchase.amount.amount_minor
        case "refund":
            return event.refund.amount.amount_minor
        case _:
            return None


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
        case _:
            return None
