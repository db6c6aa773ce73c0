"""Captures on disk: a file a request, ``RANK_ID.capture``, the oldest removed beyond a bound, and
those beyond an age. How old one is says its file's time.

One process writes to a directory; any may read, or remove files, meanwhile.
"""

from __future__ import annotations

import os
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, NamedTuple

from services.common.errors import InvalidArgument, NotFound
from services.common.pseudonym import Pseudonymiser
from services.ranker.explain.capture import Capture, under_other_names
from services.ranker.explain.codec import from_bytes, to_bytes
from services.ranker.types import RankCommand

SUFFIX: Final = ".capture"
_RANK_ID = re.compile(r"^[0-9A-Za-z]{1,128}$")


class _File(NamedTuple):
    size_bytes: int
    written_ns: int


class CaptureFiles:
    """The writing end. Of more than ``max_bytes`` in all the oldest files are removed, and those
    that are older than ``max_age_s``."""

    def __init__(
        self,
        directory: Path,
        *,
        max_bytes: int,
        max_age_s: float,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        """Raises ``OSError``."""
        directory.mkdir(parents=True, exist_ok=True)
        self._directory = directory
        self._max_bytes = max_bytes
        self._max_age_ns = round(max_age_s * 1e9)
        self._now_ns = now_ns
        # What a killed process was about to write.
        for path in directory.glob(f"*{SUFFIX}.partial"):
            path.unlink(missing_ok=True)
        sized = ((path, path.stat()) for path in directory.glob(f"*{SUFFIX}"))
        oldest_first = sorted(sized, key=lambda pair: pair[1].st_mtime_ns)
        self._files = OrderedDict(
            (path, _File(stat.st_size, stat.st_mtime_ns)) for path, stat in oldest_first
        )
        self._total_bytes = sum(file.size_bytes for file in self._files.values())

    def write(self, capture: Capture) -> int:
        """Writes a capture, whole or not at all; how many older ones were removed for it.

        Raises ``OSError``, and ``InvalidArgument`` for one that is larger than all may be.
        """
        data = to_bytes(capture)
        if len(data) > self._max_bytes:
            raise InvalidArgument(
                f"a capture of {len(data)} bytes, all may have {self._max_bytes}",
                reason="CAPTURE_TOO_LARGE",
            )
        path = path_of(self._directory, capture.rank_id)
        _write_whole(path, data)
        replaced = self._files.pop(path, None)
        self._total_bytes += len(data) - (0 if replaced is None else replaced.size_bytes)
        self._files[path] = _File(len(data), self._now_ns())
        return self.expire()

    def expire(self) -> int:
        """Removes what is beyond the bounds; how many files that were. Raises ``OSError``."""
        removed = 0
        oldest_ns = self._now_ns() - self._max_age_ns
        while self._files:
            path, file = next(iter(self._files.items()))
            if self._total_bytes <= self._max_bytes and file.written_ns >= oldest_ns:
                break
            path.unlink(missing_ok=True)
            del self._files[path]
            self._total_bytes -= file.size_bytes
            removed += 1
        return removed


def path_of(directory: Path, rank_id: str) -> Path:
    """Where the capture of an answer is. Raises ``InvalidArgument`` for what is no rank_id."""
    if not _RANK_ID.match(rank_id):
        raise InvalidArgument(f"{rank_id!r} is no rank_id", reason="BAD_RANK_ID")
    return directory / f"{rank_id}{SUFFIX}"


def read_capture(path: Path) -> Capture:
    """The capture in a file. Raises ``NotFound``, and ``InvalidArgument`` (BAD_CAPTURE)."""
    try:
        data = path.read_bytes()
    except FileNotFoundError as error:
        raise NotFound(f"there is no capture at {path}", reason="NO_CAPTURE") from error
    try:
        return from_bytes(data)
    except InvalidArgument as error:
        raise InvalidArgument(f"{path}: {error.message}", reason=error.reason) from error


def capture_paths(directory: Path) -> list[Path]:
    """The files of a directory, the latest first; none where there is no directory."""
    found: list[tuple[int, Path]] = []
    for path in directory.glob(f"*{SUFFIX}"):
        try:
            found.append((path.stat().st_mtime_ns, path))
        except FileNotFoundError:
            # Removed meanwhile, as a later one needed its room.
            continue
    return [path for _, path in sorted(found, reverse=True)]


def recorded_commands(directory: Path, most: int) -> Iterator[RankCommand]:
    """The at most ``most`` requests that were captured last, the latest first, as commands that
    write nothing: to warm a bundle with what is really asked.

    Their users and devices are pseudonyms, of whom no feature service knows anything, and they say
    nothing of experiments, pages or deadlines. Files that hold no capture are passed over.
    """
    count = 0
    for path in capture_paths(directory):
        if count >= most:
            return
        try:
            command = read_capture(path).command
        except (NotFound, InvalidArgument, OSError):
            continue
        if command.following is not None:
            continue
        count += 1
        yield RankCommand(
            surface=command.surface,
            user_id=command.user_id,
            device_id=command.device_id,
            k=command.k,
            traffic=command.traffic,
            dry_run=True,
            circumstances=command.circumstances,
            filter=command.filter,
            candidate_ids=command.candidate_ids,
        )


def rename_actors(path: Path, names: Pseudonymiser) -> bool:
    """Brings a capture's pseudonyms under the key that encrypts; whether they were not. It stays
    as old as it was.

    Raises ``InvalidArgument`` (BAD_CAPTURE) and ``FailedPrecondition`` (PSEUDONYM_KEY_MISSING).
    """
    capture = read_capture(path)
    command = capture.command
    user, device = names.translate(command.user_id), names.translate(command.device_id)
    if (user, device) == (command.user_id, command.device_id):
        return False
    _write_whole(path, to_bytes(under_other_names(capture, user, device)), path.stat())
    return True


def _write_whole(path: Path, data: bytes, before: os.stat_result | None = None) -> None:
    partial = path.with_suffix(f"{SUFFIX}.partial")
    partial.write_bytes(data)
    if before is not None:
        os.utime(partial, ns=(before.st_atime_ns, before.st_mtime_ns))
    partial.replace(path)
