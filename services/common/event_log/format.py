"""The form of a log on disk: framed records in segments, and how to go on behind a bad one.

A directory holds segments named by the arrival of their first record
(``00000000000000000042.segment``). A record is ``u32 length``, ``u32 crc32(payload)``, payload;
both numbers little-endian. A payload has at least one byte: zeros, which a power loss may leave
behind, are no record.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from services.common.files import LOCAL_FILES, Files

HEADER = struct.Struct("<II")
MAX_PAYLOAD_BYTES = 64 << 20
SUFFIX = ".segment"
TORN_SUFFIX = ".torn"
"""Of the file that keeps what was cut off the end of a segment."""

WRITER_LOCK = "writer.lock"
"""File that the writer of a log holds a lock on."""

_SEARCHED_RECORD_BYTES = 1 << 20
"""Records larger than this are not looked for behind a bad one: each guess costs a checksum."""
_WINDOW_BYTES = 1 << 20

ArrivalOf = Callable[[bytes], int | None]
"""The arrival that a payload itself tells; None where it tells none."""


class Segment(NamedTuple):
    """One file of a log; ``first_arrival`` is the arrival of its first record."""

    first_arrival: int
    path: Path


class Resumption(NamedTuple):
    """Where sound records go on: byte in the data, and the arrival of the record there."""

    offset: int
    arrival: int


def segment_path(directory: Path, first_arrival: int) -> Path:
    """Where the segment starting at ``first_arrival`` lies."""
    return directory / f"{first_arrival:020d}{SUFFIX}"


def list_segments(directory: Path, files: Files = LOCAL_FILES) -> list[Segment]:
    """Segments by first arrival; none where the directory is missing."""
    stems = (name.removesuffix(SUFFIX) for name in files.names(directory) if name.endswith(SUFFIX))
    return sorted(
        Segment(int(stem), directory / (stem + SUFFIX)) for stem in stems if stem.isdecimal()
    )


def frame(payload: bytes) -> bytes:
    """One record as it lies on disk."""
    return HEADER.pack(len(payload), zlib.crc32(payload)) + payload


def split_frames(data: bytes, offset: int = 0) -> tuple[list[bytes], int]:
    """Payloads of the whole, sound records in ``data`` from ``offset``, and where they end."""
    payloads: list[bytes] = []
    size = len(data)
    while offset + HEADER.size <= size:
        length, checksum = HEADER.unpack_from(data, offset)
        end = offset + HEADER.size + length
        if not 0 < length <= MAX_PAYLOAD_BYTES or end > size:
            break
        payload = data[offset + HEADER.size : end]
        if zlib.crc32(payload) != checksum:
            break
        payloads.append(payload)
        offset = end
    return payloads, offset


def record_end(data: bytes, offset: int) -> int | None:
    """Where the record at ``offset`` ends by its own header, sound or not; None when that can't be
    or lies beyond the data."""
    if offset + HEADER.size > len(data):
        return None
    length, _ = HEADER.unpack_from(data, offset)
    end: int = offset + HEADER.size + length
    return end if 0 < length <= MAX_PAYLOAD_BYTES and end <= len(data) else None


def resume(
    data: bytes, bad: int, expected: int, before: int | None, arrival_of: ArrivalOf
) -> Resumption | None:
    """The first sound record behind the bad one at byte ``bad``, which should have had the arrival
    ``expected``; None when there is none.

    Its arrival is what its payload tells, where that can be: above ``expected`` by no more records
    than the bytes between could hold, and below ``before``, where the next segment starts. Else
    one record is taken to be lost, the least it can be.
    """
    end = record_end(data, bad)
    if end is None or not _is_sound(data, end):
        end = _search(data, bad + 1)
    if end is None:
        return None
    length, _ = HEADER.unpack_from(data, end)
    told = arrival_of(data[end + HEADER.size : end + HEADER.size + length])
    most = expected + (end - bad) // (HEADER.size + 1)
    if before is not None:
        most = min(most, before - 1)
    if told is None or not expected <= told <= max(most, expected):
        told = expected + 1
    return Resumption(end, told)


def _is_sound(data: bytes, offset: int) -> bool:
    end = record_end(data, offset)
    if end is None:
        return False
    _, checksum = HEADER.unpack_from(data, offset)
    return bool(zlib.crc32(memoryview(data)[offset + HEADER.size : end]) == checksum)


def _search(data: bytes, start: int) -> int | None:
    """Byte of the first sound record of at most ``_SEARCHED_RECORD_BYTES`` from ``start`` on."""
    size = len(data)
    for begin in range(start, size - HEADER.size, _WINDOW_BYTES):
        window = np.frombuffer(data, np.uint8, min(_WINDOW_BYTES + 3, size - begin), begin)
        lengths = (
            window[:-3].astype(np.uint32)
            | window[1:-2].astype(np.uint32) << 8
            | window[2:-1].astype(np.uint32) << 16
            | window[3:].astype(np.uint32) << 24
        )
        room = size - HEADER.size - begin - np.arange(len(lengths), dtype=np.int64)
        possible = (lengths > 0) & (lengths <= np.minimum(room, _SEARCHED_RECORD_BYTES))
        for place in np.flatnonzero(possible):
            if _is_sound(data, begin + int(place)):
                return begin + int(place)
    return None


def tells_nothing(payload: bytes) -> None:  # noqa: ARG001 - an ``ArrivalOf``
    """For payloads of which nothing is known."""
    return
