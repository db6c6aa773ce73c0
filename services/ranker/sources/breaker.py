"""Leaves a source out for a while that keeps failing, or keeps being too slow."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field
from typing import Protocol

from services.ranker.types import Reason


@dataclass(frozen=True)
class SourceLimits:
    """``budget_s``: how long a source may take for a micro-batch. After ``strikes`` runs in a row
    that failed or took longer it is left out for ``rest_s``, then tried again."""

    budget_s: float = 0.05
    strikes: int = 3
    rest_s: float = 10.0


class LateRun(Protocol):
    """A run that nobody waits for any longer."""

    @property
    def ended(self) -> bool:
        """Whether it is over."""


@dataclass
class Breaker:
    """How the last runs of each source of a bundle went. Used by one thread; times are of any one
    clock."""

    _strikes: dict[Hashable, int] = field(default_factory=dict)
    _rests: dict[Hashable, tuple[float, Reason]] = field(default_factory=dict)
    _late: dict[Hashable, LateRun] = field(default_factory=dict)

    def resting(self, source: Hashable, now_s: float) -> Reason | None:
        """Why a source is to be left out; None when it may run."""
        until_s, reason = self._rests.get(source, (now_s, None))
        return reason if now_s < until_s else None

    def still_runs(self, source: Hashable) -> bool:
        """Whether a late run of a source is not over."""
        run = self._late.get(source)
        if run is not None and run.ended:
            self._late.pop(source, None)
        return run is not None and not run.ended

    def is_late(self, source: Hashable, run: LateRun) -> None:
        """Nobody waits for this run any longer."""
        self._late[source] = run

    def went_well(self, source: Hashable) -> None:
        """A run succeeded within its budget."""
        self._strikes.pop(source, None)
        self._rests.pop(source, None)

    def went_badly(
        self, source: Hashable, reason: Reason, now_s: float, limits: SourceLimits
    ) -> None:
        """A run failed or took too long."""
        strikes = self._strikes.get(source, 0) + 1
        self._strikes[source] = strikes
        if strikes >= limits.strikes:
            self._rests[source] = (now_s + limits.rest_s, reason)
