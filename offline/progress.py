"""How long-running library code tells how far it is."""

from __future__ import annotations

from collections.abc import Callable

Progress = Callable[[str, int, int], None]
"""Called as (stage, done, total) from time to time; both numbers are in the stage's own unit."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Shows nothing."""
