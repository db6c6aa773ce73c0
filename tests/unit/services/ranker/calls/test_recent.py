"""Answers kept by idempotency key: one is made, the others get it."""

from __future__ import annotations

import time
from typing import Any

import pytest

from services.common.errors import DeadlinePassed, InvalidArgument, Overloaded, PodiumError
from services.common.serving.promise import Promise
from services.ranker.calls.recent import RecentAnswers
from tests.support.promises import NOTHING_YET, Running, answer_of, outcome


class Maker:
    """Starts answers and counts them; those in ``failing`` fail at once."""

    def __init__(self, *failing: PodiumError) -> None:
        self.started = 0
        self.failing = list(failing)

    def __call__(self) -> Promise[str]:
        self.started += 1
        ticket: Promise[str] = Promise()
        if self.failing:
            ticket.fail(self.failing.pop(0))
        else:
            ticket.answer(f"answer {self.started}")
        return ticket


class Recent:
    """Answers that need not be waited for."""

    def __init__(self, **settings: Any) -> None:
        self.kept: RecentAnswers[str] = RecentAnswers(**settings)

    def answer(self, *arguments: Any) -> tuple[str, bool]:
        return answer_of(self.kept.answer(*arguments))


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def test_an_answer_is_kept_for_a_minute() -> None:
    clock, maker = Clock(), Maker()
    recent = Recent(monotonic_s=clock)
    assert recent.answer("k", b"f", maker, None) == ("answer 1", False)
    clock.now_s = 59.9
    assert recent.answer("k", b"f", maker, None) == ("answer 1", True)
    assert recent.answer("other", b"f", maker, None) == ("answer 2", False)
    clock.now_s = 60
    assert recent.answer("k", b"f", maker, None) == ("answer 3", False)


def test_the_oldest_answers_leave_first() -> None:
    maker = Maker()
    recent = Recent(limit=2)
    for key in "abc":
        recent.answer(key, b"f", maker, None)
    assert recent.answer("b", b"f", maker, None) == ("answer 2", True)
    assert recent.answer("c", b"f", maker, None) == ("answer 3", True)
    assert recent.answer("a", b"f", maker, None) == ("answer 4", False)


def test_another_request_under_the_key_is_refused() -> None:
    recent = Recent()
    recent.answer("k", b"f", Maker(), None)
    with pytest.raises(InvalidArgument, match="another request within 60 s") as refused:
        recent.answer("k", b"g", Maker(), None)
    assert refused.value.reason == "IDEMPOTENCY_KEY_REUSED"


def test_a_failure_is_not_kept() -> None:
    maker = Maker(Overloaded("busy"))
    recent = Recent()
    with pytest.raises(Overloaded):
        recent.answer("k", b"f", maker, None)
    assert recent.answer("k", b"f", maker, None) == ("answer 2", False)


def test_who_waits_for_an_answer_that_fails_makes_one() -> None:
    recent: RecentAnswers[str] = RecentAnswers()
    first: Promise[str] = Promise()
    running, maker = Running(), Maker()
    owner = running.start(recent.answer("k", b"f", lambda: first, None))
    follower = running.start(recent.answer("k", b"f", maker, None))
    assert (outcome(owner), outcome(follower)) == (NOTHING_YET, NOTHING_YET)
    assert maker.started == 0
    # The owner's caller went away; whoever repeats the request still wants an answer.
    first.fail(DeadlinePassed("the request was abandoned"))
    assert isinstance(outcome(owner), DeadlinePassed)
    assert outcome(follower) == ("answer 1", False)


def test_an_answer_that_comes_after_its_callers_deadline_is_kept() -> None:
    recent = Recent()
    slow: Promise[str] = Promise()
    running = Running()
    late = running.start(recent.kept.answer("k", b"f", lambda: slow, time.monotonic() - 1))
    running.tasks.expire()
    assert isinstance(outcome(late), DeadlinePassed)
    slow.answer("late")
    assert recent.answer("k", b"f", Maker(), None) == ("late", True)
