"""The time of day."""

from __future__ import annotations

import time


def system_clock_ms() -> int:
    """Epoch milliseconds by the system's clock."""
    return time.time_ns() // 1_000_000
