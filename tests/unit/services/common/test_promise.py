"""Promises, and the coroutines that wait for them."""

from __future__ import annotations

import pytest

from services.common.call import Call, current_call
from services.common.errors import DeadlinePassed, NotFound
from services.common.serving.promise import Promise, Tasks
from tests.support.promises import NOTHING_YET, Running, answer_of, outcome


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def test_an_answer_that_is_there_is_not_waited_for() -> None:
    promise: Promise[int] = Promise()
    promise.answer(7)
    assert answer_of(promise.wait_until(0.0)) == 7
    assert not promise.failed


def test_everybody_who_waits_gets_the_answer_in_the_order_of_their_coming() -> None:
    promise: Promise[str] = Promise()
    got: list[str] = []

    async def wait(name: str) -> None:
        got.append(f"{name} {await promise.wait_until(None)}")

    running = Running()
    for name in "abc":
        running.start(wait(name))
    assert got == []
    promise.answer("x")
    assert got == ["a x", "b x", "c x"]


def test_an_error_is_raised_where_it_is_waited_for() -> None:
    promise: Promise[int] = Promise()
    waiting = Running().start(promise.wait_until(None))
    error = NotFound("nothing")
    promise.fail(error)
    assert outcome(waiting) is error
    assert promise.failed


def test_a_wait_ends_at_the_earlier_of_its_own_deadline_and_the_calls() -> None:
    clock = Clock()
    tasks = Tasks(clock)
    never: Promise[int] = Promise()
    ended: dict[str, float] = {}

    async def wait(name: str, until_s: float | None) -> None:
        try:
            await never.wait_until(until_s)
        except DeadlinePassed:
            ended[name] = clock.now_s

    assert tasks.expire() is None
    tasks.start(wait("own", 103.0), Call("r", 105.0))
    tasks.start(wait("calls", 109.0), Call("r", 105.0))
    tasks.start(wait("only the call's", None), Call("r", 104.0))
    tasks.start(wait("endless", None), Call("r", None))
    assert tasks.expire() == 3.0
    for now_s in (103.0, 104.0, 105.0, 1_000.0):
        clock.now_s = now_s
        tasks.expire()
    assert ended == {"own": 103.0, "calls": 105.0, "only the call's": 104.0}
    never.answer(1)
    assert set(ended) == {"own", "calls", "only the call's"}


def test_a_wait_that_was_kept_in_time_is_not_ended() -> None:
    clock = Clock()
    tasks = Tasks(clock)
    first: Promise[int] = Promise()
    second: Promise[int] = Promise()

    async def both() -> int:
        return await first.wait_until(101.0) + await second.wait_until(110.0)

    waiting = Running(tasks).start(both())
    first.answer(1)
    clock.now_s = 105.0
    assert tasks.expire() == 5.0
    assert outcome(waiting) == NOTHING_YET
    second.answer(2)
    assert outcome(waiting) == 3


def test_a_wait_whose_caller_goes_ends_at_once_and_only_once() -> None:
    never: Promise[int] = Promise()
    seen: list[str] = []

    async def wait() -> None:
        with pytest.raises(DeadlinePassed, match="has gone"):
            await never.wait_until(None)
        seen.append("gone")

    gone = Tasks().start(wait(), Call("r", None))
    gone()
    gone()
    never.answer(1)
    assert seen == ["gone"]


def test_the_call_is_the_current_one_while_its_coroutine_runs() -> None:
    promises: list[Promise[int]] = [Promise(), Promise()]
    seen: list[tuple[str, Call | None]] = []

    async def wait(promise: Promise[int]) -> None:
        seen.append(("before", current_call()))
        await promise.wait_until(None)
        seen.append(("after", current_call()))

    tasks, calls = Tasks(), [Call("a", None), Call("b", None)]
    for promise, call in zip(promises, calls, strict=True):
        tasks.start(wait(promise), call)
    assert current_call() is None
    for promise in reversed(promises):
        promise.answer(0)
    assert current_call() is None
    a, b = calls
    assert seen == [("before", a), ("before", b), ("after", b), ("after", a)]


def test_a_coroutine_that_raises_ends_alone() -> None:
    promise: Promise[int] = Promise()
    got: list[int] = []

    async def wait(*, raises: bool) -> None:
        got.append(await promise.wait_until(None))
        if raises:
            raise KeyError("a bug")

    tasks, call = Tasks(), Call("r", None)
    for raises in (True, False):
        tasks.start(wait(raises=raises), call)
    promise.answer(7)
    assert got == [7, 7]
