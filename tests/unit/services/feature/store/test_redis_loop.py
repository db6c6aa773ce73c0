"""Asking a server on the event loop: what it answers, and every way of getting no answer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from services.common.errors import ConfigError, Unavailable
from services.feature.store.redis import loop_server
from services.feature.store.redis_loop import LoopServer
from services.feature.store.redis_servers import Command, plain_address
from tests.support.redis_servers import RedisServer, redis_server

PING = Command(0, ("PING",))
Serving = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def server_at(url: str, timeout_s: float = 5) -> LoopServer:
    found = loop_server(url, timeout_s=timeout_s)
    assert found is not None
    return found


async def connected(server: LoopServer) -> None:
    while await server.ask(PING) is None:
        await asyncio.sleep(0.01)


@asynccontextmanager
async def played(serve: Serving, timeout_s: float = 5) -> AsyncIterator[LoopServer]:
    """Connected to a server that ``serve`` plays after its answer to PING."""

    playing: list[asyncio.Task[None] | None] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        playing.append(asyncio.current_task())
        await reader.readuntil(b"PING\r\n")
        writer.write(b"+PONG\r\n")
        with suppress(ConnectionError):
            await serve(reader, writer)
            writer.close()
            await writer.wait_closed()

    listening = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    server = server_at(f"redis://127.0.0.1:{port}", timeout_s)
    await connected(server)
    try:
        yield server
    finally:
        server.close()
        await asyncio.gather(*filter(None, playing))
        listening.close()
        await listening.wait_closed()


def test_replies_come_to_those_who_asked(single: RedisServer) -> None:
    async def run() -> None:
        server = server_at(single.url)
        await connected(server)
        asked = [server.ask(Command(0, ("ECHO", f"{n}" * 50_000))) for n in range(9)]
        given_up = asyncio.ensure_future(server.ask(PING))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await asyncio.gather(*asked) == [f"{n}".encode() * 50_000 for n in range(9)]
        assert await server.ask(Command(0, ("EVALSHA", "0" * 40, 0))) is None
        assert await server.ask(Command(0, ("ECHO", b"after"))) == b"after"
        server.close()
        assert await server.ask(PING) is None

    asyncio.run(run())


def test_user_password_and_database_are_told(tmp_path: Path) -> None:
    with redis_server(tmp_path) as server, server.client() as client:
        client.config_set("requirepass", "a word")

        async def run() -> None:
            right = server_at(f"redis://:a%20word@127.0.0.1:{server.port}/3")
            await connected(right)
            assert await right.ask(Command(0, ("SET", "where", "three"))) == b"OK"
            first = server_at(f"redis://default:a%20word@127.0.0.1:{server.port}")
            await connected(first)
            assert await first.ask(Command(0, ("EXISTS", "where"))) == 0
            wrong = server_at(f"redis://:wrong@127.0.0.1:{server.port}")
            assert await wrong.ask(PING) is None
            assert wrong._connecting is not None
            await wrong._connecting
            assert await wrong.ask(PING) is None
            for one in (right, first, wrong):
                one.close()

        asyncio.run(run())


def test_it_connects_anew_after_the_server_was_away(tmp_path: Path) -> None:
    with redis_server(tmp_path) as process:

        async def run() -> None:
            server = server_at(process.url)
            await connected(server)
            process.kill()
            while await server.ask(PING) is not None:
                await asyncio.sleep(0.01)
            assert await server.ask(PING) is None
            process.start()
            await connected(server)
            server.close()

        asyncio.run(run())


def test_a_server_that_does_not_answer_is_unavailable() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async def run() -> None:
        async with played(silent, timeout_s=0.05) as server:
            asked = await asyncio.gather(server.ask(PING), server.ask(PING), return_exceptions=True)
            assert [type(error) for error in asked] == [Unavailable, Unavailable]

    asyncio.run(run())


@pytest.mark.parametrize(
    ("said", "expected"), [(b"?", None), (b"", None), (b"+PONG\r\n" * 3, b"PONG")]
)
def test_a_connection_that_ends_or_says_nonsense_is_given_up(
    said: bytes, expected: bytes | None
) -> None:
    async def say(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"PING\r\n")
        writer.write(said)
        if not said:
            writer.close()
        await reader.read()

    async def run() -> None:
        async with played(say) as server:
            assert await server.ask(PING) == expected
            assert await server.ask(PING) is None

    asyncio.run(run())


@pytest.mark.parametrize(
    "url", ["rediss://host", "unix:///socket", "redis://host/0?socket_timeout=3"]
)
def test_urls_with_more_than_an_address_are_left_to_threads(url: str) -> None:
    assert plain_address(url) is None
    assert loop_server(url, timeout_s=1) is None


def test_what_is_no_url_is_refused() -> None:
    assert plain_address("redis://") == plain_address("redis://localhost:6379/0")
    with pytest.raises(ConfigError):
        plain_address("http://host")
