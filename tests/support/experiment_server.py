"""An experiment service over a file or a registry, on an event loop of its own in a thread."""

from __future__ import annotations

import asyncio
import threading
from functools import partial
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.common.assign.definitions import load_experiments
from services.common.server import ServerOptions
from services.experiment.bootstrap import Definitions, build_server, observe
from services.experiment.convert import WatchEncoder
from services.experiment.flagd.convert import FlagEventEncoder
from services.experiment.flagd.events import FlagEvents
from services.experiment.registry_source import RegistryDefinitions
from services.experiment.servicer import POLICIES
from services.experiment.source import FileDefinitions
from services.experiment.watch.stream import DefinitionsWatch


class ExperimentServer:
    """Serves until ``close``. ``definitions``: other ones than those of the file ``path``."""

    def __init__(
        self, path: Path | None = None, port: int = 0, definitions: Definitions | None = None
    ) -> None:
        self._definitions = definitions or _of_file(path)
        self.registry = CollectorRegistry()
        self._asked_port = port
        self._ready = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), daemon=True)
        self._thread.start()
        assert self._ready.wait(30)

    @property
    def target(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self.port}"

    def close(self) -> None:
        """Drains and ends."""
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        definitions = self._definitions
        source = definitions.source
        events = FlagEvents(source, FlagEventEncoder())
        watch = DefinitionsWatch(source, WatchEncoder(), [events.told])
        options = ServerOptions(
            port=self._asked_port, drain_seconds=5.0, refusing_seconds=0.0, policies=POLICIES
        )
        server = build_server(definitions, watch, events, options, self.registry)
        if isinstance(source, RegistryDefinitions):
            observe(source, server, self.registry)
        self.port = server.port
        events.start()
        watch.start()
        await server.start()
        await definitions.known()
        await server.set_ready()
        self._ready.set()
        await self._stop.wait()
        await server.drain()
        await watch.close()
        await events.close()


def _of_file(path: Path | None) -> Definitions:
    assert path is not None
    source = FileDefinitions(path, partial(load_experiments, domain=None), poll_s=0.01)
    return Definitions(source)
