"""Micro-batching: what is taken together, refused, dropped."""

from __future__ import annotations

import time
from collections.abc import Sequence

import pytest

from services.common.errors import DeadlinePassed, InvalidArgument, Overloaded
from services.common.serving.promise import Promise
from services.ranker.batcher import Batcher
from tests.support.promises import outcome


class Doubler:
    """Doubles numbers. What a batch waits for is there unless it is in ``waiting``; ``order`` tells
    of the beginnings and ends."""

    def __init__(self, max_batch: int = 4, queue_limit: int = 100) -> None:
        self.batches: list[list[int]] = []
        self.finished: list[list[int]] = []
        self.order: list[str] = []
        self.waiting: set[int] = set()
        self.error: Exception | None = None
        self.failures: list[BaseException] = []
        self.drops: list[str] = []
        self.told: list[float] = []
        self.lacking: dict[int, Exception] = {}
        self.rested = 0
        self.batcher: Batcher[int, list[int], int] = Batcher(
            self._begin,
            lambda numbers, _: not self.waiting.intersection(numbers),
            self._finish,
            max_batch=max_batch,
            queue_limit=queue_limit,
            failed=self.failures.append,
            dropped=self.drops.append,
            answered=self.told.extend,
            rested=self._rest,
        )

    def _rest(self) -> None:
        self.rested += 1

    def _begin(self, numbers: Sequence[int]) -> list[int]:
        if -1 in numbers:
            raise InvalidArgument("not to be begun")
        self.batches.append(list(numbers))
        self.order.append(f"begin {numbers[0]}")
        return list(numbers)

    def _finish(self, numbers: list[int], kept: Sequence[int]) -> list[int | Exception]:
        self.order.append(f"finish {numbers[0]}")
        if self.error is not None:
            raise self.error
        self.finished.append([numbers[index] for index in kept])
        return [self.lacking.get(numbers[index], 2 * numbers[index]) for index in kept]

    def run(self) -> None:
        """Does all there is to do."""
        for _ in range(10_000):
            soon_s = self.batcher.step()
            if soon_s is None:
                return
            assert soon_s == 0
        raise AssertionError("there is no end to it")


def outcomes(promises: Sequence[Promise[int]]) -> list[object]:
    return [outcome(promise) for promise in promises]


def test_what_waits_is_taken_together_up_to_the_limit() -> None:
    doubler = Doubler(max_batch=4)
    tickets = [doubler.batcher.submit(number) for number in range(7)]
    doubler.run()
    assert outcomes(tickets) == [2 * number for number in range(7)]
    assert doubler.batches == [[0, 1, 2, 3], [4, 5, 6]]


def test_the_next_batch_is_begun_before_the_one_before_is_finished() -> None:
    doubler = Doubler(max_batch=1)
    tickets = [doubler.batcher.submit(n) for n in range(3)]
    doubler.run()
    assert outcomes(tickets) == [0, 2, 4]
    # Of two that are ready the older one is finished first.
    assert doubler.order == ["begin 0", "finish 0", "begin 1", "finish 1", "begin 2", "finish 2"]
    doubler.order.clear()
    doubler.waiting = {3}
    tickets = [doubler.batcher.submit(n) for n in (3, 4, 5)]
    assert [doubler.batcher.step() for _ in range(3)] == [0.0] * 3
    assert doubler.order == ["begin 3", "begin 4"]
    doubler.waiting.clear()
    doubler.run()
    assert doubler.order[2:] == ["finish 3", "begin 5", "finish 4", "finish 5"]
    assert outcomes(tickets) == [6, 8, 10]


def test_without_requests_there_is_nothing_to_do() -> None:
    assert Doubler().batcher.step() is None


def test_a_full_queue_refuses() -> None:
    doubler = Doubler(max_batch=1, queue_limit=2)
    tickets = [doubler.batcher.submit(n) for n in range(3)]
    with pytest.raises(Overloaded, match="3 requests wait already, at most 2 may") as caught:
        doubler.batcher.submit(3)
    assert caught.value.retry_after_ms > 0
    doubler.run()
    assert outcomes(tickets) == [0, 2, 4]
    doubler.waiting = {5}
    doubler.batcher.submit(5)
    doubler.batcher.step()
    tickets = [doubler.batcher.submit(n) for n in (6, 7)]
    with pytest.raises(Overloaded):
        doubler.batcher.submit(8)
    doubler.waiting.clear()
    doubler.run()
    assert outcomes(tickets) == [12, 14]


def test_expired_and_abandoned_requests_leave_before_work_begins() -> None:
    doubler = Doubler()
    expired = doubler.batcher.submit(1, time.monotonic() - 1)
    abandoned = doubler.batcher.submit(2, None, lambda: False)
    alive = doubler.batcher.submit(3, time.monotonic() + 60, lambda: True)
    doubler.run()
    assert outcome(alive) == 6
    assert all(isinstance(outcome(gone), DeadlinePassed) for gone in (expired, abandoned))
    assert doubler.batches == [[3]]
    assert sorted(doubler.drops) == ["abandoned", "expired"]


def test_requests_abandoned_after_the_beginning_are_not_finished() -> None:
    doubler = Doubler()
    doubler.waiting = {1}
    active = [True]
    gone = doubler.batcher.submit(1, None, lambda: active[0])
    stays = doubler.batcher.submit(2)
    assert doubler.batcher.step() == 0.0
    active[0] = False
    doubler.waiting.clear()
    doubler.run()
    assert outcome(stays) == 4
    assert isinstance(outcome(gone), DeadlinePassed)
    assert (doubler.batches, doubler.finished) == ([[1, 2]], [[2]])


@pytest.mark.parametrize(("error", "logged"), [(ValueError("bug"), 1), (InvalidArgument("x"), 0)])
def test_an_error_fails_its_batch_and_the_work_goes_on(error: Exception, logged: int) -> None:
    doubler = Doubler()
    doubler.error = error
    failing = doubler.batcher.submit(1)
    doubler.run()
    assert outcome(failing) is error
    doubler.error = None
    fine = doubler.batcher.submit(2)
    doubler.run()
    assert outcome(fine) == 4
    assert len(doubler.failures) == logged


def test_the_background_waits_behind_everybody_else_a_few_at_a_time() -> None:
    doubler = Doubler(max_batch=4)
    background = doubler.batcher.submit_background(range(100, 109))
    others = [doubler.batcher.submit(n) for n in range(6)]
    doubler.run()
    assert outcomes(others) == [0, 2, 4, 6, 8, 10]
    assert outcomes(background) == [2 * n for n in range(100, 109)]
    assert doubler.batches[:2] == [[0, 1, 2, 3], [4, 5, 100, 101]]


def test_of_the_background_few_are_in_a_micro_batch() -> None:
    doubler = Doubler(max_batch=16)
    background = doubler.batcher.submit_background(range(6))
    doubler.run()
    assert outcomes(background) == [0, 2, 4, 6, 8, 10]
    assert doubler.batches == [[0, 1, 2, 3], [4, 5]]


def test_a_background_that_does_not_fit_is_refused_whole() -> None:
    doubler = Doubler(queue_limit=1)
    waiting = doubler.batcher.submit_background(range(500))
    with pytest.raises(Overloaded, match="500 requests wait already, at most 512 may"):
        doubler.batcher.submit_background(range(13))
    waiting += doubler.batcher.submit_background(range(12))
    doubler.run()
    assert outcomes(waiting) == [2 * n for n in (*range(500), *range(12))]


def test_whoever_would_wait_in_vain_is_refused_at_once() -> None:
    doubler = Doubler(max_batch=1)
    doubler.waiting = {0}
    first = [doubler.batcher.submit(n) for n in range(4)]
    doubler.batcher.step()
    slow_s = 0.2
    doubler.batcher._pace.took(1, slow_s)
    now_s = time.monotonic()
    with pytest.raises(Overloaded) as refused:
        doubler.batcher.submit(7, deadline_s=now_s + slow_s)
    assert refused.value.reason == "DEADLINE_TOO_SHORT"
    assert refused.value.retry_after_ms >= 5 * slow_s * 1_000
    # In the mean it would be in time, and half of the time it would not.
    with pytest.raises(Overloaded):
        doubler.batcher.submit(7, deadline_s=time.monotonic() + 1.2 * 5 * slow_s)
    patient = doubler.batcher.submit(8, deadline_s=now_s + 60)
    doubler.waiting.clear()
    doubler.run()
    assert outcomes([*first, patient]) == [0, 2, 4, 6, 16]


def test_who_is_alone_may_try_however_slow_answers_were() -> None:
    doubler = Doubler()
    doubler.batcher._pace.took(1, 100.0)
    alone = doubler.batcher.submit(7, deadline_s=time.monotonic() + 20)
    doubler.run()
    assert outcome(alone) == 14


def test_how_long_answers_took_is_told_but_for_the_background() -> None:
    doubler = Doubler()
    before_s = time.monotonic()
    doubler.batcher.submit(1)
    doubler.batcher.submit_background([2, 3])
    doubler.run()
    assert len(doubler.told) == 1
    assert 0 <= doubler.told[0] <= time.monotonic() - before_s


def test_who_got_no_answer_fails_alone_and_a_cause_is_told_once() -> None:
    doubler = Doubler()
    doubler.lacking = dict.fromkeys((1, 2), KeyError("a bundle of its own"))
    tickets = [doubler.batcher.submit(number) for number in range(4)]
    doubler.run()
    assert [ticket.failed for ticket in tickets] == [False, True, True, False]
    assert [outcome(tickets[at]) for at in (0, 3)] == [0, 6]
    assert len(doubler.failures) == 1
    assert len(doubler.told) == 2


def test_rest_is_told_of_however_a_micro_batch_ended() -> None:
    doubler = Doubler(max_batch=1)
    gone = [True]
    doubler.waiting = {0}
    doubler.batcher.submit(0, is_active=lambda: gone[0])
    assert doubler.batcher.step() == 0.0
    assert doubler.rested == 0
    gone[0] = False
    doubler.waiting = set()
    doubler.run()
    assert doubler.finished == []
    assert doubler.rested == 1
    doubler.batcher.submit(-1)
    doubler.run()
    assert doubler.rested == 2


def test_the_pace_is_of_those_answered_not_of_those_who_left() -> None:
    doubler = Doubler(max_batch=4)
    doubler.waiting = {0}
    active = [True]
    for number in range(4):
        stays = number == 3
        doubler.batcher.submit(number, is_active=lambda stays=stays: stays or active[0])
    assert doubler.batcher.step() == 0.0
    active[0] = False
    doubler.waiting = set()
    doubler.run()
    assert doubler.finished == [[3]]
    # Of four, one was answered: who comes waits for micro-batches of one.
    assert doubler.batcher._pace.expected_s(2) == 2 * doubler.batcher._pace.expected_s(1)
