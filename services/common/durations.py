"""Durations as they are written in YAML."""

from __future__ import annotations

import re

MAX_DURATION_DAYS = 1_000_000
_DURATION = re.compile(r"([0-9]{1,12})(s|m|h|d)")
_UNIT_MS = {"s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}


def duration_ms(text: str) -> int:
    """Milliseconds of ``"30m"``, ``"7d"`` and the like, at most a million days. Raises
    ``ValueError`` for other texts."""
    match = _DURATION.fullmatch(text)
    found_ms = int(match.group(1)) * _UNIT_MS[match.group(2)] if match is not None else 0
    if not 0 < found_ms <= MAX_DURATION_DAYS * _UNIT_MS["d"]:
        raise ValueError(
            f"{text!r} is not a duration such as 30s, 5m, 1h or 7d, up to {MAX_DURATION_DAYS}d"
        )
    return found_ms
