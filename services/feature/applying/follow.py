"""Applies the log as it grows, whatever becomes of the store meanwhile."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from pathlib import Path

from services.common.errors import FailedPrecondition, Unavailable
from services.common.event_log import LogReader, Salvage
from services.feature.applying.apply import Applier

RETRY_S = 0.5
FULL_RETRY_S = 2.0
"""Pauses before a store is tried again: one that can't be reached, and one that is full."""

_logger = logging.getLogger(__name__)


def follow(
    applier: Applier,
    log_dir: Path,
    *,
    synced: Callable[[], int],
    salvage: Salvage,
    should_stop: Callable[[], bool],
    prepared: Callable[[], None],
    paused: Callable[[str], None],
    poll_seconds: float = 0.01,
) -> None:
    """Applies the log as it grows, up to the position ``synced``, until told to stop. Calls
    ``prepared`` once the store is known to belong to this log.

    A store that can't be reached or is full is tried again until it takes more; ``paused`` is told
    the reason, and "" when it goes on.
    """
    reason = ""
    while not should_stop():
        try:
            position = applier.prepare(log_dir, salvage)
            reader = LogReader(log_dir, position, salvage=salvage)
            prepared()
            while not should_stop():
                records = reader.read(applier.batch_records, synced())
                if reader.next_arrival > position:
                    applier.apply(records, position, reader.next_arrival)
                    position = reader.next_arrival
                else:
                    time.sleep(poll_seconds)
                applier.tend()
                if reason:
                    _logger.info("applying goes on")
                    paused(reason := "")
        except Unavailable as error:
            if error.reason != reason:
                _logger.critical("applying pauses: %s", error)
                paused(reason := error.reason)
            time.sleep(FULL_RETRY_S if error.reason == "STORE_FULL" else RETRY_S)
        except FailedPrecondition as error:
            if not (applier.is_shared and error.reason == "STORE_MOVED"):
                raise
            _logger.warning("%s: applying what is missing again", error)
