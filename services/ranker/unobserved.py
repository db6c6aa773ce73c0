"""For pipelines whose work answers nobody: shadows, warm-ups, replays."""

from __future__ import annotations

from services.ranker.types import Degradation, Part


class Unobserved:
    """Counts nothing; see ``ports.Observer``."""

    def batch(self, size: int) -> None:
        """Not counted."""

    def degraded(self, degradation: Degradation) -> None:
        """Not counted."""

    def removed(self, surface: str, reason: str, count: int) -> None:
        """Not counted."""

    def non_finite(self, part: Part, count: int) -> None:
        """Not counted."""

    def stage(self, name: str, duration_us: int) -> None:
        """Not counted."""

    def source(self, name: str, duration_s: float) -> None:
        """Not counted."""

    def unknown_candidates(self, surface: str, count: int) -> None:
        """Not counted."""

    def dropped(self, reason: str) -> None:
        """Not counted."""
