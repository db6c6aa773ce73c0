"""Waiting for what comes about in its own time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TypeVar

Found = TypeVar("Found")


def eventually(condition: Callable[[], Found], what: str = "it", seconds: float = 30.0) -> Found:
    """What the condition gives once that is true; fails naming ``what`` when it never is."""
    deadline_s = time.monotonic() + seconds
    pause = threading.Event()
    while not (found := condition()):
        assert time.monotonic() < deadline_s, f"{what} did not come about"
        pause.wait(0.01)
    return found
