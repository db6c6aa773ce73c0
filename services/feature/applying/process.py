"""The applying process, seen from the serving one."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import signal
from collections.abc import Callable
from ctypes import Array, c_char, c_int64
from multiprocessing.process import BaseProcess
from multiprocessing.synchronize import Event
from pathlib import Path
from types import FrameType
from typing import NamedTuple

from services.common.clock import system_clock_ms
from services.common.convert_event import logged_arrival
from services.common.domain import Domain
from services.common.event_log import DamageReport, Salvage
from services.common.memory import collect_for_batches
from services.common.pseudonym import Pseudonymiser
from services.common.telemetry import configure_logging
from services.feature.applying.apply import Applier
from services.feature.applying.follow import follow
from services.feature.definitions import catalogue_entities
from services.feature.store.opening import StoreOptions, open_store
from services.feature.store.protocol import FeatureStore
from services.feature.views.registry import read_definitions

WATCH_S = 0.1
"""The child is looked at this often."""

FIRST_PAUSE_S = 0.2
LONGEST_PAUSE_S = 5.0
"""Pause before a child that ended is started again, and what doubling it leads to at most; a child
that has lived for longer than that begins with the first pause again."""

STOP_S = 10.0
"""Time that a child gets to finish its transaction, before it is killed."""

_logger = logging.getLogger(__name__)


class ApplyFiles(NamedTuple):
    """What a feature service works with; each set of definitions has a store in ``store_dir``."""

    domain_file: Path
    log_dir: Path
    store_dir: Path
    store: StoreOptions = StoreOptions()


class ApplyTask(NamedTuple):
    """What the child works with: a store, which says what it is filled for, and its log.

    ``niceness`` is added to the child's, which gives way to what serves.
    ``pseudonymiser``: what the store knows users and devices by.
    """

    log_dir: Path
    store_dir: Path
    niceness: int = 0
    store: StoreOptions = StoreOptions()
    log_id: str = ""
    pseudonymiser: Pseudonymiser | None = None

    def open_store(self, domain: Domain, *, writes: bool) -> FeatureStore:
        """The store, for the states of ``domain``."""
        return open_store(
            self.store,
            self.store_dir,
            log_id=self.log_id,
            listed=catalogue_entities(domain),
            writes=writes,
        )


class ApplyProcess:
    """Keeps a child process applying the log; a child that dies is started again."""

    def __init__(
        self,
        task: ApplyTask,
        *,
        log_level: str,
        restarted: Callable[[], None],
    ) -> None:
        self._task = task
        self._log_level = log_level
        self._restarted = restarted
        # A fresh interpreter: a fork would share gRPC's threads and locks.
        self._context = multiprocessing.get_context("spawn")
        self._prepared: Event = self._context.Event()
        # One writer, and a word is written as a whole: no lock.
        self._synced = self._context.RawValue(c_int64, 0)
        self._pause_reason = self._context.RawArray(c_char, 64)
        self._process: BaseProcess | None = None
        self._stopping = asyncio.Event()
        self._watcher: asyncio.Task[None] | None = None

    @property
    def pid(self) -> int | None:
        """Process id of the child; None before the start."""
        return self._process.pid if self._process is not None else None

    @property
    def prepared(self) -> bool:
        """Whether the store is there and belongs to this log and these definitions."""
        return self._prepared.is_set()

    @property
    def pause_reason(self) -> str:
        """Why the child does not apply anything now, e.g. STORE_FULL; empty while it does."""
        return self._pause_reason.value.decode()

    def synced_through(self, position: int) -> None:
        """Lets the child apply the log up to a position: what is before it is on disk."""
        self._synced.value = position

    def start(self) -> None:
        """Starts the child and the task that watches it."""
        self._spawn()
        self._watcher = asyncio.create_task(self._watch(), name="apply-watcher")

    def kill(self) -> None:
        """Kills the child at once, as a crash would; it is started again."""
        if self._process is not None:
            self._process.kill()

    async def close(self) -> None:
        """Stops the child after its current transaction."""
        self._stopping.set()
        if self._watcher is not None:
            await self._watcher
        process = self._process
        if process is None:
            return
        process.terminate()
        await asyncio.to_thread(process.join, STOP_S)
        if process.is_alive():
            # Safe at any moment: its transaction is undone.
            process.kill()
            await asyncio.to_thread(process.join)

    def _spawn(self) -> None:
        process = self._context.Process(
            target=apply_main,
            args=(
                self._task,
                self._log_level,
                os.getpid(),
                self._prepared,
                self._synced,
                self._pause_reason,
            ),
            name="podium-feature-apply",
            daemon=True,
        )
        process.start()
        self._process = process

    async def _watch(self) -> None:
        pause_s = FIRST_PAUSE_S
        alive_s = 0.0
        while not await self._stopped_within(WATCH_S):
            process = self._process
            if process is not None and process.is_alive():
                alive_s += WATCH_S
                if alive_s > LONGEST_PAUSE_S:
                    pause_s = FIRST_PAUSE_S
                continue
            _logger.error("the applying process ended, starting it again in %.1f s", pause_s)
            self._restarted()
            if await self._stopped_within(pause_s):
                return
            pause_s, alive_s = min(2 * pause_s, LONGEST_PAUSE_S), 0.0
            self._spawn()

    async def _stopped_within(self, seconds: float) -> bool:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return False
        return True


def log_salvage(log_dir: Path) -> Salvage:
    """How to go on behind damage to the event log: it is kept in the report."""
    return Salvage(logged_arrival, DamageReport(log_dir).add)


def apply_main(
    task: ApplyTask,
    log_level: str,
    parent_pid: int,
    prepared: Event,
    synced: c_int64,
    pause_reason: Array[c_char],
) -> None:
    """Main function of the child: applies until SIGTERM, or until its parent is gone."""
    configure_logging("feature-apply", log_level)
    stopping = False

    def stop(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - signal's signature
        nonlocal stopping
        stopping = True

    def paused(reason: str) -> None:
        pause_reason.value = reason.encode()

    signal.signal(signal.SIGTERM, stop)
    # Ctrl-C reaches the whole group; the parent decides when this process ends.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(task.niceness)
    collect_for_batches()
    domain = read_definitions(task.store_dir).as_domain()
    store = task.open_store(domain, writes=True)
    try:
        translate = task.pseudonymiser.translate if task.pseudonymiser is not None else None
        applier = Applier(domain, store, system_clock_ms, translate)
        follow(
            applier,
            task.log_dir,
            synced=lambda: synced.value,
            salvage=log_salvage(task.log_dir),
            should_stop=lambda: stopping or os.getppid() != parent_pid,
            prepared=prepared.set,
            paused=paused,
        )
    finally:
        store.close()
