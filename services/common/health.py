"""``grpc.health.v1`` whose watches end when the server stops.

gRPC's own servicers leave them open, so that one watching balancer would hold a drain up until
its time is over.
"""

from __future__ import annotations

import asyncio
from typing import Any

from grpc_health.v1 import health
from grpc_health.v1._async import HealthServicer as _AioHealthServicer

SERVICE_NAME: str = health.SERVICE_NAME


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
