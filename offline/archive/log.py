"""The event log as offline commands read it: past damage, and with the damage told."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path

from services.common.convert_event import logged_arrival
from services.common.errors import FailedPrecondition, NotFound
from services.common.event_log import Damage, LogReader, Salvage, list_segments

Found = Callable[[Damage], None]

_BATCH_RECORDS = 4_096
_NEVER = 1 << 62

_logger = logging.getLogger(__name__)


def warn(damage: Damage) -> None:
    """Tells of damage in the program's log."""
    _logger.warning("the log is damaged: %s", damage)


def read_sound(
    log_dir: Path, from_arrival: int = 0, to_arrival: int | None = None, found: Found = warn
) -> Iterator[tuple[int, bytes]]:
    """(arrival, record) of every sound record in [from_arrival, to_arrival), in order.

    ``found`` is told of each damage, behind which arrivals go on with a gap; an unfinished record
    at the end is none. Raises ``NotFound`` without a log and ``FailedPrecondition`` (LOG_CUT) for
    one that begins after ``from_arrival``.
    """
    check_reaches(log_dir, from_arrival)
    through = _NEVER if to_arrival is None else to_arrival
    reader = LogReader(log_dir, from_arrival, salvage=Salvage(logged_arrival, found))
    while records := reader.read(_BATCH_RECORDS, through):
        yield from records


def reaches(log_dir: Path, arrival: int) -> bool:
    """Whether the log does not begin after ``arrival``. Raises ``NotFound`` without a log."""
    segments = list_segments(log_dir)
    if not segments:
        raise NotFound(f"there is no event log at {log_dir}", reason="LOG_NOT_FOUND")
    return segments[0].first_arrival <= arrival


def check_reaches(log_dir: Path, arrival: int) -> None:
    """Raises ``FailedPrecondition`` (LOG_CUT) for a log that begins after ``arrival``."""
    if not reaches(log_dir, arrival):
        raise FailedPrecondition(
            f"{log_dir} begins at arrival {list_segments(log_dir)[0].first_arrival}: {arrival} and"
            " what follows was removed from it, and must be read from an archive that holds it",
            reason="LOG_CUT",
        )


def last_sound_arrival(log_dir: Path, before: int) -> int | None:
    """Arrival of the last sound record below ``before``; None where the log holds none."""
    for segment in reversed(list_segments(log_dir)):
        last = None
        if segment.first_arrival < before:
            for arrival, _ in read_sound(log_dir, segment.first_arrival, before, lambda _: None):
                last = arrival
        if last is not None:
            return last
    return None
