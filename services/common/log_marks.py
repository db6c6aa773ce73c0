"""Marks beside a log: records that turned out to be second copies after they had been written.

Replicas with a log each see only later that a retry reached two of them: the record that is applied
second is marked, by its arrival. Whoever reads the log leaves marked records out, as it leaves out
those that say themselves that they are duplicates.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from pathlib import Path

from services.common.files import LOCAL_FILES, Files, write_all

_NAME = "duplicates"
_ARRIVAL = struct.Struct(">Q")


def read_duplicate_marks(
    directory: Path, from_arrival: int = 0, files: Files = LOCAL_FILES
) -> set[int]:
    """Arrivals of a log's marked records, from ``from_arrival`` on; none where no file is."""
    try:
        data = files.read(directory / _NAME)
    except FileNotFoundError:
        return set()
    whole = len(data) - len(data) % _ARRIVAL.size
    return {a for (a,) in _ARRIVAL.iter_unpack(data[:whole]) if a >= from_arrival}


def add_duplicate_marks(
    directory: Path, arrivals: Iterable[int], files: Files = LOCAL_FILES
) -> None:
    """Marks records; returns when it is on disk. Marking one again does no harm. Raises
    ``OSError``."""
    path = directory / _NAME
    is_new = _NAME not in files.names(directory)
    handle = files.open(path)
    try:
        size = files.size(path)
        if size % _ARRIVAL.size:
            # A writer that died has left part of a mark.
            files.truncate(handle, size - size % _ARRIVAL.size)
        write_all(files, handle, b"".join(_ARRIVAL.pack(arrival) for arrival in arrivals))
        files.sync(handle)
    finally:
        files.close(handle)
    if is_new:
        files.sync_directory(directory)
