"""An experiment service over a file, on an event loop of its own in a thread."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path

from prometheus_client import CollectorRegistry

from services.common.assign.definitions import load_experiments
from services.common.server import ServerOptions
from services.experiment.bootstrap import build_server
from services.experiment.convert import WatchEncoder
from services.experiment.servicer import POLICIES
from services.experiment.source import FileDefinitions
from services.experiment.watch.stream import DefinitionsWatch


class ExperimentServer:
    """Serves until ``close``."""

    def __init__(self, path: Path, port: int = 0) -> None:
        self._path = path
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
        source = FileDefinitions(self._path, lambda path: load_experiments(path, None), poll_s=0.01)
        watch = DefinitionsWatch(source, WatchEncoder())
        options = ServerOptions(
            port=self._asked_port, drain_seconds=5.0, refusing_seconds=0.0, policies=POLICIES
        )
        server = build_server(source, watch, options, CollectorRegistry())
        self.port = server.port
        watch.start()
        await server.start()
        await server.set_ready()
        self._ready.set()
        await self._stop.wait()
        await server.drain()
        await watch.close()
