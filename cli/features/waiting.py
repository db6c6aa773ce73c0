"""Waits for a running feature service to have done what it was asked for."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from cli.features.client import Served

POLL_S = 0.1


def wait_for(target: str, done: Callable[[Served], bool]) -> tuple[float, Served]:
    """Waits for a service, showing how far it is; seconds it took, and what is served then.

    Raises ``Unavailable`` when the service does not answer: it does what is registered when it
    starts.
    """
    from rich.console import Console

    from cli.features.client import feature_views
    from cli.progress import stage_progress
    from services.common.errors import Unavailable

    started_s = time.monotonic()
    with feature_views(target) as client, stage_progress(Console(stderr=True)) as progress:
        while True:
            try:
                served = client.served()
            except Unavailable as error:
                raise Unavailable(
                    f"no feature service answers at {target} ({error.message}); one that starts "
                    "on this log goes on with it"
                ) from error
            if served.building_position is not None:
                progress("events", served.building_position, served.log_end)
            if done(served):
                progress("events", served.position, served.position)
                return time.monotonic() - started_s, served
            time.sleep(POLL_S)
