"""A note beside a log: its beginning was archived and removed, on purpose.

Without it what is missing at the front would be taken for damage, and passed.
"""

from __future__ import annotations

from pathlib import Path

from services.common.errors import FailedPrecondition
from services.common.files import LOCAL_FILES, Files, write_whole

_NAME = "removed_before"


def note_removed(directory: Path, before: int, files: Files = LOCAL_FILES) -> None:
    """Notes that records below an arrival may be gone. Raises ``OSError``."""
    write_whole(files, directory / _NAME, f"{before}\n".encode())


def forget_removed(directory: Path, files: Files = LOCAL_FILES) -> None:
    """Takes the note back. Raises ``OSError``."""
    if _NAME in files.names(directory):
        files.remove(directory / _NAME)
        files.sync_directory(directory)


def check_not_removed(directory: Path, from_arrival: int = 0, files: Files = LOCAL_FILES) -> None:
    """For who has to read a log from an arrival on: raises ``FailedPrecondition`` (LOG_CUT) when
    that was removed."""
    if _NAME not in files.names(directory):
        return
    before = files.read(directory / _NAME).decode(errors="replace").strip()
    if before.isdigit() and int(before) <= from_arrival:
        return
    raise FailedPrecondition(
        f"the start of {directory}, before arrival {before}, was archived and removed: bring it"
        f" back with podium events restore ARCHIVE --log {directory}",
        reason="LOG_CUT",
    )
