"""The event log on disk: one writer, many readers. ``format`` says what lies there.

The arrival of a record is its position in the log, from 0. These modules know bytes, not what is in
them; ``Salvage`` brings in who does, for the way past damage.
"""

from services.common.event_log.damage import Damage, DamageReport, LogCorrupt, Salvage
from services.common.event_log.format import (
    HEADER,
    MAX_PAYLOAD_BYTES,
    WRITER_LOCK,
    Segment,
    frame,
    list_segments,
    segment_path,
    split_frames,
)
from services.common.event_log.reader import LogReader, last_payload_before, read_log
from services.common.event_log.writer import LogWriter, SyncFailed

__all__ = [
    "HEADER",
    "MAX_PAYLOAD_BYTES",
    "WRITER_LOCK",
    "Damage",
    "DamageReport",
    "LogCorrupt",
    "LogReader",
    "LogWriter",
    "Salvage",
    "Segment",
    "SyncFailed",
    "frame",
    "last_payload_before",
    "list_segments",
    "read_log",
    "segment_path",
    "split_frames",
]
