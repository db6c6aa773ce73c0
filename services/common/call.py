"""The call being answered: its request id and deadline."""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass

from services.common.errors import DeadlinePassed
from services.common.ids import new_request_id

REQUEST_ID_KEY = "x-request-id"
CALLER_KEY = "x-podium-caller"
"""Metadata in which a caller names itself, trusted in development only."""

_ACCEPTED = re.compile(r"^[!-~]{1,128}$")


@dataclass(frozen=True, slots=True)
class CallPolicy:
    """Deadline of a method: what a caller without one gets, and the most a caller may ask for.

    None means unlimited, for streams.
    """

    default_deadline_ms: int | None
    max_deadline_ms: int | None

    def allowed_s(self, asked_s: float | None) -> float | None:
        """Seconds the call gets when its caller asked for ``asked_s``."""
        allowed_s = asked_s
        if allowed_s is None and self.default_deadline_ms is not None:
            allowed_s = self.default_deadline_ms / 1000
        if self.max_deadline_ms is None:
            return allowed_s
        cap_s = self.max_deadline_ms / 1000
        return cap_s if allowed_s is None else min(allowed_s, cap_s)


@dataclass(frozen=True, slots=True)
class Call:
    """``deadline_s`` is on the clock of ``time.monotonic``; None means unlimited."""

    request_id: str
    deadline_s: float | None

    def remaining_s(self) -> float | None:
        """Seconds left, below 0 when over; None when unlimited."""
        return None if self.deadline_s is None else self.deadline_s - time.monotonic()

    def check_deadline(self) -> None:
        """Raises ``DeadlinePassed`` when the time is over."""
        remaining_s = self.remaining_s()
        if remaining_s is not None and remaining_s <= 0:
            raise DeadlinePassed("the deadline passed before the answer was ready")


# A context variable, since it has to follow a call through threads' and tasks' own stacks.
_CURRENT: ContextVar[Call | None] = ContextVar("podium_call", default=None)


def current_call() -> Call | None:
    """The call this thread or task answers; None outside of any."""
    return _CURRENT.get()


def enter_call(call: Call | None) -> None:
    """Makes ``call`` the current one of this thread or task."""
    _CURRENT.set(call)


def call_from_metadata(
    metadata: Iterable[tuple[str, str | bytes]], policy: CallPolicy, asked_s: float | None
) -> Call:
    """The call described by request metadata; a request id is made when none is acceptable.

    Accepted ids have 1 to 128 visible ASCII characters.
    """
    request_id = ""
    for key, value in metadata:
        if key == REQUEST_ID_KEY and isinstance(value, str) and _ACCEPTED.match(value):
            request_id = value
    allowed_s = policy.allowed_s(asked_s)
    deadline_s = None if allowed_s is None else time.monotonic() + allowed_s
    return Call(request_id or new_request_id(), deadline_s)
