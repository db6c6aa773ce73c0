"""Files without the actors that are to be forgotten, and the search for what is left of them.

Segments that are no longer written to are replaced as wholes; in the one that is, the bytes of
single records are. Lengths stay, so that readers keep their place. What can't be read as a record
(damage, cut-off tails) keeps its length, too: only the pseudonyms in it are overwritten.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from services.common.event_log import Segment, frame, list_segments
from services.common.event_log.format import HEADER, SUFFIX, resume, split_frames
from services.common.files import LOCAL_FILES, write_whole

Erase = Callable[[int, bytes], bytes]
"""A record by (arrival, bytes) as it is to be, of the same length."""

Blot = Callable[[bytes], bytes]
"""What is no sound record as it is to be, of the same length."""

ArrivalOf = Callable[[bytes], int | None]

_CHUNK_BYTES = 8 << 20
_TORN = ".torn"


@dataclass(frozen=True)
class Looked:
    """A place that was searched: its files, their bytes, and files in which something was found."""

    place: str
    files: int
    bytes: int
    found: tuple[Path, ...]


def erase_in_log(
    directory: Path,
    erase: Erase,
    arrival_of: ArrivalOf,
    pseudonyms: Collection[str],
    *,
    before: int | None = None,
    in_place: bool = False,
) -> int:
    """Erases in the segments of a log or spool; returns the number of records that changed.

    ``before``: only records with an arrival below it. ``in_place``: no file is replaced by another,
    for a directory whose files its owner removes.
    """
    changed = 0
    segments = list_segments(directory)

    def blot(data: bytes) -> bytes:
        return _blotted(data, pseudonyms)

    for segment in segments:
        writable = segment == segments[-1] or in_place
        changed += rewrite_segment(
            segment, erase, blot, arrival_of, before=before, in_place=writable
        )
    rewrite_torn(directory, blot)
    return changed


def rewrite_torn(directory: Path, blot: Blot) -> None:
    """Changes what was cut off a log."""
    for path in directory.glob(f"*{_TORN}"):
        data = path.read_bytes()
        if (clean := blot(data)) != data:
            write_whole(LOCAL_FILES, path, clean)


def rewrite_segment(
    segment: Segment,
    erase: Erase,
    blot: Blot,
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
            after = blot(part)
            # The tail of the segment that is written to may be on its way.
            if after != part and not (in_place and offset + len(part) == len(data)):
                patches.append((offset, after))
        elif before is None or arrival < before:
            after = erase(arrival, part)
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


def _blotted(data: bytes, pseudonyms: Collection[str]) -> bytes:
    for name in pseudonyms:
        data = data.replace(name.encode(), b"x" * len(name.encode()))
    return data


def records_of(path: Path, arrival_of: ArrivalOf) -> Iterator[tuple[int | None, bytes]] | None:
    """(arrival, payload) of a segment's records, (None, bytes) of what is between; None for a file
    that is no segment."""
    if path.suffix != SUFFIX or not path.stem.isdigit():
        return None
    parts = _parts(path.read_bytes(), int(path.stem), arrival_of)
    return ((arrival, part) for _, arrival, part in parts)


def look(place: Path, needles: Collection[bytes]) -> Looked:
    """Searches every byte of every file below a directory."""
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    found = tuple(path for path in files if holds(path, needles))
    return Looked(str(place), len(files), sum(path.stat().st_size for path in files), found)


def holds(path: Path, needles: Collection[bytes]) -> bool:
    """Whether a file holds one of the needles."""
    overlap = max((len(needle) for needle in needles), default=1) - 1
    tail = b""
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            data = tail + chunk
            if any(needle in data for needle in needles):
                return True
            tail = data[-overlap:] if overlap else b""
    return False
