"""Streams of messages that end with their server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from types import TracebackType
from typing import Any, TypeVar

from services.common.call import Call
from services.common.errors import DeadlinePassed, PodiumError, Unavailable

Message = TypeVar("Message")


def stopping() -> Unavailable:
    """What ends the streams of a server that stops."""
    return Unavailable("the service is stopping", reason="DRAINING")


async def until_late(
    messages: AsyncGenerator[Message, None], call: Call, draining: asyncio.Event | None = None
) -> AsyncGenerator[Message, None]:
    """Passes messages on. Raises ``DeadlinePassed`` when the call's time is over, and
    ``Unavailable`` once ``draining`` is set. To be read by one task."""
    wait = _Interruptible()
    stop = asyncio.ensure_future(draining.wait()) if draining is not None else None
    if stop is not None:
        stop.add_done_callback(lambda _: wait.end(stopping()))
    late: asyncio.TimerHandle | None = None
    remaining_s = call.remaining_s()
    if remaining_s is not None:
        late = asyncio.get_running_loop().call_later(
            remaining_s, wait.end, DeadlinePassed("the deadline of the stream passed")
        )
    try:
        while True:
            try:
                with wait:
                    message = await anext(messages)
            except StopAsyncIteration:
                return
            yield message
    finally:
        if late is not None:
            late.cancel()
        if stop is not None:
            stop.cancel()
        await messages.aclose()


class _Interruptible:
    """A block that the task which made this enters to wait, again and again. What ``end`` is told
    is raised there, also when it was told in between. No task is made for a wait: a service may
    send thousands of messages a second."""

    def __init__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - made in a coroutine
        self._task = task
        self._error: PodiumError | None = None
        self._waiting = False

    def end(self, error: PodiumError) -> None:
        """Ends the wait under way, or the next one; the first error counts."""
        if self._error is None:
            self._error = error
            if self._waiting:
                self._task.cancel()

    def __enter__(self) -> None:
        if self._error is not None:
            raise self._error
        self._waiting = True

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._waiting = False
        if self._error is not None and kind is asyncio.CancelledError:
            self._task.uncancel()
            raise self._error from error


class RequestsUntil:
    """A caller's requests, up to the moment when ``draining`` is set. ``cut``: more may follow."""

    def __init__(self, requests: AsyncIterable[object], draining: asyncio.Event) -> None:
        self._requests = requests
        self._draining = draining
        self.cut = False

    async def __aiter__(self) -> AsyncIterator[object]:
        requests = aiter(self._requests)
        stop = asyncio.ensure_future(self._draining.wait())
        following: asyncio.Future[object] | None = None
        try:
            while not self._draining.is_set():
                following = asyncio.ensure_future(anext(requests))
                awaited: set[asyncio.Future[Any]] = {following, stop}
                await asyncio.wait(awaited, return_when=asyncio.FIRST_COMPLETED)
                if following.done():
                    try:
                        yield following.result()
                    except StopAsyncIteration:
                        return
            self.cut = True
        finally:
            for task in (following, stop):
                if task is not None and not task.done():
                    task.cancel()
                    await asyncio.wait({task})
