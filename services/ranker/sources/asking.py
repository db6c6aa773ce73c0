"""Asks the sources of a surface for a micro-batch; what fails or is slow is left out and named."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple, Protocol

import numpy as np

from services.ranker.arrays import Int64Array
from services.ranker.sources.aside import Aside, Late
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
    long it took, in seconds; ``clock`` tells seconds.

    With ``aside`` nobody waits for a source beyond its budget: it is left out, and not asked again
    before that run has ended. Without, what comes late is used all the same.
    """

    def __init__(
        self,
        limits: SourceLimits,
        *,
        ran: Callable[[str, float], None],
        log_error: Callable[[str, Exception], None],
        clock: Callable[[], float] = time.perf_counter,
        aside: Aside[Run] | None = None,
    ) -> None:
        self._limits = limits
        self._ran = ran
        self._log_error = log_error
        self._clock = clock
        self._aside = aside

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
        for name, _ in sources:
            if breaker.still_runs((surface, name)):
                resting[name] = Reason.TIMEOUT
        awake = [(name, source) for name, source in sources if name not in resting]
        runs = self._runs(surface, awake, asked, breaker)
        if not _sound([run.found for run in runs.values()], asked.items):
            runs = {name: self._checked(surface, name, run, asked) for name, run in runs.items()}
        answers, ended_s = Answers([], []), self._clock()
        for name, _ in sources:
            run = runs.get(name)
            found, trouble = (None, resting[name]) if run is None else (run.found, run.trouble)
            if run is not None and trouble is None:
                breaker.went_well((surface, name))
            elif run is not None and trouble is not None:
                breaker.went_badly((surface, name), trouble, ended_s, self._limits)
            if found is None:
                found = nothing(len(asked))
                answers.left_out.append(Degradation(Part.RETRIEVAL, trouble or Reason.FAILED, name))
            answers.slots.append(found)
        return answers

    def _runs(
        self,
        surface: str,
        sources: Sequence[tuple[str, BoundSource]],
        asked: Asked,
        breaker: Breaker,
    ) -> dict[str, Run]:
        steps = [partial(self._run, surface, name, source, asked) for name, source in sources]
        runs: dict[str, Run] = {}
        if self._aside is None:
            runs = {name: step() for (name, _), step in zip(sources, steps, strict=True)}
        else:
            found = self._aside.run(steps, self._limits.budget_s)
            for (name, _), run in zip(sources, found, strict=True):
                if isinstance(run, Late):
                    breaker.is_late((surface, name), run)
                    runs[name] = Run(None, Reason.TIMEOUT, self._limits.budget_s)
                else:
                    runs[name] = run
        for name, run in runs.items():
            self._ran(name, run.duration_s)
        return runs

    def _run(self, surface: str, name: str, source: BoundSource, asked: Asked) -> Run:
        started_s = self._clock()
        found, trouble = None, None
        try:
            found = _for_each(source.ask(asked), len(asked))
        except Exception as error:
            self._log_error(f"the source {name} of surface {surface} failed", error)
            trouble = Reason.FAILED
        duration_s = self._clock() - started_s
        if trouble is None and duration_s > self._limits.budget_s:
            trouble = Reason.TIMEOUT
        return Run(found, trouble, duration_s)

    def _checked(self, surface: str, name: str, run: Run, asked: Asked) -> Run:
        """The run, failed where it yielded what is no slot."""
        if _sound([run.found], asked.items):
            return run
        error = ValueError(f"it yields what is no slot of {asked.items} items")
        self._log_error(f"the source {name} of surface {surface} failed", error)
        return Run(None, Reason.FAILED, run.duration_s)


class Run(NamedTuple):
    """What a source yields, None where it failed or nobody waited; what was wrong; how long it
    took, or was waited for."""

    found: list[Int64Array] | None
    trouble: Reason | None
    duration_s: float


def _for_each(found: list[Int64Array], requests: int) -> list[Int64Array]:
    """What was found, where it is an answer for each of the requests. Raises ``ValueError``."""
    if len(found) != requests:
        raise ValueError(f"{len(found)} answers to {requests} requests")
    return found


def _sound(runs: Sequence[list[Int64Array] | None], items: int) -> bool:
    """Whether all that was yielded is slots of ``items`` items: one look at everything together."""
    yielded = [slots for found in runs if found is not None for slots in found]
    if any(slots.ndim != 1 for slots in yielded):
        return False
    every = np.concatenate([np.zeros(0, np.int64), *yielded])
    if every.dtype != np.int64:
        return False
    # A slot below 0 would count from the end: read as unsigned it is beyond all others.
    return not len(every) or int(every.view(np.uint64).max()) < items
