"""Which store is in force, and how the next one takes its place while calls go on.

A store holds the states of all views that are served, its pseudonyms under one key. When the domain
file or the registry asks for what it does not hold (a new feature), for a new store (a rebuild) or
for another key, the next generation is filled from the log beside it at low priority. Once it has
caught up with the log and its catalogue is read, it takes over between two calls; then the old one
is closed and removed. A process that is killed meanwhile goes on where the next store was.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from services.common.domain import Domain
from services.common.errors import FailedPrecondition, PodiumError, Unavailable
from services.common.log_removed import check_not_removed
from services.common.pseudonym import SETTING
from services.feature.store.protocol import StoreView
from services.feature.views.documents import (
    StateDefinitions,
    ViewDocument,
    covers,
    documents_of,
    merged,
)
from services.feature.views.generation import (
    Generation,
    Surroundings,
    directory_name,
    key_version_of,
)
from services.feature.views.registry import (
    DEFINITIONS_FILE,
    ViewRegistry,
    current_store,
    put_in_force,
    read_definitions,
)

REGISTRY_POLL_S: Final = 0.5
PROGRESS_S: Final = 2.0
"""While it starts the service logs this often how far it is."""

RETRY_S: Final = 30.0
"""Pause after a store could not be made."""

SWITCH_POLL_S: Final = 0.01
SWITCH_PATIENCE_S: Final = 10.0
"""So long the next store may be the later one of two that follow the log; then the first rests."""

_logger = logging.getLogger(__name__)


class Building(NamedTuple):
    """How far the next generation is: log position of its store, and the log's end."""

    views: tuple[ViewDocument, ...]
    position: int
    log_position: int


class Generations:
    """The store in force and the next one, in ``store_dir``. To be made on a running event loop.

    Raises ``FailedPrecondition``: VIEW_CONFLICT when the domain's views can't be served beside the
    registered ones, PSEUDONYM_KEY_MISSING when the key of the store in force is not there any more.
    """

    def __init__(
        self, domain: Domain, registry: ViewRegistry, store_dir: Path, around: Surroundings
    ) -> None:
        self._domain = domain
        self._registry = registry
        self._store_dir = store_dir
        self._around = around
        self._own = documents_of(domain)
        # Refused before anything is kept: what is registered stays.
        self._wanted(self._own)
        registry.register(self._own)
        if registry.key_version() is None:
            before = current_store(store_dir)
            known = key_version_of(before) if before is not None else None
            registry.ask_for_key(known or around.pseudonymiser.version)
        self._seen = registry.fingerprint()
        self._documents = self._registered()
        self.current = self._open()
        self.current.in_force = True
        self.current.serve(self._documents)
        self._next: Generation | None = None
        self._synced = 0
        self._task: asyncio.Task[None] | None = None

    def own_view(self, entity: str) -> ViewDocument | None:
        """The domain file's view of an entity type."""
        return next((d for d in self._own if d.entity == entity), None)

    @property
    def building(self) -> Building | None:
        """How far the next generation is, while there is one."""
        if self._next is None:
            return None
        known = {document.hash for document in self.current.documents}
        new = tuple(d for d in self._next.documents if d.hash not in known)
        return Building(new, max(0, self._next.position), self._around.synced_position())

    @contextmanager
    def read(self) -> Iterator[StoreView]:
        """A view of the store in force: this is a store to those who only read."""
        generation = self.current
        with generation.reading(), generation.store.read() as view:
            yield view

    @property
    def shared(self) -> bool:
        """Whether other logs fill the store in force, too."""
        return self.current.store.shared

    def synced_through(self, position: int) -> None:
        """Lets the log be applied up to a position."""
        self._synced = position
        self.current.synced_through(position)
        if self._next is not None:
            self._next.synced_through(position)

    async def warm(self, end: int) -> None:
        """Returns when the store in force holds the log up to ``end``."""
        told_s = time.monotonic()

        def told(position: int) -> None:
            nonlocal told_s
            if time.monotonic() - told_s > PROGRESS_S:
                told_s = time.monotonic()
                _logger.info("applied %d of %d logged events", max(position, 0), end)

        self.current.start()
        await self.current.caught_up(end, told)
        put_in_force(self.current.directory)
        _logger.info("the store holds all %d logged events", end)

    async def load(self) -> None:
        """Reads the catalogue."""
        await self.current.warm(self._own_hashes())

    def start(self) -> None:
        """Starts looking at the registry, and building what it asks for."""
        self._remove_others()
        self._task = asyncio.create_task(self._run(), name="generations")

    async def stop(self) -> None:
        """Stops building; it goes on at the next start."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def close(self) -> None:
        """Closes the store in force."""
        await self.current.close()

    def _own_hashes(self) -> frozenset[str]:
        return frozenset(document.hash for document in self._own)

    def _registered(self) -> tuple[ViewDocument, ...]:
        """The domain's own views and all that are registered, each once."""
        known = {document.hash: document for document in self._registry.documents()}
        return tuple({**known, **{d.hash: d for d in self._own}}.values())

    def _wanted(self, more: list[ViewDocument] | None = None) -> StateDefinitions:
        documents = [*self._registry.documents(), *(more or [])]
        return merged(self._domain.name, [self._domain, *documents])

    def _directory_for(self, state: StateDefinitions) -> Path:
        return self._store_dir / directory_name(state, self._key_version, self._registry.build())

    @property
    def _key_version(self) -> int:
        """Version of the key that is asked for."""
        return self._registry.key_version() or self._around.pseudonymiser.version

    def _suffices(self, generation: Generation) -> bool:
        """Whether the store in force holds what is wanted, and is as new."""
        parts: list[StateDefinitions | Domain] = [self._domain, *self._documents]
        is_new = generation.build == self._registry.build()
        is_under_key = generation.pseudonymiser.version == self._key_version
        return is_new and is_under_key and covers(generation.state, parts)

    def _open(self) -> Generation:
        """The generation to serve from: the one in force before, or else one for what is wanted."""
        wanted = self._wanted()
        directory = self._directory_for(wanted)
        before = current_store(self._store_dir)
        if before is not None and key_version_of(before) is None:
            _logger.warning("store %s does not say its key, making one anew", before.name)
        elif before is not None:
            self._check_key_of(before)
            try:
                found = Generation(before, read_definitions(before), self._around)
                if found.build != self._registry.build():
                    # A new store was asked for, maybe because this one is damaged within.
                    found.check()
                return found
            except (OSError, PodiumError) as error:
                if before == directory:
                    raise Unavailable(
                        f"the feature store can't be read ({error}); run podium features rebuild"
                    ) from error
                _logger.error("the store before can't be read, making one anew: %s", error)
        return Generation(directory, wanted, self._around)

    def _check_key_of(self, directory: Path) -> None:
        version = key_version_of(directory)
        if version is not None and version not in self._around.pseudonymiser.versions:
            raise FailedPrecondition(
                f"the store in {directory} is filled under key {version}, which {SETTING} does not"
                " have: bring it back, and run podium keys rotate before it is dropped",
                reason="PSEUDONYM_KEY_MISSING",
            )

    def _remove_others(self) -> None:
        """Removes stores that are neither in force nor being built."""
        kept = {self.current.directory, self._directory_for(self._wanted())}
        for path in self._store_dir.iterdir():
            if path not in kept and (path / DEFINITIONS_FILE).exists():
                shutil.rmtree(path, ignore_errors=True)

    async def _run(self) -> None:
        while True:
            tries_again_s = float("inf")
            try:
                while not self._suffices(self.current):
                    await self._replace()
            except Exception as error:
                _logger.error("no new store can be made", exc_info=error)
                tries_again_s = time.monotonic() + RETRY_S
            while self._registry.fingerprint() == self._seen and time.monotonic() < tries_again_s:
                await asyncio.sleep(REGISTRY_POLL_S)
            self._look_again()

    def _look_again(self) -> None:
        self._seen = self._registry.fingerprint()
        try:
            self._documents = self._registered()
            self.current.serve(self._documents)
        except PodiumError as error:
            _logger.error("the registry of views can't be read: %s", error.message)

    async def _replace(self) -> None:
        """Builds the generation that is wanted and puts it in force.

        When meanwhile another one is wanted, this one is given up.
        """
        started_s = time.monotonic()
        check_not_removed(self._around.log_dir)
        wanted = self._wanted()
        end = self._synced
        generation = Generation(self._directory_for(wanted), wanted, self._around)
        generation.serve(self._documents)
        generation.synced_through(self._synced)
        self._next = generation
        _logger.info("building store %s from %d logged events", generation.name, end)
        try:
            generation.start(background=True)
            if not await self._built(generation):
                return
            await generation.foreground()
            await generation.caught_up(self._synced)
            await generation.warm(self._own_hashes())
            await self._switch(generation)
        finally:
            if self._next is generation:
                self._next = None
                await generation.close()
        _logger.info(
            "store %s is in force after %.1f s", generation.name, time.monotonic() - started_s
        )

    async def _built(self, generation: Generation) -> bool:
        """True once the generation has caught up; False when another one is wanted by then."""
        while generation.position < self._synced:
            if self._registry.fingerprint() != self._seen:
                self._look_again()
                if self._directory_for(self._wanted()) != generation.directory:
                    return False
                generation.serve(self._documents)
            await asyncio.sleep(SWITCH_POLL_S)
        return True

    async def _switch(self, generation: Generation) -> None:
        before = self.current
        deadline_s = time.monotonic() + SWITCH_PATIENCE_S
        # In this order: what was read from the old store is in the new one then.
        while generation.position < before.stored_position:
            if time.monotonic() > deadline_s:
                deadline_s = float("inf")
                await before.apply.close()
            await asyncio.sleep(SWITCH_POLL_S)
        put_in_force(generation.directory)
        before.in_force, generation.in_force = False, True
        self.current, self._next = generation, None
        await before.close(remove=True)
        self._remove_others()
