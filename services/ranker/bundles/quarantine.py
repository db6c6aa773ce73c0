"""What this replica set aside, kept over a restart so that it is not taken again.

One small JSON file, replaced atomically. It names versions and moves of the pointer; a later move
that names a version again lifts its quarantine.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Collection, Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict, ValidationError

from services.common.bundle.pointer import Placed, Pointer

_logger = logging.getLogger(__name__)

MOST_ATTEMPTS = 3
"""Starts that may end, other than in order, before a bundle they took has proved itself."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SetAside(_Strict):
    """A bundle that is not taken. ``moves``: those that had put it where it was."""

    moves: tuple[int, ...]
    reason: str


class _Kept(_Strict):
    """The file. ``attempts``: starts by version; ``before``: what was live before the live one."""

    set_aside: dict[str, SetAside] = {}
    attempts: dict[str, int] = {}
    before: Placed | None = None


class Quarantine:
    """The bundles that were set aside. Used by one thread. What can't be written is logged."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._kept = _read(path)
        self._for_now: dict[str, SetAside] = {}
        self._tried: set[str] = set()

    @property
    def before(self) -> Placed | None:
        """What was live before what is live now."""
        return self._kept.before

    def holds(self, placed: Placed) -> bool:
        """Whether a bundle is set aside in the place that a move gave it."""
        return any(
            placed.move in found.moves
            for known in (self._kept.set_aside, self._for_now)
            if (found := known.get(placed.version)) is not None
        )

    def set_aside(self) -> dict[str, str]:
        """Why each version is set aside."""
        known = {**self._kept.set_aside, **self._for_now}
        return {version: found.reason for version, found in known.items()}

    def add(self, version: str, moves: Collection[int], reason: str) -> None:
        """Sets a bundle aside in all places that ``moves`` gave it."""
        entry = _with(self._kept.set_aside.get(version), moves, reason)
        attempts = {v: count for v, count in self._kept.attempts.items() if v != version}
        self._write(set_aside={**self._kept.set_aside, version: entry}, attempts=attempts)

    def add_for_now(self, version: str, moves: Collection[int], reason: str) -> None:
        """The same until the process ends: the next start takes it again."""
        self._for_now[version] = _with(self._for_now.get(version), moves, reason)
        self.passed(version)

    def forget(self, pointer: Pointer) -> None:
        """Lifts what a later move of the pointer lifted, or neither a place names any more nor
        ``before``."""
        places = placed_of(pointer) + ([self.before] if self.before is not None else [])
        named = {(entry.version, entry.move) for entry in places}
        self._for_now = _named(self._for_now, named)
        left = _named(self._kept.set_aside, named)
        if left != self._kept.set_aside:
            self._write(set_aside=left)

    def taking(self, version: str) -> int:
        """A bundle is about to be taken; returns how many earlier starts tried that and neither
        ended in order nor saw it prove itself."""
        tried = self._kept.attempts.get(version, 0)
        if version in self._tried:
            return 0
        self._tried.add(version)
        self._write(attempts={**self._kept.attempts, version: tried + 1})
        return tried

    def passed(self, version: str) -> None:
        """A bundle was not taken, and the process went on: this start does not count, yet."""
        if version in self._tried:
            self._tried.discard(version)
            left = {v: count for v, count in self._kept.attempts.items() if v != version}
            tried = self._kept.attempts.get(version, 0) - 1
            self._write(attempts={**left, version: tried} if tried > 0 else left)

    def survived(self, versions: Collection[str]) -> None:
        """Bundles proved themselves, or the process ends in order."""
        left = {v: count for v, count in self._kept.attempts.items() if v not in versions}
        if left != self._kept.attempts:
            self._write(attempts=left)

    def follows(self, before: Placed) -> None:
        """Another bundle is live now than ``before``."""
        if before != self._kept.before:
            self._write(before=before)

    def _write(self, **changes: object) -> None:
        self._kept = self._kept.model_copy(update=changes)
        text = json.dumps(self._kept.model_dump(mode="json"), sort_keys=True, indent=1) + "\n"
        partial = self._path.with_name(f".{self._path.name}.partial")
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with partial.open("w", encoding="utf-8") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            partial.replace(self._path)
        except OSError as error:
            _logger.warning("%s: the quarantine can't be written: %s", self._path, error)


def placed_of(pointer: Pointer) -> list[Placed]:
    """All places of a pointer, the live one first."""
    shared = [entry for entry in (pointer.canary, pointer.shadow) if entry is not None]
    return [*reversed(pointer.promoted), *shared, *pointer.experiments]


def _with(found: SetAside | None, moves: Collection[int], reason: str) -> SetAside:
    known = found.moves if found is not None else ()
    return SetAside(moves=tuple(sorted({*known, *moves})), reason=reason)


def _named(
    entries: Mapping[str, SetAside], named: Collection[tuple[str, int]]
) -> dict[str, SetAside]:
    return {
        version: entry
        for version, entry in entries.items()
        if any((version, move) in named for move in entry.moves)
    }


def _read(path: Path) -> _Kept:
    try:
        return _Kept.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        return _Kept()
    except (OSError, ValidationError) as error:
        _logger.warning("%s: the quarantine can't be read, nothing is set aside: %s", path, error)
        return _Kept()
