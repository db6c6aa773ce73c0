"""What tells a log from others: an id that lies beside its segments."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

from services.common.errors import FailedPrecondition
from services.common.files import LOCAL_FILES, Files, write_whole

_NAME = "id"
_BYTES = 8


def log_identity(directory: Path, files: Files = LOCAL_FILES) -> str:
    """The log's id, 16 hex digits; made when there is none yet, and then on disk. For the owner of
    the log, before anybody else asks.

    It goes where the log goes: who copies a log to go on writing both removes the copy's.
    Raises ``FailedPrecondition`` (LOG_ID_DAMAGED) for a file that holds no id.
    """
    path = directory / _NAME
    files.make_directory(directory)
    if _NAME not in files.names(directory):
        write_whole(files, path, secrets.token_hex(_BYTES).encode())
    found = files.read(path).decode(errors="replace").strip()
    if not re.fullmatch(r"[0-9a-f]{16}", found):
        raise FailedPrecondition(f"{path} holds no log id: {found!r}", reason="LOG_ID_DAMAGED")
    return found
