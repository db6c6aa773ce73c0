"""The batching thread: what it takes together, refuses, drops, and how it ends."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import pytest

from services.common.errors import DeadlinePassed, InvalidArgument, Overloaded, Unavailable
from services.ranker.batcher import Batcher, Ticket


class Doubler:
    """Doubles numbers; ``gate`` holds back every ``finish``, ``began`` counts the beginnings."""

    def __init__(self, max_batch: int = 4, queue_limit: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.finished: list[list[int]] = []
        self.gate = threading.Event()
        self.began = threading.Semaphore(0)
        self.error: Exception | None = None
        self.failures: list[BaseException] = []
        self.drops: list[str] = []
        self.batcher: Batcher[int, list[int], int] = Batcher(
            self._begin,
            self._finish,
            max_batch=max_batch,
            queue_limit=queue_limit,
            failed=self.failures.append,
            dropped=self.drops.append,
        )
        self.batcher.start()

    def _begin(self, numbers: Sequence[int]) -> list[int]:
        self.batches.append(list(numbers))
        self.began.release()
        return list(numbers)

    def _finish(self, numbers: list[int], kept: Sequence[int]) -> list[int]:
        self.gate.wait(10)
        if self.error is not None:
            raise self.error
        self.finished.append([numbers[index] for index in kept])
        return [2 * numbers[index] for index in kept]

    def submit_behind(
        self, numbers: Sequence[int]
    ) -> tuple[Ticket[int, int], list[Ticket[int, int]]]:
        """Holds the thread with one request, then queues others behind it."""
        first = self.batcher.submit(-1)
        self.began.acquire()
        return first, [self.batcher.submit(number) for number in numbers]


def test_what_waits_is_taken_together_up_to_the_limit() -> None:
    doubler = Doubler(max_batch=4)
    first, rest = doubler.submit_behind(range(6))
    doubler.gate.set()
    assert first.wait() == -2
    assert [ticket.wait() for ticket in rest] == [0, 2, 4, 6, 8, 10]
    doubler.batcher.close()
    assert [n for batch in doubler.batches for n in batch] == [-1, *range(6)]
    assert max(map(len, doubler.batches)) <= 4
    assert len(doubler.batches) <= 4


def test_the_next_batch_is_begun_before_the_one_before_is_finished() -> None:
    doubler = Doubler(max_batch=1)
    order: list[str] = []
    begin, finish = doubler._begin, doubler._finish

    def begun(numbers: Sequence[int]) -> list[int]:
        order.append(f"begin {numbers[0]}")
        return begin(numbers)

    def finished(numbers: list[int], kept: Sequence[int]) -> list[int]:
        order.append(f"finish {numbers[0]}")
        return finish(numbers, kept)

    batcher: Batcher[int, list[int], int] = Batcher(
        begun,
        finished,
        max_batch=1,
        queue_limit=9,
        failed=doubler.failures.append,
        dropped=doubler.drops.append,
    )
    tickets = [batcher.submit(n) for n in range(3)]
    doubler.gate.set()
    batcher.start()
    assert [ticket.wait() for ticket in tickets] == [0, 2, 4]
    batcher.close()
    doubler.batcher.close()
    assert order == ["begin 0", "begin 1", "finish 0", "begin 2", "finish 1", "finish 2"]


def test_a_full_queue_refuses() -> None:
    doubler = Doubler(queue_limit=2)
    first, rest = doubler.submit_behind([1, 2])
    with pytest.raises(Overloaded) as caught:
        doubler.batcher.submit(3)
    assert caught.value.retry_after_ms > 0
    doubler.gate.set()
    assert [first.wait(), *(ticket.wait() for ticket in rest)] == [-2, 2, 4]
    doubler.batcher.close()


def test_expired_and_abandoned_requests_leave_before_work_begins() -> None:
    doubler = Doubler()
    first, _ = doubler.submit_behind([])
    expired = doubler.batcher.submit(1, time.monotonic() - 1)
    abandoned = doubler.batcher.submit(2, None, lambda: False)
    alive = doubler.batcher.submit(3, time.monotonic() + 60, lambda: True)
    doubler.gate.set()
    assert first.wait() == -2
    assert alive.wait() == 6
    for ticket in (expired, abandoned):
        with pytest.raises(DeadlinePassed):
            ticket.wait()
    doubler.batcher.close()
    assert doubler.batches == [[-1], [3]]
    assert sorted(doubler.drops) == ["abandoned", "expired"]


def test_requests_abandoned_after_the_beginning_are_not_finished() -> None:
    doubler = Doubler()
    active = threading.Event()
    active.set()
    first, _ = doubler.submit_behind([])
    gone = doubler.batcher.submit(1, None, active.is_set)
    stays = doubler.batcher.submit(2)
    third = threading.Thread(target=doubler.gate.set)

    def leaves_after_beginning() -> None:
        doubler.began.acquire()
        active.clear()

    watcher = threading.Thread(target=leaves_after_beginning)
    watcher.start()
    third.start()
    assert first.wait() == -2
    assert stays.wait() == 4
    watcher.join()
    third.join()
    doubler.batcher.close()
    finished = [n for batch in doubler.finished for n in batch]
    assert finished in ([-1, 2], [-1, 1, 2])
    if finished == [-1, 2]:
        with pytest.raises(DeadlinePassed):
            gone.wait()


def test_waiting_ends_at_the_deadline() -> None:
    doubler = Doubler()
    ticket = doubler.batcher.submit(1, time.monotonic() + 0.01)
    with pytest.raises(DeadlinePassed):
        ticket.wait()
    doubler.gate.set()
    doubler.batcher.close()


@pytest.mark.parametrize(("error", "logged"), [(ValueError("bug"), 1), (InvalidArgument("x"), 0)])
def test_an_error_fails_its_batch_and_the_thread_goes_on(error: Exception, logged: int) -> None:
    doubler = Doubler()
    doubler.gate.set()
    doubler.error = error
    with pytest.raises(type(error)):
        doubler.batcher.submit(1).wait()
    doubler.error = None
    assert doubler.batcher.submit(2).wait() == 4
    doubler.batcher.close()
    assert len(doubler.failures) == logged


def test_closing_finishes_what_waits_and_refuses_the_rest() -> None:
    doubler = Doubler(max_batch=2)
    first, rest = doubler.submit_behind(range(5))
    closer = threading.Thread(target=doubler.batcher.close)
    closer.start()
    doubler.gate.set()
    closer.join()
    assert [first.wait(), *(ticket.wait() for ticket in rest)] == [-2, 0, 2, 4, 6, 8]
    with pytest.raises(Unavailable):
        doubler.batcher.submit(1)


def test_the_background_waits_behind_everybody_else_a_few_at_a_time() -> None:
    doubler = Doubler(max_batch=4)
    first, _ = doubler.submit_behind([])
    background = doubler.batcher.submit_background(range(100, 109))
    others = [doubler.batcher.submit(n) for n in range(6)]
    doubler.gate.set()
    assert first.wait() == -2
    assert [ticket.wait() for ticket in others] == [0, 2, 4, 6, 8, 10]
    assert [ticket.wait() for ticket in background] == [2 * n for n in range(100, 109)]
    doubler.batcher.close()
    assert doubler.batches[:3] == [[-1], [0, 1, 2, 3], [4, 5, 100, 101]]


def test_a_background_that_does_not_fit_is_refused_whole() -> None:
    doubler = Doubler(queue_limit=1)
    first, rest = doubler.submit_behind([1])
    waiting = doubler.batcher.submit_background(range(500))
    with pytest.raises(Overloaded, match="500 requests wait already, at most 512 may"):
        doubler.batcher.submit_background(range(13))
    waiting += doubler.batcher.submit_background(range(12))
    doubler.gate.set()
    assert [ticket.wait() for ticket in (first, *rest)] == [-2, 2]
    doubler.batcher.close()
    assert [ticket.wait() for ticket in waiting] == [2 * n for n in (*range(500), *range(12))]


def test_several_can_wait_for_one_answer() -> None:
    doubler = Doubler()
    ticket = doubler.batcher.submit(4)
    answers: list[int] = []
    waiting = [threading.Thread(target=lambda: answers.append(ticket.wait())) for _ in range(3)]
    for thread in waiting:
        thread.start()
    doubler.gate.set()
    for thread in waiting:
        thread.join(10)
    assert answers == [8, 8, 8]
    assert not ticket.failed
    doubler.batcher.close()


def test_whoever_would_wait_in_vain_is_refused_at_once() -> None:
    doubler = Doubler(max_batch=1)
    doubler.batcher.submit(0)
    doubler.began.acquire()
    first, rest = doubler.submit_behind(range(3))
    slow_s = 0.2
    doubler.batcher._pace.took(1, slow_s)
    now_s = time.monotonic()
    with pytest.raises(Overloaded) as refused:
        doubler.batcher.submit(7, deadline_s=now_s + slow_s)
    assert refused.value.reason == "DEADLINE_TOO_SHORT"
    assert refused.value.retry_after_ms >= 5 * slow_s * 1_000
    patient = doubler.batcher.submit(8, deadline_s=now_s + 60)
    doubler.gate.set()
    assert [ticket.wait() for ticket in (first, *rest, patient)] == [-2, 0, 2, 4, 16]
    doubler.batcher.close()


def test_who_is_alone_may_try_however_slow_answers_were() -> None:
    doubler = Doubler()
    doubler.batcher._pace.took(1, 100.0)
    alone = doubler.batcher.submit(7, deadline_s=time.monotonic() + 20)
    doubler.gate.set()
    assert alone.wait() == 14
    doubler.batcher.close()


def test_how_long_answers_took_is_told_but_for_the_background() -> None:
    told: list[float] = []
    batcher: Batcher[int, list[int], int] = Batcher(
        list,
        lambda numbers, kept: [numbers[index] for index in kept],
        max_batch=4,
        queue_limit=10,
        failed=lambda _: None,
        dropped=lambda _: None,
        answered=told.extend,
    )
    batcher.start()
    before_s = time.monotonic()
    batcher.submit(1).wait()
    for ticket in batcher.submit_background([2, 3]):
        ticket.wait()
    batcher.close()
    assert len(told) == 1
    assert 0 <= told[0] <= time.monotonic() - before_s
