"""``grpc.health.v1`` whose watches end when the server stops.

gRPC's own servicers leave them open, so that one watching balancer would hold a drain up until
its time is over.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from grpc_health.v1 import health
from grpc_health.v1._async import HealthServicer as _AioHealthServicer

SERVICE_NAME: str = health.SERVICE_NAME


class SyncHealth(health.HealthServicer):  # type: ignore[misc]
    """For servers with threads."""

    def __init__(self) -> None:
        super().__init__()
        self._watches_lock = threading.Lock()
        self._watches: set[Callable[[object], None]] = set()

    def Watch(self, request: Any, context: Any, send_response_callback: Any = None) -> Any:  # noqa: N802
        """Streams the status of a service; gRPC hands a callback in, no thread waits."""
        answer = super().Watch(request, context, send_response_callback)

        def forget() -> None:
            with self._watches_lock:
                self._watches.discard(send_response_callback)

        with self._watches_lock:
            self._watches.add(send_response_callback)
        if not context.add_callback(forget):
            forget()
        return answer

    def end_watches(self) -> None:
        """Ends every open watch with OK."""
        with self._watches_lock:
            open_watches = list(self._watches)
        for send in open_watches:
            send(None)


class AioHealth(_AioHealthServicer):  # type: ignore[misc]
    """For servers on an event loop; watches end when ``draining`` is set."""

    def __init__(self, draining: asyncio.Event) -> None:
        super().__init__()
        self._draining = draining

    async def Watch(self, request: Any, context: Any) -> None:  # noqa: N802
        """Streams the status of a service."""
        watching = asyncio.create_task(super().Watch(request, context))
        draining = asyncio.create_task(self._draining.wait())
        try:
            await asyncio.wait({watching, draining}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in (watching, draining):
                task.cancel()
            await asyncio.gather(watching, draining, return_exceptions=True)
