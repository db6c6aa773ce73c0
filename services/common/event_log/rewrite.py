"""Segments with other bytes in the place of records, and of what lies between them.

Segments that are no longer written to are replaced as wholes; in the one that is, the bytes of
single records are. Lengths stay, so that readers keep their place. What can't be read as a record
(damage, cut-off tails) keeps its length, too.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from services.common.event_log.format import (
    HEADER,
    SUFFIX,
    TORN_SUFFIX,
    ArrivalOf,
    Segment,
    frame,
    resume,
    split_frames,
)
from services.common.files import LOCAL_FILES, write_whole

RewriteRecord = Callable[[int, bytes], bytes]
"""A record by (arrival, bytes) as it is to be, of the same length."""

RewriteRest = Callable[[bytes], bytes]
"""What is no sound record as it is to be, of the same length."""


def rewrite_segment(
    segment: Segment,
    rewrite: RewriteRecord,
    rewrite_rest: RewriteRest,
    arrival_of: ArrivalOf,
    *,
    before: int | None = None,
    in_place: bool = False,
) -> int:
    """Changes the records of a segment, and what lies between them; returns how many records
    changed.

    The file is there whole, as it was or as it is to be, unless it is changed ``in_place``.
    """
    try:
        data = segment.path.read_bytes()
    except FileNotFoundError:
        return 0
    patches: list[tuple[int, bytes]] = []
    changed = 0
    for offset, arrival, part in _parts(data, segment.first_arrival, arrival_of):
        if arrival is None:
            after = rewrite_rest(part)
            # The tail of the segment that is written to may be on its way.
            if after != part and not (in_place and offset + len(part) == len(data)):
                patches.append((offset, after))
        elif before is None or arrival < before:
            after = rewrite(arrival, part)
            if len(after) != len(part):
                raise ValueError(f"record {arrival} changed its length")
            if after != part:
                changed += 1
                patches.append((offset, frame(after)))
    if not patches:
        return 0
    if in_place:
        _patch(segment.path, patches)
        return changed
    whole = bytearray(data)
    for offset, after in patches:
        whole[offset : offset + len(after)] = after
    write_whole(LOCAL_FILES, segment.path, bytes(whole))
    return changed


def rewrite_torn(directory: Path, rewrite_rest: RewriteRest) -> None:
    """Changes what was cut off a log."""
    for path in directory.glob(f"*{TORN_SUFFIX}"):
        data = path.read_bytes()
        if (clean := rewrite_rest(data)) != data:
            write_whole(LOCAL_FILES, path, clean)


def records_of(path: Path, arrival_of: ArrivalOf) -> Iterator[tuple[int | None, bytes]] | None:
    """(arrival, payload) of a segment's records, (None, bytes) of what is between; None for a file
    that is no segment."""
    if path.suffix != SUFFIX or not path.stem.isdigit():
        return None
    parts = _parts(path.read_bytes(), int(path.stem), arrival_of)
    return ((arrival, part) for _, arrival, part in parts)


def _patch(path: Path, patches: Iterable[tuple[int, bytes]]) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        for offset, after in patches:
            # One write a record: a crash leaves at most the one being erased damaged.
            if os.pwrite(descriptor, after, offset) != len(after):
                raise OSError(f"{path} could not be written as a whole")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _parts(
    data: bytes, arrival: int, arrival_of: ArrivalOf
) -> Iterator[tuple[int, int | None, bytes]]:
    """(byte, arrival, payload) of every sound record; (byte, None, bytes) of what is between."""
    offset = 0
    while offset < len(data):
        payloads, end = split_frames(data, offset)
        for payload in payloads:
            yield offset, arrival, payload
            offset += HEADER.size + len(payload)
            arrival += 1
        if end == len(data):
            return
        further = resume(data, end, arrival, None, arrival_of)
        if further is None:
            yield end, None, data[end:]
            return
        yield end, None, data[end : further.offset]
        offset, arrival = further.offset, further.arrival
