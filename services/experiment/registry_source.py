"""The registry as the source of the definitions in force."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final, NamedTuple, TypeVar

from services.common.assign.assign import Definitions
from services.common.assign.canonical import DefinitionError, definitions_of, hashed, items_of
from services.common.clock import system_clock_ms
from services.common.definitions_disk import DefinitionsCopy, DefinitionsDisk
from services.common.errors import Unavailable
from services.experiment.registry.ports import Store
from services.experiment.registry.record import read_in_force
from services.experiment.source import POLL_S, InForce

SAVE_S: Final = 30.0
"""How far the copy's ``as_of`` may be behind."""

_Result = TypeVar("_Result")

_NOTHING: Final = Definitions({}, "")
_logger = logging.getLogger(__name__)


class _Seen(NamedTuple):
    version: int
    definitions: Definitions


class RegistryDefinitions:
    """Implements ``DefinitionsSource``: looks at the registry's version often, and at once after a
    change made here. While the database is gone, what is in force stays; at a start it is the last
    copy on disk, until the database answers. Without either there is nothing to serve by.

    Used on the event loop; the store on threads of ``executor``.
    """

    def __init__(
        self,
        store: Store,
        disk: DefinitionsDisk,
        executor: Executor,
        *,
        clock_ms: Callable[[], int] = system_clock_ms,
        poll_s: float = POLL_S,
    ) -> None:
        self._store = store
        self._disk = disk
        self._executor = executor
        self._clock_ms = clock_ms
        self._poll_s = poll_s
        self._in_force = InForce(_NOTHING, 0)
        self._version: int | None = None
        self._saved_ms = 0
        self._migrated = False
        self._answers: bool | None = None
        self._known = asyncio.Event()
        self._turn = asyncio.Lock()
        self._asked = asyncio.Event()
        self._told: Callable[[], None] = lambda: None
        self._health: Callable[[bool], Awaitable[None]] | None = None

    def current(self) -> InForce:
        """What is in force."""
        return self._in_force

    def on_health(self, changed: Callable[[bool], Awaitable[None]]) -> None:
        """``changed`` is called with whether the registry answers, whenever that changes."""
        self._health = changed

    def answers(self) -> bool:
        """Whether the registry answered when it was last asked."""
        return self._answers is True

    def age_s(self) -> float:
        """How long ago the definitions were last known to be in force; 0 before there are any."""
        as_of_ms = self._in_force.as_of_ms
        return max(0, self._clock_ms() - as_of_ms) / 1_000 if as_of_ms else 0.0

    async def known(self) -> None:
        """Returns once there are definitions."""
        await self._known.wait()

    async def run(self, told: Callable[[], None]) -> None:
        """Looks until it is cancelled."""
        self._told = told
        copy = await self._threaded(self._copy)
        if copy is not None:
            self._in_force = copy
            self._known_now()
        while True:
            self._asked.clear()
            await self.look()
            with suppress(TimeoutError):
                await asyncio.wait_for(self._asked.wait(), self._poll_s)

    def look_soon(self) -> None:
        """Looks without waiting for the next time."""
        self._asked.set()

    async def look(self) -> None:
        """Takes the registry as it is now, where it answers."""
        async with self._turn:
            as_of_ms = self._clock_ms()
            before = self._answers
            try:
                seen = await self._threaded(self._looked)
            except Unavailable as error:
                self._answers = False
                if before is not False:
                    _logger.error("the definitions stay as they are: %s", error, exc_info=error)
            except DefinitionError as error:
                self._answers = False
                if before is not False:
                    _logger.error("the definitions stay as they are: %s", error)
            except Exception:
                # Nobody starts to look again.
                self._answers = False
                if before is not False:
                    _logger.exception("the definitions stay as they are")
            else:
                self._answers = True
                await self._take(seen, as_of_ms)
            if self._answers != before and self._health is not None:
                await self._health(self._answers)

    async def _take(self, seen: _Seen | None, as_of_ms: int) -> None:
        changed = seen is not None and seen.definitions.hash != self._in_force.definitions.hash
        if seen is not None:
            self._version = seen.version
        definitions = seen.definitions if seen is not None else self._in_force.definitions
        self._in_force = InForce(definitions, as_of_ms)
        if changed:
            _logger.info("definitions %s are in force", definitions.hash[:12])
        self._known_now()
        if changed or abs(as_of_ms - self._saved_ms) > SAVE_S * 1_000:
            self._saved_ms = as_of_ms
            await self._threaded(self._save, self._in_force)

    def _known_now(self) -> None:
        self._told()
        self._known.set()

    def _looked(self) -> _Seen | None:
        """What is new; None where nothing is. On a thread."""
        if not self._migrated:
            self._store.migrate()
            self._migrated = True
        found = self._store.snapshot(self._version)
        if found is None:
            return None
        before = self._in_force.definitions
        definitions, faults = read_in_force(found.records.values(), items_of(before))
        for fault in faults:
            _logger.error("%s; what was in force of it before stays", fault)
        if found.version == 0 and (before.experiments or before.flags):
            # A lost volume must not take everybody out of everything.
            raise DefinitionError(
                "the registry is empty, and was not: bring its database back, or remove "
                f"{self._disk.path} and start anew"
            )
        _log_refused(definitions)
        return _Seen(found.version, definitions)

    def _copy(self) -> InForce | None:
        copy = self._disk.load()
        if copy is None:
            return None
        try:
            definitions = hashed(definitions_of(copy.items))
            _log_refused(definitions)
        except ValueError as error:
            # Another release may have let through what this one refuses.
            _logger.warning("%s: the copy is not usable: %s", self._disk.path, error)
            return None
        _logger.info("definitions %s installed from %s", definitions.hash[:12], self._disk.path)
        # A clock that went back does not make them younger.
        return InForce(definitions, min(copy.as_of_ms, self._clock_ms()))

    def _save(self, in_force: InForce) -> None:
        items = [*items_of(in_force.definitions).values()]
        try:
            self._disk.save(DefinitionsCopy(items, b"", in_force.as_of_ms))
        except OSError as error:
            _logger.warning("%s: the definitions can't be saved: %s", self._disk.path, error)

    async def _threaded(self, call: Callable[..., _Result], *arguments: object) -> _Result:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._executor, call, *arguments)


def _log_refused(definitions: Definitions) -> None:
    """Raises ``ValueError`` for what can't decide: it is compiled here, not in a call."""
    for refused in definitions.compiled.refused:
        _logger.error("%s; it is found in no text", refused)
