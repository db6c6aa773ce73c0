"""Answers of the last minute by idempotency key: a repetition gets the one there is."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from services.common.errors import InvalidArgument

KEPT_S = 60.0
KEPT_ANSWERS = 2_048

Answer = TypeVar("Answer")
Answered_co = TypeVar("Answered_co", covariant=True)


class Pending(Protocol[Answered_co]):
    """An answer under way; services.common.serving.promise.Promise is one."""

    @property
    def failed(self) -> bool:
        """Whether there will be no answer."""

    async def wait_until(self, deadline_s: float | None) -> Answered_co:
        """Waits; raises what the work raised, or ``DeadlinePassed``."""


@dataclass(frozen=True, slots=True)
class _Kept(Generic[Answer]):
    fingerprint: bytes
    pending: Pending[Answer]
    until_s: float


class RecentAnswers(Generic[Answer]):
    """Keeps at most ``limit`` answers, each for ``kept_s``; those under way count.
    Belongs to one thread."""

    def __init__(
        self,
        *,
        kept_s: float = KEPT_S,
        limit: int = KEPT_ANSWERS,
        monotonic_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._kept_s = kept_s
        self._limit = limit
        self._monotonic_s = monotonic_s
        self._kept: OrderedDict[str, _Kept[Answer]] = OrderedDict()

    async def answer(
        self,
        key: str,
        fingerprint: bytes,
        start: Callable[[], Pending[Answer]],
        deadline_s: float | None,
    ) -> tuple[Answer, bool]:
        """The answer under ``key``, and whether it was there before.

        What failed is not kept: one of those who wait for it starts anew. Raises
        ``InvalidArgument`` (IDEMPOTENCY_KEY_REUSED) where the key's request had another
        ``fingerprint``, and what ``start`` and waiting raise.
        """
        while True:
            pending, mine = self._joined(key, fingerprint, start)
            try:
                return await pending.wait_until(deadline_s), not mine
            except Exception:
                if mine or not pending.failed or self._late(deadline_s):
                    raise
            finally:
                if pending.failed:
                    self._forget(key, pending)

    def _joined(
        self, key: str, fingerprint: bytes, start: Callable[[], Pending[Answer]]
    ) -> tuple[Pending[Answer], bool]:
        now_s = self._monotonic_s()
        while self._kept and next(iter(self._kept.values())).until_s <= now_s:
            self._kept.popitem(last=False)
        found = self._kept.get(key)
        if found is not None:
            if found.fingerprint != fingerprint:
                raise InvalidArgument.field(
                    "idempotency_key",
                    f"was sent with another request within {self._kept_s:g} s",
                    reason="IDEMPOTENCY_KEY_REUSED",
                )
            return found.pending, False
        pending = start()
        self._kept[key] = _Kept(fingerprint, pending, now_s + self._kept_s)
        if len(self._kept) > self._limit:
            self._kept.popitem(last=False)
        return pending, True

    def _forget(self, key: str, pending: Pending[Answer]) -> None:
        found = self._kept.get(key)
        if found is not None and found.pending is pending:
            del self._kept[key]

    def _late(self, deadline_s: float | None) -> bool:
        return deadline_s is not None and time.monotonic() >= deadline_s
