"""Asking one Redis server on the event loop, without the way to a thread and back.

Replies come in the order of the questions, so that one connection serves all. What goes wrong here
is left to the way through a thread, which tries again and says what it is.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import hiredis

from services.common.errors import Unavailable
from services.feature.store.redis_servers import CONNECT_TIMEOUT_S, Command, PlainAddress


@dataclass
class LoopServer:
    """The server at ``address``. For one event loop, on which it is asked and closed.

    Connects when it is first asked, and anew after a connection broke.
    """

    address: PlainAddress
    timeout_s: float
    _connection: _Connection | None = field(default=None, init=False)
    _connecting: asyncio.Task[None] | None = field(default=None, init=False)

    async def ask(self, command: Command) -> Any:
        """The reply. None where there is no connection yet or any more, and where the server
        refuses. Raises ``Unavailable`` (STORE_UNAVAILABLE) when no answer comes in time."""
        if self._connection is None or self._connection.is_closed:
            if self._connecting is None or self._connecting.done():
                self._connecting = asyncio.create_task(self._connect(), name="redis-connect")
            return None
        return await self._connection.ask(command.arguments)

    def close(self) -> None:
        """Closes the connection; what waits for a reply gets None."""
        if self._connecting is not None:
            self._connecting.cancel()
        if self._connection is not None:
            self._connection.close()

    async def _connect(self) -> None:
        address = self.address
        # A server that is away is asked again with the next question.
        with suppress(OSError, TimeoutError, Unavailable):
            async with asyncio.timeout(min(self.timeout_s, CONNECT_TIMEOUT_S)):
                _, connection = await asyncio.get_running_loop().create_connection(
                    lambda: _Connection(self.timeout_s), address.host, address.port
                )
                try:
                    for command in address.greeting:
                        if await connection.ask(command) is None:
                            return
                    self._connection = connection
                finally:
                    if self._connection is not connection:
                        connection.close()


class _Connection(asyncio.Protocol):
    """Sends questions and hands out replies."""

    def __init__(self, timeout_s: float) -> None:
        self.is_closed = False
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader()
        self._transport: asyncio.WriteTransport | None = None
        # (when it was asked, its reply), the oldest first.
        self._waiting: deque[tuple[float, asyncio.Future[Any]]] = deque()
        self._watch: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)  # noqa: S101 - it is a socket's
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        try:
            while (reply := self._reader.gets()) is not False:
                _, waiting = self._waiting.popleft()
                if not waiting.done():
                    waiting.set_result(None if isinstance(reply, hiredis.ReplyError) else reply)
        except (hiredis.ProtocolError, IndexError):
            # It does not speak as a server does.
            self.close()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        self._end(None)

    async def ask(self, arguments: tuple[Any, ...]) -> Any:
        if self.is_closed or self._transport is None:
            return None
        waiting: asyncio.Future[Any] = self._loop.create_future()
        now_s = self._loop.time()
        self._waiting.append((now_s, waiting))
        if self._watch is None:
            self._watch = self._loop.call_at(now_s + self._timeout_s, self._look)
        self._transport.write(hiredis.pack_command(arguments))
        return await waiting

    def close(self) -> None:
        self._end(None)

    def _look(self) -> None:
        """Ends the connection when the oldest question waits for too long."""
        self._watch = None
        if not self._waiting:
            return
        due_s = self._waiting[0][0] + self._timeout_s
        if due_s > self._loop.time():
            self._watch = self._loop.call_at(due_s, self._look)
            return
        self._end(Unavailable("Redis does not answer in time", reason="STORE_UNAVAILABLE"))

    def _end(self, error: Unavailable | None) -> None:
        self.is_closed = True
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            self._transport.abort()
        while self._waiting:
            _, waiting = self._waiting.popleft()
            if waiting.done():
                continue
            if error is None:
                waiting.set_result(None)
            else:
                waiting.set_exception(error)
