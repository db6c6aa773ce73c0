"""Answers kept by idempotency key: one is made, the others get it."""

from __future__ import annotations

import threading
import time

import pytest

from services.common.errors import DeadlinePassed, InvalidArgument, Overloaded, PodiumError
from services.ranker.batcher import Ticket
from services.ranker.calls.recent import RecentAnswers


class Maker:
    """Starts answers and counts them; those in ``failing`` fail at once."""

    def __init__(self, *failing: PodiumError) -> None:
        self.started = 0
        self.failing = list(failing)

    def __call__(self) -> Ticket[str, str]:
        self.started += 1
        ticket: Ticket[str, str] = Ticket("q", None, None)
        if self.failing:
            ticket.fail(self.failing.pop(0))
        else:
            ticket.answer(f"answer {self.started}")
        return ticket


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_an_answer_is_kept_for_a_minute() -> None:
    clock, maker = Clock(), Maker()
    recent: RecentAnswers[str] = RecentAnswers(monotonic_s=clock)
    assert recent.answer("k", b"f", maker, None) == ("answer 1", False)
    clock.now_s = 59.9
    assert recent.answer("k", b"f", maker, None) == ("answer 1", True)
    assert recent.answer("other", b"f", maker, None) == ("answer 2", False)
    clock.now_s = 60
    assert recent.answer("k", b"f", maker, None) == ("answer 3", False)


def test_the_oldest_answers_leave_first() -> None:
    maker = Maker()
    recent: RecentAnswers[str] = RecentAnswers(limit=2)
    for key in "abc":
        recent.answer(key, b"f", maker, None)
    assert recent.answer("b", b"f", maker, None) == ("answer 2", True)
    assert recent.answer("c", b"f", maker, None) == ("answer 3", True)
    assert recent.answer("a", b"f", maker, None) == ("answer 4", False)


def test_another_request_under_the_key_is_refused() -> None:
    recent: RecentAnswers[str] = RecentAnswers()
    recent.answer("k", b"f", Maker(), None)
    with pytest.raises(InvalidArgument, match="another request within 60 s") as refused:
        recent.answer("k", b"g", Maker(), None)
    assert refused.value.reason == "IDEMPOTENCY_KEY_REUSED"


def test_a_failure_is_not_kept() -> None:
    maker = Maker(Overloaded("busy"))
    recent: RecentAnswers[str] = RecentAnswers()
    with pytest.raises(Overloaded):
        recent.answer("k", b"f", maker, None)
    assert recent.answer("k", b"f", maker, None) == ("answer 2", False)


def test_who_waits_for_an_answer_that_fails_makes_one() -> None:
    recent: RecentAnswers[str] = RecentAnswers()
    first: Ticket[str, str] = Ticket("q", None, None)
    begun = threading.Event()
    outcomes: list[object] = []

    def start() -> Ticket[str, str]:
        begun.set()
        return first

    def owner() -> None:
        try:
            recent.answer("k", b"f", start, None)
        except PodiumError as error:
            outcomes.append(error)

    maker = Maker()
    threads = [threading.Thread(target=owner)]
    threads[0].start()
    begun.wait(10)
    follower = threading.Thread(
        target=lambda: outcomes.append(recent.answer("k", b"f", maker, None))
    )
    threads.append(follower)
    follower.start()
    # The owner's caller went away; whoever repeats the request still wants an answer.
    first.fail(DeadlinePassed("the request was abandoned"))
    for thread in threads:
        thread.join(10)
    assert ("answer 1", False) in outcomes
    assert any(isinstance(outcome, DeadlinePassed) for outcome in outcomes)


def test_an_answer_that_comes_after_its_callers_deadline_is_kept() -> None:
    recent: RecentAnswers[str] = RecentAnswers()
    slow: Ticket[str, str] = Ticket("q", None, None)
    with pytest.raises(DeadlinePassed):
        recent.answer("k", b"f", lambda: slow, time.monotonic() - 1)
    slow.answer("late")
    assert recent.answer("k", b"f", Maker(), None) == ("late", True)
