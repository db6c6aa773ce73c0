"""What a look at the store finds, and what watchers are told of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from services.feature.definitions import Key
from services.feature.rows.rows import Row


@dataclass(frozen=True, slots=True)
class Update:
    """A row that changed; ``row`` is None when the entity is not to be shown any more."""

    entity: str
    identity: str
    row: Row | None


@dataclass(frozen=True, slots=True)
class Refresh:
    """What a look at the store found.

    The store held the log up to ``position``; with ``updates`` the rows hold all that was
    acknowledged at ``as_of_ms``. ``urgent_s`` and ``moving_s``: when the oldest of these updates
    was acknowledged (monotonic), None where there is none. ``more``: another refresh would find
    something at once; otherwise nothing is due before ``due_s`` unless events come. The last
    ``moved`` of the updates only move.
    """

    updates: list[Update]
    position: int
    as_of_ms: int
    urgent_s: float | None = None
    moving_s: float | None = None
    more: bool = False
    due_s: float = float("inf")
    moved: int = 0


class Changed(NamedTuple):
    """A row that changed with ``version``; None for one gone."""

    key: Key
    row: Row | None
    version: int


class Changes(NamedTuple):
    """Rows that changed, oldest change first; with them a watcher has seen version ``reached``."""

    rows: list[Changed]
    reached: int
