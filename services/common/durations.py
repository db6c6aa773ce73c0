"""Durations as they are written in YAML."""

from __future__ import annotations

import re

_DURATION = re.compile(r"^(\d+)(s|m|h|d)$")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: str) -> int:
    """Milliseconds of ``"30m"``, ``"7d"`` and the like. Raises ``ValueError`` for other texts."""
    match = _DURATION.match(text)
    if match is None or int(match.group(1)) == 0:
        raise ValueError(f"{text!r} is not a duration such as 30s, 5m, 1h or 7d")
    return int(match.group(1)) * _UNIT_MS[match.group(2)]
