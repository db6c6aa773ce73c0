"""Requests of a stream, several under way at once, answered in their order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable
from typing import TypeVar

Request = TypeVar("Request")
Answer = TypeVar("Answer")


async def pipelined(
    requests: AsyncIterable[Request],
    begin: Callable[[Request], Awaitable[Awaitable[Answer]]],
    under_way: int,
) -> AsyncGenerator[Answer, None]:
    """Answers in the order of ``requests``; about ``under_way`` are begun before the first of them
    is answered, and no further request is read meanwhile.

    ``begin`` returns what will be the answer. What it, the answer or reading raises is raised here
    once all requests before are answered. Closing the generator cancels what is under way.
    """
    begun: asyncio.Queue[asyncio.Future[Answer] | None] = asyncio.Queue(under_way)

    async def read() -> None:
        try:
            async for request in requests:
                await begun.put(asyncio.ensure_future(await begin(request)))
        except Exception as error:
            failed: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
            failed.set_exception(error)
            await begun.put(failed)
        else:
            await begun.put(None)

    reading = asyncio.create_task(read(), name="stream-requests")
    try:
        while (answer := await begun.get()) is not None:
            yield await answer
    finally:
        reading.cancel()
        await asyncio.wait({reading})
        while not begun.empty():
            left = begun.get_nowait()
            if left is not None and not left.cancel() and not left.cancelled():
                # It failed on its own: that is told by what ended the stream before.
                left.exception()
