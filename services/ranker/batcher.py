"""Continuous micro-batching without a timer: who has the thread takes whatever waits.

While one micro-batch is being finished, the remote call of the next is already under way: work is
split into ``begin`` (sends what must be fetched, returns at once) and ``finish`` (the rest). A
request that was abandoned, or whose deadline passed, leaves before either does work for it.

Requests in the background wait behind all others, and few of them are taken at a time: who comes
meanwhile waits for those few at most.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from services.common.errors import DeadlinePassed, Overloaded, PodiumError
from services.common.serving.promise import Promise
from services.ranker.pace import Pace

Query = TypeVar("Query")
Started = TypeVar("Started")
Answer = TypeVar("Answer")

AHEAD: Final = 2
"""Micro-batches begun and not finished: one is worked on, or waited for, while the next fetches."""

MARGIN: Final = 1.4
"""A mean is exceeded by half: so much longer than expected an answer may take and be in time."""

LOOK_S: Final = 0.0003
"""How long to wait for what a micro-batch needs before a look at who has come meanwhile. The core's
own waits last a millisecond at least, and rows do not end them."""


class Ticket(Promise[Answer], Generic[Query, Answer]):
    """A queued request and, later, its answer."""

    __slots__ = ("_is_active", "background", "deadline_s", "query", "since_s")

    def __init__(
        self,
        query: Query,
        deadline_s: float | None,
        is_active: Callable[[], bool] | None,
        *,
        background: bool = False,
    ) -> None:
        super().__init__()
        self.query = query
        self.background = background
        self.since_s = time.monotonic()
        self.deadline_s = deadline_s
        self._is_active = is_active

    def dead(self, now_s: float) -> str:
        """Why no work must be done for this request; empty when it still counts."""
        if self.deadline_s is not None and now_s >= self.deadline_s:
            return "expired"
        if self._is_active is not None and not self._is_active():
            return "abandoned"
        return ""


@dataclass(slots=True)
class _Batch(Generic[Query, Started, Answer]):
    """A micro-batch that was begun, and when."""

    started: Started
    tickets: list[Ticket[Query, Answer]]
    begun_s: float


class Batcher(Generic[Query, Started, Answer]):
    """Bounded queue and what empties it. All of it belongs to one thread, which calls ``step``.

    ``begin(queries)`` starts a micro-batch of 1 to ``max_batch``, ``ready(started, longest_s)``
    tells whether it can be finished, for which it waits so many seconds at most,
    ``finish(started, kept)`` ends it and answers for the indices in ``kept``, in that order, with
    an error for those that got none. ``failed`` is told of errors that are no PodiumError;
    ``rested`` that no micro-batch is under way; ``dropped`` why a request left early; ``answered``
    how long answers took from their arrival on, in seconds, those of the background aside. Of the
    background at most ``background_limit`` wait, and ``background_batch`` are in a micro-batch.
    """

    def __init__(
        self,
        begin: Callable[[Sequence[Query]], Started],
        ready: Callable[[Started, float], bool],
        finish: Callable[[Started, Sequence[int]], Sequence[Answer | Exception]],
        *,
        max_batch: int,
        queue_limit: int,
        failed: Callable[[BaseException], None],
        dropped: Callable[[str], None],
        retry_after_ms: int = 100,
        background_limit: int = 512,
        background_batch: int = 4,
        answered: Callable[[Sequence[float]], None] = lambda _: None,
        rested: Callable[[], None] = lambda: None,
    ) -> None:
        self._begin = begin
        self._ready = ready
        self._finish = finish
        self._max_batch = max_batch
        self._queue_limit = queue_limit
        self._failed = failed
        self._dropped = dropped
        self._retry_after_ms = retry_after_ms
        self._background_limit = background_limit
        self._background_batch = min(background_batch, max_batch)
        self._answered = answered
        self._rested = rested
        self._pace = Pace()
        self._queue: deque[Ticket[Query, Answer]] = deque()
        self._background: deque[Ticket[Query, Answer]] = deque()
        self._begun: deque[_Batch[Query, Started, Answer]] = deque()
        self._working = 0
        self._finished_s = 0.0

    def submit(
        self,
        query: Query,
        deadline_s: float | None = None,
        is_active: Callable[[], bool] | None = None,
    ) -> Ticket[Query, Answer]:
        """Queues a request; ``deadline_s`` is on the monotonic clock.

        Raises ``Overloaded`` when the queue is full or so long that the deadline would pass.
        """
        ticket: Ticket[Query, Answer] = Ticket(query, deadline_s, is_active)
        self._enqueue(self._queue, [ticket], self._queue_limit)
        return ticket

    def submit_background(
        self,
        queries: Sequence[Query],
        deadline_s: float | None = None,
        is_active: Callable[[], bool] | None = None,
    ) -> list[Ticket[Query, Answer]]:
        """Queues requests, all or none, behind those of ``submit``; raises the same."""
        tickets = [
            Ticket[Query, Answer](query, deadline_s, is_active, background=True)
            for query in queries
        ]
        self._enqueue(self._background, tickets, self._background_limit)
        return tickets

    def step(self) -> float | None:
        """Begins a micro-batch of what waits, and finishes the oldest one that is ready. In how
        many seconds there is more to do; None when nothing is under way."""
        if len(self._begun) < AHEAD and (self._queue or self._background):
            self._begin_next()
        if not self._begun:
            return 0.0 if self._queue or self._background else None
        if not self._ready(self._begun[0].started, LOOK_S):
            return 0.0
        self._finish_oldest()
        return 0.0 if self._begun or self._queue or self._background else None

    def _enqueue(
        self,
        queue: deque[Ticket[Query, Answer]],
        tickets: Sequence[Ticket[Query, Answer]],
        limit: int,
    ) -> None:
        ahead = len(self._queue) + self._working
        wait_s = self._pace.expected_s(ahead + 1)
        retry_after_ms = max(self._retry_after_ms, round(1_000 * wait_s))
        # Who fits into the next micro-batch does not wait in line.
        next_up = max(0, self._max_batch - self._working) if queue is self._queue else 0
        if len(queue) + len(tickets) > limit + next_up:
            raise Overloaded(
                f"{len(queue)} requests wait already, at most {limit} may",
                retry_after_ms=retry_after_ms,
            )
        # Who would be alone is let in: else nobody learned that the pace is better again.
        if queue is self._queue and ahead and _in_vain(tickets[0], wait_s):
            raise Overloaded(
                f"an answer takes about {round(1_000 * wait_s)} ms now, longer than the "
                "deadline leaves",
                retry_after_ms=retry_after_ms,
                reason="DEADLINE_TOO_SHORT",
            )
        queue.extend(tickets)

    def _begin_next(self) -> None:
        tickets = self._take()
        if not tickets:
            return
        begun_s = time.monotonic()
        try:
            started = self._begin([ticket.query for ticket in tickets])
        except Exception as error:
            self._fail(tickets, error)
            if not self._begun:
                self._rested()
            return
        self._working += len(tickets)
        self._begun.append(_Batch(started, tickets, begun_s))

    def _take(self) -> list[Ticket[Query, Answer]]:
        """Up to ``max_batch`` live requests."""
        count = min(len(self._queue), self._max_batch)
        taken = [self._queue.popleft() for _ in range(count)]
        room = min(len(self._background), self._background_batch, self._max_batch - count)
        taken += [self._background.popleft() for _ in range(room)]
        return [taken[index] for index in self._alive(taken)]

    def _finish_oldest(self) -> None:
        batch = self._begun.popleft()
        answered = self._answer(batch)
        self._working -= len(batch.tickets)
        now_s = time.monotonic()
        if answered:
            self._pace.took(answered, now_s - max(self._finished_s, batch.begun_s))
        self._finished_s = now_s
        if not self._begun:
            self._rested()

    def _answer(self, batch: _Batch[Query, Started, Answer]) -> int:
        """Ends a micro-batch; for how many requests work was done."""
        tickets = batch.tickets
        kept = self._alive(tickets)
        if not kept:
            return 0
        try:
            answers = self._finish(batch.started, kept)
        except Exception as error:
            self._fail([tickets[index] for index in kept], error)
            return len(kept)
        failed: dict[int, tuple[Exception, list[Ticket[Query, Answer]]]] = {}
        for index, answer in zip(kept, answers, strict=True):
            if isinstance(answer, Exception):
                failed.setdefault(id(answer), (answer, []))[1].append(tickets[index])
            else:
                tickets[index].answer(answer)
        for cause, without in failed.values():
            self._fail(without, cause)
        now_s = time.monotonic()
        self._answered([now_s - tickets[i].since_s for i in kept if _counts(tickets[i])])
        return len(kept)

    def _alive(self, tickets: Sequence[Ticket[Query, Answer]]) -> list[int]:
        now_s = time.monotonic()
        alive = []
        for index, ticket in enumerate(tickets):
            cause = ticket.dead(now_s)
            if cause:
                self._dropped(cause)
                ticket.fail(DeadlinePassed(f"the request was {cause} before work was done for it"))
            else:
                alive.append(index)
        return alive

    def _fail(self, tickets: Sequence[Ticket[Query, Answer]], error: Exception) -> None:
        if not isinstance(error, PodiumError):
            self._failed(error)
        for ticket in tickets:
            ticket.fail(error)


def _counts(ticket: Ticket[Query, Answer]) -> bool:
    """Whether the time of a ticket's answer tells how long answers take."""
    return not ticket.background and not ticket.failed


def _in_vain(ticket: Ticket[Query, Answer], wait_s: float) -> bool:
    """Whether a request's deadline would pass while it waits; one that is over leaves as late."""
    deadline_s = ticket.deadline_s
    if deadline_s is None:
        return False
    return ticket.since_s < deadline_s < ticket.since_s + MARGIN * wait_s
