"""Batches that are answered in part, and names that follow from keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from services.common.errors import DeadlinePassed, Unavailable
from services.common.serving.promise import Tasks
from services.common.token_keys import TokenKeys
from services.ranker.batcher import Ticket
from services.ranker.calls.answering import Answering, Caller, Repeatable
from services.ranker.types import RankCommand, RankResult
from tests.support.promises import Running, answer_of
from tests.unit.services.ranker.tokens.test_issuer import key, result, tokens

Waiting = Ticket[RankCommand, RankResult]
KEY = Repeatable("app", "k", b"request")


class FakeQueue:
    """Answers at once; users in ``failing`` fail, those in ``slow`` are never answered."""

    def __init__(self, failing: Sequence[str] = (), slow: Sequence[str] = ()) -> None:
        self.failing, self.slow = list(failing), list(slow)
        self.taken: list[RankCommand] = []
        self.in_background: list[RankCommand] = []

    def submit(
        self,
        query: RankCommand,
        deadline_s: float | None = None,
        is_active: Callable[[], bool] | None = None,
    ) -> Waiting:
        self.taken.append(query)
        ticket: Waiting = Ticket(query, deadline_s, is_active)
        if query.user_id in self.failing:
            ticket.fail(Unavailable("down"))
        elif query.user_id not in self.slow:
            ticket.answer(result([1], query))
        return ticket

    def submit_background(
        self,
        queries: Sequence[RankCommand],
        deadline_s: float | None = None,
        is_active: Callable[[], bool] | None = None,
    ) -> Sequence[Waiting]:
        self.in_background += queries
        return [self.submit(query, deadline_s, is_active) for query in queries]


def answering(queue: FakeQueue, byte: int = 1) -> Answering:
    return Answering(queue, tokens(), TokenKeys({1: key(byte)}))


def caller(seconds: float | None = None) -> Caller:
    return Caller(None if seconds is None else time.monotonic() + seconds, lambda: True)


def commands(*users: str) -> list[RankCommand]:
    return [RankCommand("courses", user, "") for user in users]


def test_actors_that_fail_have_their_error_and_the_others_their_slates() -> None:
    queue = FakeQueue(failing=["b"])
    results, kept = answer_of(answering(queue).many(commands("a", "b", "c"), caller()))
    assert not kept
    assert [r.command.user_id for r in results if isinstance(r, RankResult)] == ["a", "c"]
    assert isinstance(results[1], Unavailable)


def test_a_batch_answers_in_time_without_the_actors_that_are_not() -> None:
    asked = caller(0.05)
    assert asked.deadline_s is not None
    clock = [time.monotonic()]
    running = Running(Tasks(lambda: clock[0]))
    batch = running.start(answering(FakeQueue(slow=["b"])).many(commands("a", "b"), asked))
    running.tasks.expire()
    assert not batch.done
    clock[0] = asked.deadline_s - 0.001
    running.tasks.expire()
    results, _ = answer_of(batch.wait_until(None))
    assert isinstance(results[0], RankResult)
    assert isinstance(results[1], DeadlinePassed)


def test_a_batch_that_failed_in_part_is_made_again_under_the_same_ids() -> None:
    queue = FakeQueue(failing=["b"])
    answers = answering(queue)
    assert not answer_of(answers.many(commands("a", "b"), caller(), KEY))[1]
    queue.failing.clear()
    results, kept = answer_of(answers.many(commands("a", "b"), caller(), KEY))
    assert not kept
    assert all(isinstance(found, RankResult) for found in results)
    assert answer_of(answers.many(commands("a", "b"), caller(), KEY)) == (results, True)
    first, second, *rest = [command.rank_id for command in queue.taken]
    assert rest == [first, second]
    assert first != second


def test_a_rank_id_follows_from_key_caller_actor_and_secret() -> None:
    queue = FakeQueue()
    (ann,) = commands("ann")
    answer_of(answering(queue).one(ann, caller(), KEY))
    answer_of(answering(queue).one(ann, caller(), KEY))
    answer_of(answering(queue, byte=2).one(ann, caller(), KEY))
    answer_of(answering(queue).one(ann, caller(), Repeatable("web", "k", b"request")))
    answer_of(answering(queue).one(ann, caller(), Repeatable("appk", "", b"request")))
    answer_of(answering(queue).one(RankCommand("courses", "", "ann"), caller(), KEY))
    first, again, *others = [command.rank_id for command in queue.taken]
    assert first == again
    assert len(first) == 26
    assert len({first, *others}) == 5


def test_who_debugs_waits_behind_whoever_is_served() -> None:
    queue = FakeQueue()
    plain, debug = RankCommand("courses", "a", ""), RankCommand("courses", "a", "", debug=True)
    for command in (plain, debug):
        answer_of(answering(queue).one(command, caller()))
    assert [command.debug for command in queue.taken] == [False, True]
    assert [command.debug for command in queue.in_background] == [True]
