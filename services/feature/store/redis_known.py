"""States that were read before: as long as nothing is written to a store they are not read again.

A single server keeps the store's version, a stamp that changes in the same transaction as any state
does. What was read with one version is known while that one stands. That it stands is taken for
granted for a moment after the server said so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

KEPT_BYTES: Final = 64 << 20
"""Most that is kept of states and their keys."""


class Version:
    """What is known of the states of one version of a store; ``stamp`` is None while the store has
    no version, and then nothing is."""

    def __init__(self, stamp: bytes | None) -> None:
        self.stamp = stamp
        self.states: dict[bytes, bytes | None] = {}
        """By key. A dict only grows; where that takes too much, another takes its place."""
        self._bytes = 0

    def add(self, key: bytes, state: bytes | None) -> None:
        """Keeps a state."""
        if self.stamp is None:
            return
        self._bytes += len(key) + len(state or b"")
        if self._bytes > KEPT_BYTES:
            self.states, self._bytes = {}, 0
        self.states[key] = state

    def known(self, keys: Sequence[bytes]) -> list[bytes | None] | None:
        """The states of ``keys``; None where one of them is not known."""
        states = self.states
        try:
            return [states[key] for key in keys]
        except KeyError:
            return None


class Standing(NamedTuple):
    """The server was asked at ``asked_s`` (monotonic): the store has this version, the log is at
    ``position``, and nothing is being written."""

    version: Version
    position: int
    asked_s: float


class KnownStates:
    """Keeps states of the version that was seen last. The same state is the same object every time,
    so that comparing it costs nothing. Thread-safe: a lost race costs a transfer."""

    def __init__(self) -> None:
        self.version = Version(None)

    def add(
        self, stamp: bytes | None, keys: Sequence[bytes], states: Sequence[bytes | None]
    ) -> None:
        """Keeps the states of ``keys`` that were read with a version."""
        version = self.version
        if version.stamp != stamp:
            version = self.version = Version(stamp)
        for key, state in zip(keys, states, strict=True):
            version.add(key, state)
