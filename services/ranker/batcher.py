"""One thread owns the queue and takes whatever waits: continuous micro-batching without a timer.

While one micro-batch is being finished, the remote call of the next is already under way: work is
split into ``begin`` (sends what must be fetched, returns at once) and ``finish`` (the rest). A
request that was abandoned, or whose deadline passed, leaves before either does work for it.

Requests in the background wait behind all others, and few of them are taken at a time: who comes
meanwhile waits for those few at most.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Generic, TypeVar

from services.common.errors import DeadlinePassed, Overloaded, PodiumError, Unavailable
from services.ranker.pace import Pace

Query = TypeVar("Query")
Started = TypeVar("Started")
Answer = TypeVar("Answer")


class Ticket(Generic[Query, Answer]):
    """A queued request and, later, its answer. Several threads may wait for it."""

    __slots__ = (
        "_answer",
        "_done",
        "_error",
        "_is_active",
        "background",
        "deadline_s",
        "query",
        "since_s",
    )

    def __init__(
        self,
        query: Query,
        deadline_s: float | None,
        is_active: Callable[[], bool] | None,
        *,
        background: bool = False,
    ) -> None:
        self.query = query
        self.background = background
        self.since_s = time.monotonic()
        self.deadline_s = deadline_s
        self._is_active = is_active
        self._answer: Answer | None = None
        self._error: BaseException | None = None
        self._done = threading.Lock()
        self._done.acquire()

    @property
    def failed(self) -> bool:
        """Whether there will be no answer."""
        return self._error is not None

    def wait(self) -> Answer:
        """Waits for the answer. Raises what the work raised, or ``DeadlinePassed``."""
        return self.wait_until(self.deadline_s)

    def wait_until(self, deadline_s: float | None) -> Answer:
        """The same for a caller with a deadline of its own, on the monotonic clock."""
        timeout = -1.0
        if deadline_s is not None:
            timeout = max(0.0, deadline_s - time.monotonic())
        if not self._done.acquire(timeout=timeout):
            raise DeadlinePassed("the deadline passed before the answer was ready")
        self._done.release()
        if self._error is not None:
            raise self._error
        assert self._answer is not None  # noqa: S101 - the lock opens after one of the two is set
        return self._answer

    def dead(self, now_s: float) -> str:
        """Why no work must be done for this request; empty when it still counts."""
        if self.deadline_s is not None and now_s >= self.deadline_s:
            return "expired"
        if self._is_active is not None and not self._is_active():
            return "abandoned"
        return ""

    def answer(self, answer: Answer) -> None:
        """Hands over the answer."""
        self._answer = answer
        self._done.release()

    def fail(self, error: BaseException) -> None:
        """Hands over an error."""
        self._error = error
        self._done.release()


class Batcher(Generic[Query, Started, Answer]):
    """Bounded queue and the thread that empties it.

    ``begin(queries)`` starts a micro-batch of 1 to ``max_batch``; ``finish(started, kept)`` ends
    it and answers for the indices in ``kept``, in that order. ``failed`` is told of errors that
    are no PodiumError; ``dropped`` why a request left early; ``answered`` how long answers took
    from their arrival on, in seconds, those of the background aside. Of the background at most
    ``background_limit`` wait, and ``background_batch`` are in a micro-batch.
    """

    def __init__(
        self,
        begin: Callable[[Sequence[Query]], Started],
        finish: Callable[[Started, Sequence[int]], Sequence[Answer]],
        *,
        max_batch: int,
        queue_limit: int,
        failed: Callable[[BaseException], None],
        dropped: Callable[[str], None],
        retry_after_ms: int = 100,
        background_limit: int = 512,
        background_batch: int = 4,
        answered: Callable[[Sequence[float]], None] = lambda _: None,
    ) -> None:
        self._begin = begin
        self._finish = finish
        self._max_batch = max_batch
        self._queue_limit = queue_limit
        self._failed = failed
        self._dropped = dropped
        self._retry_after_ms = retry_after_ms
        self._background_limit = background_limit
        self._background_batch = min(background_batch, max_batch)
        self._answered = answered
        self._pace = Pace()
        self._working = 0
        self._queue: deque[Ticket[Query, Answer]] = deque()
        self._background: deque[Ticket[Query, Answer]] = deque()
        self._waiting = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="batcher", daemon=True)

    def start(self) -> None:
        """Starts the batching thread."""
        self._thread.start()

    def close(self) -> None:
        """Refuses new requests, finishes those that wait, and ends the thread."""
        with self._waiting:
            self._closed = True
            self._waiting.notify()
        if self._thread.is_alive():
            self._thread.join()

    def submit(
        self,
        query: Query,
        deadline_s: float | None = None,
        is_active: Callable[[], bool] | None = None,
    ) -> Ticket[Query, Answer]:
        """Queues a request; ``deadline_s`` is on the monotonic clock.

        Raises ``Overloaded`` when the queue is full or so long that the deadline would pass,
        ``Unavailable`` when it is closed.
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

    def _enqueue(
        self,
        queue: deque[Ticket[Query, Answer]],
        tickets: Sequence[Ticket[Query, Answer]],
        limit: int,
    ) -> None:
        with self._waiting:
            if self._closed:
                raise Unavailable("the service is shutting down", reason="SHUTTING_DOWN")
            ahead = len(self._queue) + self._working
            wait_s = self._pace.expected_s(ahead + 1)
            retry_after_ms = max(self._retry_after_ms, round(1_000 * wait_s))
            if len(queue) + len(tickets) > limit:
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
            self._waiting.notify()

    def _run(self) -> None:
        before: tuple[Started, list[Ticket[Query, Answer]]] | None = None
        while True:
            tickets = self._take(wait=before is None)
            if tickets is None:
                return
            begun_s = time.monotonic()
            started = self._started(tickets) if tickets else None
            if before is not None:
                self._finished(*before)
                self._pace.took(len(before[1]), time.monotonic() - begun_s)
            before = started
            self._working = 0 if before is None else len(before[1])

    def _take(self, *, wait: bool) -> list[Ticket[Query, Answer]] | None:
        """Up to ``max_batch`` live requests; None when closed and nothing is left to do."""
        with self._waiting:
            while wait and not self._queue and not self._background and not self._closed:
                self._waiting.wait()
            if wait and not self._queue and not self._background:
                return None
            count = min(len(self._queue), self._max_batch)
            taken = [self._queue.popleft() for _ in range(count)]
            room = min(len(self._background), self._background_batch, self._max_batch - count)
            taken += [self._background.popleft() for _ in range(room)]
            self._working += len(taken)
        return [taken[index] for index in self._alive(taken)]

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

    def _started(
        self, tickets: list[Ticket[Query, Answer]]
    ) -> tuple[Started, list[Ticket[Query, Answer]]] | None:
        try:
            return self._begin([ticket.query for ticket in tickets]), tickets
        except Exception as error:
            self._fail(tickets, error)
            return None

    def _finished(self, started: Started, tickets: list[Ticket[Query, Answer]]) -> None:
        kept = self._alive(tickets)
        if not kept:
            return
        try:
            answers = self._finish(started, kept)
        except Exception as error:
            self._fail([tickets[index] for index in kept], error)
            return
        for index, answer in zip(kept, answers, strict=True):
            tickets[index].answer(answer)
        now_s = time.monotonic()
        self._answered([now_s - tickets[i].since_s for i in kept if not tickets[i].background])

    def _fail(self, tickets: Sequence[Ticket[Query, Answer]], error: Exception) -> None:
        if not isinstance(error, PodiumError):
            self._failed(error)
        for ticket in tickets:
            ticket.fail(error)


def _in_vain(ticket: Ticket[Query, Answer], wait_s: float) -> bool:
    """Whether a request's deadline would pass while it waits; one that is over leaves as late."""
    deadline_s = ticket.deadline_s
    return deadline_s is not None and ticket.since_s < deadline_s < ticket.since_s + wait_s
