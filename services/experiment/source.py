"""Where the definitions in force come from: what a source must offer, and the YAML file as one."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from services.common.assign.assign import Definitions
from services.common.assign.change_checks import change_errors
from services.common.clock import system_clock_ms
from services.common.errors import ConfigError

POLL_S: Final = 0.25
"""A file is looked at this often: a change is told within a second."""

_logger = logging.getLogger(__name__)


class InForce(NamedTuple):
    """Definitions, with the time (epoch ms) at which they were last known to be in force."""

    definitions: Definitions
    as_of_ms: int


class DefinitionsSource(Protocol):
    """Keeps the definitions in force. Used on the event loop alone."""

    def current(self) -> InForce:
        """What is in force. Never waits."""

    async def run(self, told: Callable[[], None]) -> None:
        """Keeps ``current`` up to date until it is cancelled, and calls ``told`` after each look:
        whatever has changed, or been confirmed."""


class FileDefinitions:
    """The definitions of a file, read again when it changes.

    A file that is wrong, or that would move the units of a running experiment, leaves the
    definitions as they were, and is logged.
    """

    def __init__(
        self,
        path: Path,
        load: Callable[[Path], Definitions],
        *,
        clock_ms: Callable[[], int] = system_clock_ms,
        poll_s: float = POLL_S,
    ) -> None:
        """Raises ``ConfigError`` for a file that is wrong."""
        self._path = path
        self._load = load
        self._clock_ms = clock_ms
        self._poll_s = poll_s
        as_of_ms = clock_ms()
        self._seen = self._content()
        self._in_force = InForce(load(path), as_of_ms)

    def current(self) -> InForce:
        """What is in force."""
        return self._in_force

    async def run(self, told: Callable[[], None]) -> None:
        """Looks at the file until it is cancelled."""
        while True:
            await asyncio.sleep(self._poll_s)
            await self.look()
            told()

    async def look(self) -> None:
        """Takes the file as it is now."""
        self._in_force = await asyncio.to_thread(self._looked)

    def _looked(self) -> InForce:
        as_of_ms = self._clock_ms()
        content = self._content()
        if content == self._seen:
            return InForce(self._in_force.definitions, as_of_ms)
        self._seen = content
        before = self._in_force.definitions
        try:
            after = self._load(self._path)
        except ConfigError as error:
            _logger.error("the definitions stay as they were: %s", error)
            return InForce(before, as_of_ms)
        except Exception:
            # Nobody starts to look again: whatever went wrong, the file can be mended.
            _logger.exception("%s can't be read; the definitions stay as they were", self._path)
            return InForce(before, as_of_ms)
        refused = [f"{'.'.join(map(str, at))}: {why}" for at, why in change_errors(before, after)]
        if refused:
            _logger.error("the definitions stay as they were: %s", "; ".join(refused))
            return InForce(before, as_of_ms)
        _logger.info("definitions %s are in force", after.hash[:12])
        return InForce(after, as_of_ms)

    def _content(self) -> bytes:
        try:
            return self._path.read_bytes()
        except OSError:
            # What can't be read is no change; loading tells what is wrong with it.
            return b""
