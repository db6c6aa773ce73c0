"""How long a thread keeps the interpreter while another one waits for it."""

from __future__ import annotations

import sys
from typing import Final

TURN_S: Final = 0.0005
"""A tenth of Python's default: an event loop takes the interpreter anew after every wait, several
times a call, and a computing thread beside it would keep each of these waiting for that long."""


def take_short_turns() -> None:
    """For a process whose event loop answers calls while other threads compute."""
    sys.setswitchinterval(TURN_S)
