"""Answers that come later, and the coroutines that wait for them. All of it is one thread's."""

from __future__ import annotations

import heapq
import logging
import time
from collections.abc import Callable, Coroutine, Generator
from functools import partial
from typing import Final, Generic, NamedTuple, TypeAlias, TypeVar

from services.common.call import Call, current_call, enter_call
from services.common.errors import DeadlinePassed

Answer = TypeVar("Answer")

_ENDED: Final = -1

_logger = logging.getLogger(__name__)


class Promise(Generic[Answer]):
    """An answer or an error, now or later. Several may wait for it."""

    __slots__ = ("_answer", "_error", "_waiting", "done")

    def __init__(self) -> None:
        self.done = False
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._waiting: list[Callable[[], None]] = []

    @property
    def failed(self) -> bool:
        """Whether there will be no answer."""
        return self._error is not None

    def answer(self, answer: Answer) -> None:
        """Hands over the answer."""
        self._answer = answer
        self._end()

    def fail(self, error: BaseException) -> None:
        """Hands over an error."""
        self._error = error
        self._end()

    async def wait_until(self, deadline_s: float | None) -> Answer:
        """The answer. Raises the error, or ``DeadlinePassed`` when the time, on the monotonic
        clock, comes first."""
        if not self.done:
            await _Wait(self.when_done, deadline_s)
        if self._error is not None:
            raise self._error
        return self._answer  # type: ignore[return-value]  # one of the two is set

    def when_done(self, callback: Callable[[], None]) -> None:
        """Calls back once there is an answer or an error."""
        if self.done:
            callback()
        else:
            self._waiting.append(callback)

    def _end(self) -> None:
        self.done = True
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()


class _Wait(NamedTuple):
    """What a coroutine yields: who tells it to go on, and until when it waits."""

    tell: Callable[[Callable[[], None]], None]
    deadline_s: float | None

    def __await__(self) -> Generator[_Wait, None, None]:
        yield self


Task: TypeAlias = Coroutine[_Wait, None, None]


class Tasks:
    """Runs coroutines that wait for promises, each until its deadline."""

    def __init__(self, monotonic_s: Callable[[], float] = time.monotonic) -> None:
        self._monotonic_s = monotonic_s
        self._late: list[tuple[float, int, _Running]] = []
        self._waits = 0

    def start(self, task: Task, call: Call) -> Callable[[], None]:
        """Runs a coroutine to its first wait, for ``call``, whose deadline ends any wait. It must
        not raise. What is returned ends the wait that it is in then: its caller has gone."""
        running = _Running(task, call)
        self._resume(running, None)
        return partial(self._abandon, running)

    def expire(self) -> float | None:
        """Ends the waits that are over; the seconds until the next one is."""
        now_s = self._monotonic_s()
        while self._late:
            deadline_s, number, running = self._late[0]
            if running.number != number:
                heapq.heappop(self._late)
            elif deadline_s <= now_s:
                heapq.heappop(self._late)
                self._resume(
                    running, DeadlinePassed("the deadline passed before the answer was ready")
                )
            else:
                return deadline_s - now_s
        return None

    def _abandon(self, running: _Running) -> None:
        if running.number != _ENDED:
            self._resume(running, DeadlinePassed("the caller has gone"))

    def _resume(self, running: _Running, error: DeadlinePassed | None) -> None:
        before = current_call()
        enter_call(running.call)
        try:
            wait = running.task.send(None) if error is None else running.task.throw(error)
        except StopIteration:
            running.number = _ENDED
            return
        except Exception:
            # The thread serves all other calls.
            running.number = _ENDED
            _logger.exception("a call ended in an error of its own")
            return
        finally:
            enter_call(before)
        self._waits += 1
        number = running.number = self._waits
        deadlines = [s for s in (wait.deadline_s, running.call.deadline_s) if s is not None]
        if deadlines:
            heapq.heappush(self._late, (min(deadlines), number, running))

        def told() -> None:
            # A wait that is over is not resumed for what comes later.
            if running.number == number:
                self._resume(running, None)

        wait.tell(told)


class _Running:
    """A coroutine, the call it answers, and the number of the wait that it is in."""

    __slots__ = ("call", "number", "task")

    def __init__(self, task: Task, call: Call) -> None:
        self.task = task
        self.call = call
        self.number = 0
