"""Keeps the definitions up to date by watching the experiment service.

What is not complete is never decided by: a snapshot, or a change told in parts, is gathered beside
what is in force.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from services.common.assign.assign import Definitions
from services.common.assign.canonical import Item, ItemKey, definitions_of
from services.common.clock import system_clock_ms
from services.common.definitions_disk import DefinitionsCopy, DefinitionsDisk
from services.common.errors import FailedPrecondition
from services.ranker.types import Reason
from services.ranker.watch_loop import Stream, WatchLoop, WatchTimes

_logger = logging.getLogger(__name__)

NONE_KNOWN: Final = Definitions({}, "")
"""In force until there are any: nobody is in an experiment."""


@dataclass(frozen=True, slots=True)
class Reset:
    """A snapshot follows."""


@dataclass(frozen=True, slots=True)
class Chunk:
    """Part of a snapshot."""

    items: Sequence[Item]


@dataclass(frozen=True, slots=True)
class End:
    """The snapshot is complete; it had ``count`` definitions."""

    count: int


@dataclass(frozen=True, slots=True)
class Delta:
    """Definitions that changed and that are gone."""

    upserts: Sequence[Item]
    gone: Sequence[ItemKey]


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """Nothing changed."""


@dataclass(frozen=True, slots=True)
class DefinitionsMessage:
    """One message of the stream. ``as_of_ms`` (epoch ms, 0 for unknown): with it the definitions
    are those in force then. ``definitions_hash`` is theirs; empty while more parts follow."""

    step: Reset | Chunk | End | Delta | Heartbeat
    resume_token: bytes
    as_of_ms: int
    definitions_hash: str


DefinitionsWatchOpener = Callable[[bytes], Stream[DefinitionsMessage]]
"""Opens a watch from a resume token."""


class DefinitionsReplica:
    """The definitions, as they were last told. ``stale_s``: after that long without word of them
    they count as outdated; ``save_s``: how far the copy's ``as_of`` may be behind."""

    def __init__(
        self,
        open_watch: DefinitionsWatchOpener,
        disk: DefinitionsDisk,
        *,
        stale_s: float,
        save_s: float = 30.0,
        times: WatchTimes | None = None,
        clock_ms: Callable[[], int] = system_clock_ms,
        steady_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._open_watch = open_watch
        self._disk = disk
        self._stale_s = stale_s
        self._save_s = save_s
        self._clock_ms = clock_ms
        self._steady_s = steady_s
        self._definitions: Definitions | None = None
        self._items: dict[ItemKey, Item] = {}
        self._token = b""
        self._as_of_ms = 0
        self._told_s = 0.0
        self._gathered: dict[ItemKey, Item] | None = None
        self._count = 0
        self._saved_s = 0.0
        self._installed = threading.Event()
        self._loop = WatchLoop(
            "definitions", self._opened, self._take, times or WatchTimes(silent_s=stale_s)
        )

    def start(self) -> None:
        """Takes the copy on disk into force, when there is one, and starts watching."""
        copy = self._disk.load()
        if copy is not None:
            try:
                self._install({item.id: item for item in copy.items})
            except ValueError as error:
                _logger.warning(
                    "%s: the definitions' copy is not usable: %s", self._disk.path, error
                )
            else:
                # A clock that went back does not make them younger.
                self._token = copy.resume_token
                self._as_of(min(copy.as_of_ms, self._clock_ms()))
                _logger.info("definitions installed from %s", self._disk.path)
        if self._definitions is None:
            _logger.warning(
                "there are no definitions yet: nobody is in an experiment until the experiment "
                "service has told them"
            )
        self._loop.start()

    def close(self) -> None:
        """Stops watching, and saves the copy."""
        self._loop.close()
        if self._definitions is not None:
            self._save()

    def wait_installed(self, timeout_s: float) -> bool:
        """Waits until there are definitions."""
        return self._installed.wait(timeout_s)

    def current(self) -> Definitions:
        """The definitions in force; none at all before there are any."""
        return self._definitions or NONE_KNOWN

    def stale(self) -> Reason | None:
        """STALE while the last word of them is too old, UNAVAILABLE before there was one."""
        if self._definitions is None:
            return Reason.UNAVAILABLE
        return Reason.STALE if self.age_ms() > self._stale_s * 1000 else None

    def age_ms(self) -> int:
        """How long ago they were last known to be in force; 0 where nobody has said."""
        if not self._as_of_ms:
            return 0
        # A clock that went back does not make them younger than what was told is.
        told_ms = int((self._steady_s() - self._told_s) * 1_000)
        return max(told_ms, self._clock_ms() - self._as_of_ms)

    def _opened(self) -> Stream[DefinitionsMessage]:
        self._gathered = None
        return self._open_watch(self._token)

    def _take(self, message: DefinitionsMessage) -> None:
        match message.step:
            case Reset():
                self._gathered, self._count = {}, 0
                return
            case Chunk(items):
                if self._gathered is None:
                    raise FailedPrecondition("part of a snapshot came without its beginning")
                self._gathered |= {item.id: item for item in items}
                self._count += len(items)
                return
            case End(count):
                if self._gathered is None or count != self._count:
                    raise FailedPrecondition(
                        f"a snapshot of {count} definitions ended after {self._count}"
                    )
                self._complete(message)
            case Delta(upserts, gone):
                after = dict(self._items if self._gathered is None else self._gathered)
                after |= {item.id: item for item in upserts}
                for key in gone:
                    after.pop(key, None)
                self._gathered = after
                if message.definitions_hash:
                    self._complete(message)
            case _:
                self._heard(message)
                if time.monotonic() - self._saved_s > self._save_s:
                    self._save()

    def _complete(self, message: DefinitionsMessage) -> None:
        gathered, self._gathered = self._gathered or {}, None
        try:
            self._install(gathered, message.definitions_hash)
        except (ValueError, FailedPrecondition) as error:
            # Whatever this stream builds on is wrong: the next one begins anew.
            self._token = b""
            raise FailedPrecondition(f"the definitions can't be taken in: {error}") from error
        self._heard(message)
        self._save()

    def _heard(self, message: DefinitionsMessage) -> None:
        self._token = message.resume_token
        if message.as_of_ms:
            self._as_of(message.as_of_ms)

    def _as_of(self, as_of_ms: int) -> None:
        if as_of_ms != self._as_of_ms:
            self._as_of_ms, self._told_s = as_of_ms, self._steady_s()

    def _install(self, items: dict[ItemKey, Item], expected_hash: str = "") -> None:
        definitions = definitions_of(items.values())
        if expected_hash and definitions.hash != expected_hash:
            raise FailedPrecondition("they do not have the hash that was told")
        # Worked out here, not in a request.
        for refused in definitions.compiled.refused:
            _logger.error("%s; it is found in no text", refused)
        self._items, self._definitions = items, definitions
        self._installed.set()
        _logger.info("definitions %s are in force", definitions.hash[:12])

    def _save(self) -> None:
        self._saved_s = time.monotonic()
        copy = DefinitionsCopy([*self._items.values()], self._token, self._as_of_ms)
        try:
            self._disk.save(copy)
        except OSError as error:
            _logger.warning("%s: the definitions can't be saved: %s", self._disk.path, error)
