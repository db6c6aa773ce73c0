"""Captured requests of given users and devices."""

from __future__ import annotations

from pathlib import Path

from services.common.pseudonym import Pseudonymiser
from services.ranker.explain.capture import capture_of
from services.ranker.explain.directory import CaptureFiles
from services.ranker.types import RankCommand
from tests.unit.services.ranker.explain.traced_world import NAMES, ORIGIN, World

ROWS = {f"i{n}": {"clicks": n, "live": 1, "score": 0.1 * n} for n in range(8)}


def capture_requests(
    directory: Path, *actors: tuple[str, str], names: Pseudonymiser = NAMES
) -> Path:
    """Writes a capture for each (user, device); returns the directory."""
    world = World(ROWS)
    for user, device in actors:
        world.rank(RankCommand("everything", user, device, 4))
    files = CaptureFiles(directory, max_bytes=1 << 20, max_age_s=86_400.0)
    for trace in world.traces:
        files.write(capture_of(trace, names, ORIGIN))
    return directory
