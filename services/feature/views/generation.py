"""A generation: one store, the process that fills it, and the views that are read from it."""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from services.common.courtesy import Courtesy
from services.common.errors import FailedPrecondition, Unavailable
from services.common.pseudonym import Pseudonymiser
from services.feature.applying.process import ApplyProcess, ApplyTask
from services.feature.definitions import catalogue_entities
from services.feature.rows.lookup import FeatureLookup
from services.feature.rows.rows import RowReader
from services.feature.states.entity_plan import compile_plans
from services.feature.store.opening import StoreOptions
from services.feature.views.documents import StateDefinitions, ViewDocument, covers, view_reader
from services.feature.views.registry import read_definitions, write_definitions
from services.feature.watch.acknowledged import Acknowledgements
from services.feature.watch.feed import CatalogueFeed
from services.feature.watch.feeds import Watching
from services.feature.watch.hub import EntityHub
from services.feature.watch.stream import StepEncoder, WatchObserver

APPLY_NICENESS = 5
"""Added to the niceness of the process that fills the store in force: lookups wait for a core less
often, and events have a second to show. Beside one busy thread it still gets a quarter of a core
(sched(7))."""

BUILD_NICENESS = 10
"""The same of a process that fills a store beside the one in force."""

POLL_S = 0.02

_logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Surroundings:
    """What generations share. ``synced_position``: the log's end on disk; ``applied`` is told how
    far the store in force has come; ``restarted``: an applying process had to be started again.
    ``courtesy`` knows the calls that must not wait for long work.
    ``log_id``: the log's, where the store is shared. ``pseudonymiser``: all keys of pseudonyms."""

    log_dir: Path
    clock_ms: Callable[[], int]
    synced_position: Callable[[], int]
    applied: Callable[[int], None]
    restarted: Callable[[], None]
    encoder: StepEncoder
    observer: WatchObserver
    courtesy: Courtesy
    store: StoreOptions
    log_id: str
    pseudonymiser: Pseudonymiser
    log_level: str = "INFO"


def directory_name(state: StateDefinitions, key_version: int, build: int) -> str:
    """Name of the store for ``state`` that has its pseudonyms under a key."""
    return f"{state.schema_hash[:16]}-k{key_version}-{build}"


def key_version_of(directory: Path) -> int | None:
    """Version of the key that the pseudonyms in a store are under; None of one that was made
    before stores kept to one key."""
    found = re.search(r"-k(\d+)-\d+$", directory.name)
    return int(found.group(1)) if found else None


def _says(directory: Path, state: StateDefinitions) -> bool:
    """Whether the store says already what it is filled for: a full disk lets it open then."""
    try:
        return read_definitions(directory) == state
    except (OSError, FailedPrecondition):
        return False


class Generation:
    """Made from a directory that may be new, whose name says which key the store has its pseudonyms
    under (``directory_name``), whatever the log has them under. On a running event loop: ``start``,
    then ``caught_up`` and ``warm`` before it is read, ``close`` at the end.

    Raises ``Unavailable`` for a damaged store, ``FailedPrecondition`` (PSEUDONYM_KEY_MISSING)
    without its key.
    """

    def __init__(self, directory: Path, state: StateDefinitions, around: Surroundings) -> None:
        self.directory = directory
        self.pseudonymiser = around.pseudonymiser.under(
            key_version_of(directory) or around.pseudonymiser.version
        )
        """What the store knows users and devices by."""
        self.state = state
        self.documents: tuple[ViewDocument, ...] = ()
        if not _says(directory, state):
            write_definitions(directory, state)
        domain = state.as_domain()
        self._around = around
        self.store = self._task(0).open_store(domain, writes=False)
        self._plans = compile_plans(domain)
        self._catalogue = catalogue_entities(domain)
        self.pairs = frozenset(name for name, e in state.entities.items() if e.pair)
        self.lookup = FeatureLookup(self.store, around.clock_ms)
        self.watching = Watching(self._make_feed, around.encoder, around.observer, around.courtesy)
        self.in_force = False
        """Whether calls are answered from it."""
        self._readers = 0
        self._lock = threading.Lock()
        self._synced = 0
        self.apply = self._applying(APPLY_NICENESS)

    @property
    def name(self) -> str:
        """Name of the generation, that of its directory."""
        return self.directory.name

    @property
    def build(self) -> int:
        """How often a new store had been asked for when this one was begun."""
        return int(self.name.rpartition("-")[2])

    @property
    def position(self) -> int:
        """Log position the store is at; -1 while that is not known, or whether it belongs to this
        log."""
        try:
            return self.stored_position if self.apply.prepared else -1
        except Unavailable:
            # The applying process tells of it.
            return -1

    @property
    def stored_position(self) -> int:
        """The same, whatever log the store belongs to."""
        with self.store.read() as view:
            return view.position()

    def check(self) -> None:
        """Reads all of the store. Closes it and raises ``Unavailable`` where it is damaged."""
        try:
            self.store.check()
        except Unavailable:
            self.store.close()
            raise

    def serve(self, documents: Collection[ViewDocument]) -> None:
        """Serves those of the views that the store covers, in place of those before."""
        readers: list[RowReader] = []
        served: list[ViewDocument] = []
        for document in documents:
            if not covers(self.state, [document]):
                continue
            try:
                reader = view_reader(document, self._plans)
            except FailedPrecondition as error:
                _logger.error("%s", error.message)
                continue
            readers.append(reader)
            served.append(document)
        self.lookup.serve(readers)
        self.documents = tuple(served)

    def synced_through(self, position: int) -> None:
        """Lets the log be applied up to a position."""
        self._synced = position
        self.apply.synced_through(position)
        self.watching.synced(position)

    def start(self, *, background: bool = False) -> None:
        """Starts applying, which gives way to what serves; in the background it does so more."""
        self.apply = self._applying(BUILD_NICENESS if background else APPLY_NICENESS)
        self.apply.start()

    async def foreground(self) -> None:
        """Goes on applying at the priority of the store in force."""
        await self.apply.close()
        self.start()

    async def caught_up(self, position: int, told: Callable[[int], None] | None = None) -> None:
        """Returns when the store holds the log up to ``position``; tells how far it is."""
        while (reached := self.position) < position:
            if told is not None:
                told(reached)
            await asyncio.sleep(POLL_S)

    async def warm(self, hashes: Collection[str]) -> None:
        """Reads the catalogue as the served views among these show it."""
        await self.watching.start(
            {
                reader.view.entity: reader
                for reader in self.lookup.readers()
                if reader.view.entity in self._catalogue and reader.view.hash in hashes
            }
        )

    def watchable(self, entity: str) -> bool:
        """Whether entities of a type can be watched."""
        return entity in self._catalogue

    @contextmanager
    def reading(self) -> Iterator[FeatureLookup]:
        """The lookup; the store stays open for the length of the block. In any thread."""
        with self._lock:
            self._readers += 1
        try:
            yield self.lookup
        finally:
            with self._lock:
                self._readers -= 1

    async def close(self, *, remove: bool = False) -> None:
        """Stops the parts, the last made first, once nobody reads; may remove the store."""
        await self.watching.close()
        await self.apply.close()
        while self._readers:
            await asyncio.sleep(POLL_S)
        if remove:
            try:
                await asyncio.to_thread(self.store.leave)
            except Unavailable as error:
                _logger.warning("keys of store %s stay behind: %s", self.name, error)
        self.store.close()
        if remove:
            await asyncio.to_thread(shutil.rmtree, self.directory, ignore_errors=True)

    def _applying(self, niceness: int) -> ApplyProcess:
        process = ApplyProcess(
            self._task(niceness),
            log_level=self._around.log_level,
            restarted=self._around.restarted,
        )
        process.synced_through(self._synced)
        return process

    def _task(self, niceness: int) -> ApplyTask:
        around = self._around
        return ApplyTask(
            around.log_dir,
            self.directory,
            niceness,
            around.store,
            around.log_id,
            self.pseudonymiser,
        )

    def _make_feed(self, readers: Mapping[str, RowReader], main: bool) -> CatalogueFeed:
        def told(position: int) -> None:
            if main and self.in_force:
                self._around.applied(position)

        acknowledgements = Acknowledgements()
        clock_ms = self._around.clock_ms
        return CatalogueFeed(
            EntityHub(self.store, readers, clock_ms, acknowledgements=acknowledgements),
            acknowledgements,
            synced_position=self._around.synced_position,
            applied=told,
            clock_ms=clock_ms,
        )
