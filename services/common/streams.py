"""Streams of messages that end with their server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from typing import Any, TypeVar

from services.common.call import Call
from services.common.errors import DeadlinePassed, Unavailable

Message = TypeVar("Message")


def stopping() -> Unavailable:
    """What ends the streams of a server that stops."""
    return Unavailable("the service is stopping", reason="DRAINING")


async def until_late(
    messages: AsyncGenerator[Message, None], call: Call, draining: asyncio.Event | None = None
) -> AsyncGenerator[Message, None]:
    """Passes messages on. Raises ``DeadlinePassed`` when the call's time is over, and
    ``Unavailable`` once ``draining`` is set."""
    stop = asyncio.ensure_future(draining.wait()) if draining is not None else None
    following: asyncio.Future[Message] | None = None
    try:
        while True:
            following = asyncio.ensure_future(anext(messages))
            awaited: set[asyncio.Future[Any]] = {following}
            await asyncio.wait(
                awaited if stop is None else awaited | {stop},
                timeout=call.remaining_s(),
                return_when=asyncio.FIRST_COMPLETED,
            )
            if following.done():
                try:
                    yield following.result()
                except StopAsyncIteration:
                    return
            elif stop is not None and stop.done():
                raise stopping()
            else:
                raise DeadlinePassed("the deadline of the stream passed")
    finally:
        for task in (following, stop):
            if task is not None and not task.done():
                task.cancel()
                await asyncio.wait({task})
        await messages.aclose()


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
