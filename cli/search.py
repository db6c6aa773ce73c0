"""Searches every byte of files."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

_CHUNK_BYTES = 8 << 20


@dataclass(frozen=True)
class Searched:
    """A place that was searched: its files, their bytes, and files in which something was found."""

    place: str
    files: int
    bytes: int
    found: tuple[Path, ...]


def search(place: Path, needles: Collection[bytes]) -> Searched:
    """Searches every byte of every file below a directory."""
    files = [path for path in sorted(place.rglob("*")) if path.is_file()]
    found = tuple(path for path in files if holds(path, needles))
    return Searched(str(place), len(files), sum(path.stat().st_size for path in files), found)


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
