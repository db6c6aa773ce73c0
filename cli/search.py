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
    """Searches every byte of every file below a directory, those aside that go meanwhile."""
    found: list[Path] = []
    files = size = 0
    for path in sorted(place.rglob("*")):
        try:
            if not path.is_file():
                continue
            held, size_bytes = holds(path, needles), path.stat().st_size
        except FileNotFoundError:
            continue
        files, size = files + 1, size + size_bytes
        if held:
            found.append(path)
    return Searched(str(place), files, size, tuple(found))


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
