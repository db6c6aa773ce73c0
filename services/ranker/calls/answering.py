"""Answers the calls: brings each before the pipeline, in its order, and knows its repetitions."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Generic, Protocol, TypeVar

from services.common.actor import actor_key
from services.common.errors import PodiumError
from services.common.ids import id_from
from services.common.token_keys import TokenKeys
from services.ranker.calls.recent import Pending, RecentAnswers
from services.ranker.tokens.issuer import Tokens
from services.ranker.types import RankCommand, RankResult

BATCH_SHARE_OF_TIME = 0.9
"""Of a batch's time after which the actors still waiting get their error, so that the call itself
is in time with the slates of the others."""

Answer = TypeVar("Answer")


class Queue(Protocol):
    """What ranks; services.ranker.batcher.Batcher does."""

    def submit(
        self,
        query: RankCommand,
        deadline_s: float | None = None,
        is_active: Callable[[], bool] | None = None,
    ) -> Pending[RankResult]:
        """Queues a request. Raises ``Overloaded``."""

    def submit_background(
        self,
        queries: Sequence[RankCommand],
        deadline_s: float | None = None,
        is_active: Callable[[], bool] | None = None,
    ) -> Sequence[Pending[RankResult]]:
        """Queues requests behind those of ``submit``, all or none; raises the same."""


@dataclass(frozen=True, slots=True)
class Caller:
    """Who waits for an answer: until when, on the monotonic clock, and whether still."""

    deadline_s: float | None
    is_active: Callable[[], bool]


@dataclass(frozen=True, slots=True)
class Repeatable:
    """What makes requests repetitions of one another: the caller's name and its key.

    ``fingerprint`` stands for the whole request: repetitions have the same.
    """

    caller: str
    key: str
    fingerprint: bytes


class _All(Generic[Answer]):
    """Answers under way together; what failed is in the place of its answer."""

    def __init__(self, pending: Sequence[Pending[Answer]]) -> None:
        self._pending = pending

    @property
    def failed(self) -> bool:
        return any(pending.failed for pending in self._pending)

    async def wait_until(self, deadline_s: float | None) -> list[Answer | PodiumError]:
        return [await _outcome(pending, deadline_s) for pending in self._pending]


class Answering:
    """Answers requests. Belongs to one thread."""

    def __init__(self, queue: Queue, tokens: Tokens, keys: TokenKeys) -> None:
        self.tokens = tokens
        self._queue = queue
        self._keys = keys
        self._slates: RecentAnswers[RankResult] = RecentAnswers()
        self._batches: RecentAnswers[list[RankResult | PodiumError]] = RecentAnswers(limit=16)

    async def one(
        self, command: RankCommand, caller: Caller, repeatable: Repeatable | None = None
    ) -> tuple[RankResult, bool]:
        """The answer to a command, and whether it is that of an earlier request.

        Raises what the work raises, ``Overloaded``, ``DeadlinePassed``, and ``InvalidArgument``
        (IDEMPOTENCY_KEY_REUSED).
        """
        if command.deadline_s != caller.deadline_s:
            command = replace(command, deadline_s=caller.deadline_s)
        if command.debug:
            # Who looks must not be in the way of who is served.
            arguments = ([command], caller.deadline_s, caller.is_active)
            (pending,) = self._queue.submit_background(*arguments)
            return await pending.wait_until(caller.deadline_s), False
        if repeatable is None:
            pending = self._queue.submit(command, caller.deadline_s, caller.is_active)
            return await pending.wait_until(caller.deadline_s), False
        named = self._named(command, repeatable)
        return await self._slates.answer(
            named.rank_id,
            repeatable.fingerprint,
            lambda: self._queue.submit(named, caller.deadline_s, caller.is_active),
            caller.deadline_s,
        )

    async def many(
        self,
        commands: Sequence[RankCommand],
        caller: Caller,
        repeatable: Repeatable | None = None,
    ) -> tuple[list[RankResult | PodiumError], bool]:
        """The same for many, behind whoever waits for ``one``; an actor that fails has its error in
        the place of its answer. A batch that failed in part is not kept."""
        deadline_s = caller.deadline_s
        if deadline_s is not None:
            now_s = time.monotonic()
            deadline_s = now_s + (deadline_s - now_s) * BATCH_SHARE_OF_TIME
        commands = [replace(command, deadline_s=deadline_s) for command in commands]
        if repeatable is not None:
            commands = [self._named(command, repeatable) for command in commands]

        def start() -> _All[RankResult]:
            return _All(self._queue.submit_background(commands, deadline_s, caller.is_active))

        if repeatable is None:
            return await start().wait_until(deadline_s), False
        key = self._derived("batch", repeatable.caller, repeatable.key, commands[0].surface)
        return await self._batches.answer(key, repeatable.fingerprint, start, deadline_s)

    def _named(self, command: RankCommand, repeatable: Repeatable) -> RankCommand:
        """The command under the rank_id that every replica gives it."""
        following = command.following
        rank_id = self._derived(
            "slate",
            repeatable.caller,
            repeatable.key,
            actor_key(command.user_id, command.device_id),
            command.surface,
            "" if following is None else following.parent_rank_id,
        )
        return replace(command, rank_id=rank_id)

    def _derived(self, *parts: str) -> str:
        text = "".join(f"{len(part.encode())}:{part}" for part in parts)
        return id_from(self._keys.mac(text.encode(), self._keys.current))


async def _outcome(pending: Pending[Answer], deadline_s: float | None) -> Answer | PodiumError:
    try:
        return await pending.wait_until(deadline_s)
    except PodiumError as error:
        return error
