"""Asks the sources of a surface for a micro-batch; what fails or is slow is left out and named."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from services.ranker.arrays import Int64Array
from services.ranker.sources.base import Asked, BoundSource, nothing
from services.ranker.sources.breaker import Breaker, SourceLimits
from services.ranker.types import Degradation, Part, Reason


@dataclass(frozen=True)
class Answers:
    """Slots [source][request] of what was asked, and the sources that were left out."""

    slots: list[list[Int64Array]]
    left_out: list[Degradation]


class Sources(Protocol):
    """Brings candidates."""

    def ask(
        self,
        surface: str,
        sources: Sequence[tuple[str, BoundSource]],
        asked: Asked,
        breaker: Breaker,
    ) -> Answers:
        """What every (name, source) of a surface yields for a micro-batch."""


class SourceAsking:
    """Runs sources one after the other and measures each. ``ran`` is told a source's name and how
    long it took, in seconds; ``clock`` tells seconds."""

    def __init__(
        self,
        limits: SourceLimits,
        *,
        ran: Callable[[str, float], None],
        log_error: Callable[[str, Exception], None],
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._limits = limits
        self._ran = ran
        self._log_error = log_error
        self._clock = clock

    def ask(
        self,
        surface: str,
        sources: Sequence[tuple[str, BoundSource]],
        asked: Asked,
        breaker: Breaker,
    ) -> Answers:
        """Asks every (name, source) that does not rest.

        When all of them would rest, none does: late candidates are better than none.
        """
        now_s = self._clock()
        resting = {
            name: reason
            for name, _ in sources
            if (reason := breaker.resting((surface, name), now_s)) is not None
        }
        if len(resting) == len(sources):
            resting = {}
        answers = Answers([], [])
        for name, source in sources:
            reason = resting.get(name)
            found = None
            if reason is None:
                found, reason = self._run(surface, name, source, asked, breaker)
            if found is None:
                found = nothing(len(asked))
                answers.left_out.append(Degradation(Part.RETRIEVAL, reason or Reason.FAILED, name))
            answers.slots.append(found)
        return answers

    def _run(
        self, surface: str, name: str, source: BoundSource, asked: Asked, breaker: Breaker
    ) -> tuple[list[Int64Array] | None, Reason | None]:
        """What a source yields; or None, and why. What came late is used all the same."""
        started_s = self._clock()
        found, reason = None, None
        try:
            found = source.ask(asked)
        except Exception as error:
            self._log_error(f"the source {name} of surface {surface} failed", error)
            reason = Reason.FAILED
        ended_s = self._clock()
        self._ran(name, ended_s - started_s)
        if reason is None and ended_s - started_s <= self._limits.budget_s:
            breaker.went_well((surface, name))
        else:
            trouble = reason or Reason.TIMEOUT
            breaker.went_badly((surface, name), trouble, ended_s, self._limits)
        return found, reason
