"""Promises and the coroutines that wait for them, without a server."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from services.common.call import Call
from services.common.serving.promise import Promise, Tasks

Answer = TypeVar("Answer")

NOTHING_YET = "nothing yet"
"""Outcome of what still waits."""


class Running:
    """Coroutines under way, each with what came of it."""

    def __init__(self, tasks: Tasks | None = None) -> None:
        self.tasks = Tasks() if tasks is None else tasks

    def start(self, work: Coroutine[Any, None, Answer]) -> Promise[Answer]:
        """Runs a coroutine to its first wait; the promise is kept when it ends."""
        result: Promise[Answer] = Promise()

        async def task() -> None:
            try:
                answer = await work
            except Exception as error:
                result.fail(error)
            else:
                result.answer(answer)

        self.tasks.start(task(), Call("test", None))
        return result


def outcome(promise: Promise[Any]) -> object:
    """The answer of a promise, or its error; ``NOTHING_YET`` where there is neither."""
    found: list[object] = [NOTHING_YET]

    async def look() -> None:
        try:
            found[0] = await promise.wait_until(None)
        except Exception as error:
            found[0] = error

    Tasks().start(look(), Call("test", None))
    return found[0]


def answer_of(work: Coroutine[Any, None, Answer]) -> Answer:
    """What a coroutine returns that need not wait. Raises what it raises."""
    found = outcome(Running().start(work))
    assert found is not NOTHING_YET
    if isinstance(found, Exception):
        raise found
    return found  # type: ignore[return-value]
