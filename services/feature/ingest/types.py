"""What goes into the Ingestor and comes out of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from services.common.errors import PodiumError


class RecordLog(Protocol):
    """The log on disk, as its one writer sees it."""

    next_arrival: int

    def append(self, payloads: Sequence[bytes]) -> int:
        """Adds records; durable only after ``sync``. Returns the arrival of the first."""
        ...

    def sync(self) -> None:
        """Waits until everything added is on disk. Raises ``SyncFailed`` when that is not known
        any more, ``OSError`` for what ``recover`` may mend."""
        ...

    def recover(self) -> None:
        """Makes a log usable whose last write failed; ``next_arrival`` is then where it ends."""
        ...


class NewEvent(Protocol):
    """A checked event of a request, ready to be stored."""

    index: int
    event_id: str
    fingerprint: bytes
    too_late: bool

    def is_known_by(self, fingerprint: bytes) -> bool:
        """Whether an event with this fingerprint says the same."""
        ...

    def payload(
        self,
        arrival: int,
        arrival_ms: int,
        producer: str,
        sequence: int | None,
        *,
        duplicate: bool = False,
    ) -> bytes:
        """The record as it is stored at a position; a duplicate is marked."""
        ...


@dataclass(frozen=True, slots=True)
class IngestLimits:
    """How many events may wait to be applied, and to be written."""

    max_unapplied_events: int = 200_000
    max_waiting_events: int = 20_000


DEFAULT_LIMITS = IngestLimits()


@dataclass(frozen=True, slots=True)
class RefusedEvent:
    """An event that was not stored, by its index in the request."""

    index: int
    event_id: str
    error: PodiumError


@dataclass(slots=True)
class Receipt:
    """What became of a request's events; ``log_position`` is after the last stored one.

    ``accepted`` were stored for the first time, ``too_late`` of them only to be kept.
    """

    accepted: int = 0
    duplicates: int = 0
    too_late: int = 0
    refused: list[RefusedEvent] = field(default_factory=list)
    log_position: int = 0
