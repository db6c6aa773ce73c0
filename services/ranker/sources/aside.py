"""Runs what may hang on a thread of its own, so that who waits for it goes on in time."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from queue import SimpleQueue
from typing import Generic, TypeVar

Result = TypeVar("Result")
Step = Callable[[], Result]

_CLOSING_S = 5.0


class Late(Generic[Result]):
    """A step that took too long; ``ended`` once it has."""

    def __init__(self, job: _Job[Result]) -> None:
        self._job = job

    @property
    def ended(self) -> bool:
        """Whether the step runs no longer."""
        return self._job.ended


class Aside(Generic[Result]):
    """Runs steps beside the one thread that uses it. Nothing in Python, or in what it calls, can be
    interrupted: a late step keeps its thread until it ends, and the next step gets another one."""

    def __init__(self) -> None:
        self._jobs: SimpleQueue[_Job[Result] | None] | None = None
        self._thread: threading.Thread | None = None

    def run(self, steps: Sequence[Step[Result]], budget_s: float) -> list[Result | Late[Result]]:
        """What the steps return, one after the other; ``Late`` in the place of each that took
        longer than ``budget_s``. Steps raise nothing."""
        found: list[Result | Late[Result]] = []
        while len(found) < len(steps):
            job = _Job(steps[len(found) :])
            self._given().put(job)
            in_time = job.wait(budget_s)
            found += job.results
            if not in_time:
                found.append(Late(job))
                self._jobs = self._thread = None
        return found

    def close(self) -> None:
        """Ends the thread, unless a step still keeps it."""
        if self._jobs is not None and self._thread is not None:
            self._jobs.put(None)
            self._thread.join(_CLOSING_S)

    def _given(self) -> SimpleQueue[_Job[Result] | None]:
        if self._jobs is None:
            jobs: SimpleQueue[_Job[Result] | None] = SimpleQueue()
            thread = threading.Thread(target=_work, args=(jobs,), name="sources", daemon=True)
            # What can't be started must not be given anything: nobody would take it.
            thread.start()
            self._jobs, self._thread = jobs, thread
        return self._jobs


class _Job(Generic[Result]):
    """Steps on their way. ``results`` are whole once ``wait`` returned."""

    def __init__(self, steps: Sequence[Step[Result]]) -> None:
        self.results: list[Result] = []
        self.ended = False
        self._steps = steps
        self._begun_s = time.monotonic()
        self._left = False
        self._changing = threading.Lock()
        self._done = threading.Lock()
        self._done.acquire()

    def run(self) -> bool:
        """Takes the steps; whether somebody still waited for the last one taken."""
        for step in self._steps:
            result = step()
            with self._changing:
                if self._left:
                    self.ended = True
                    return False
                self.results.append(result)
                self._begun_s = time.monotonic()
        self._done.release()
        return True

    def wait(self, budget_s: float) -> bool:
        """Whether all steps were taken, none in more than ``budget_s``; from then on the job gives
        up after the step that it is at."""
        while not self._done.acquire(timeout=max(0.0, self._left_s(budget_s))):
            with self._changing:
                if len(self.results) == len(self._steps):
                    return True
                if self._left_s(budget_s) <= 0:
                    self._left = True
                    return False
        return True

    def _left_s(self, budget_s: float) -> float:
        return self._begun_s + budget_s - time.monotonic()


def _work(jobs: SimpleQueue[_Job[Result] | None]) -> None:
    while (job := jobs.get()) is not None:
        if not job.run():
            return
