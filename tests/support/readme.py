"""Code blocks of a Markdown file."""

from __future__ import annotations

import re
from pathlib import Path

_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(path: Path, language: str) -> list[str]:
    """Contents of the blocks in ``language``, in order."""
    return [body for kind, body in _BLOCK.findall(path.read_text()) if kind == language]


def commands(path: Path) -> list[str]:
    """Command lines of the ``sh`` blocks, without comments; a backslash joins two lines."""
    bodies = [body.replace("\\\n", " ") for body in blocks(path, "sh")]
    lines = [line for body in bodies for line in body.splitlines()]
    return [line.split("  #")[0].split(" #")[0].strip() for line in lines if line.strip()]
