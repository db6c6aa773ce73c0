"""Columns of the archived log, and of what is exported from it."""

from __future__ import annotations

import pyarrow as pa

RECORD = "record"
_TIME = pa.timestamp("us", tz="UTC")
_TEXT = pa.string()
_ENTITY = pa.struct([pa.field("type", _TEXT), pa.field("id", _TEXT)])

SCHEMA = pa.schema(
    [
        pa.field("arrival", pa.int64(), nullable=False),
        pa.field("arrival_time", _TIME),
        pa.field("event_time", _TIME),
        pa.field("event_id", _TEXT),
        pa.field("type", _TEXT),
        pa.field("user_id", _TEXT),
        pa.field("device_id", _TEXT),
        pa.field("rank_id", _TEXT),
        pa.field("position", pa.int32()),
        pa.field("surface", _TEXT),
        pa.field("traffic_class", _TEXT),
        pa.field("entities", pa.list_(_ENTITY)),
        pa.field("attributes", pa.map_(_TEXT, _TEXT)),
        pa.field("payload_kind", _TEXT),
        pa.field("amount_minor", pa.int64()),
        pa.field("producer", _TEXT),
        pa.field("sequence", pa.int64()),
        pa.field("config_hash", _TEXT),
        pa.field("duplicate", pa.bool_(), nullable=False),
        pa.field("too_late", pa.bool_(), nullable=False),
        pa.field(RECORD, pa.binary(), nullable=False),
    ]
)
"""One row a log record. Null is what the event does not say.

``arrival``: position in the log; ``user_id`` and ``device_id``: pseudonyms; ``traffic_class``:
``live``, ``test``, …; ``attributes``: values as text, lists as JSON; ``payload_kind``: which of the
kinds with invariants it carries; ``amount_minor``: of a purchase or refund; ``record``: the bytes
the log held, from which the rest can be made again. A record that is no event has ``arrival`` and
``record`` alone.
"""

FLAT_NAMES = [name for name in SCHEMA.names if name != RECORD]
"""The columns that people query: all but ``record``."""
