"""State of one entity, user or pair. Pure.

The state is compact: tiles for windows, last times, values and entries, when other entities were
last named, attributes with the time they were set. What is not visible yet (an event time ahead
of the log's clock) waits in ``pending`` as operations and is folded in once the clock has passed
it; a read folds a copy. So a read at t is exact for every t at or after the arrival time of the
last event folded.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from services.feature.definitions import (
    AttributeValue,
    Fold,
    Scalar,
)

Number = int | float


Entry = tuple[int, int, str, str]
"""(event time ms, arrival, event type, id) of a last_n list."""


# What one event does to one state. Plain tuples, because the codec packs them as they are while
# they wait:
#   ("k", event time)                              the entity is known from then on
#   ("w", index of the tiles, event time, number)  a tile takes a number in
#   ("r", index of the tiles, event time, number)  a tile takes a refund's number in
#   ("t", index, event time)                       a last time
#   ("v", index, event time, arrival, value)       a last value
#   ("e", index, event time, arrival, type, id)    a last entry
#   ("n", index, event time, id)                   an entity is named
#   ("a", name, event time, arrival, value)        an attribute
#   ("x", event time, arrival, withdrawn 0 or 1)   the catalogue lists the entity, or no longer
Operation = tuple[Any, ...]


@dataclass(slots=True)
class Tiles:
    """Folded numbers of one ``TileAggregate``: for each level, by tile index.

    ``latest_ms``: time of the latest event folded in; 0 when there is none.
    """

    levels: list[dict[int, Number]]
    latest_ms: int = 0

    def copied(self) -> Tiles:
        """A copy that can be folded into while this one is kept."""
        return Tiles([dict(tiles) for tiles in self.levels], self.latest_ms)


@dataclass(slots=True)
class KeyState:
    """State of one entity, user or pair; lists run parallel to its ``EntityAggregates``.

    ``recents``: time in which each id was last named. ``pending``: what waits, by the time from
    which it is visible.
    """

    tiles: list[Tiles]
    last_times: list[int | None]
    last_values: list[tuple[int, int, Scalar] | None]
    last_entries: list[list[Entry]]
    recents: list[dict[str, int]]
    known_ms: int | None = None
    attributes: dict[str, tuple[int, int, AttributeValue]] = field(default_factory=dict)
    listing: tuple[int, int, int] | None = None
    pending: list[tuple[int, Operation]] = field(default_factory=list)

    def copied(self) -> KeyState:
        """A copy that can be folded into while this one is kept."""
        return KeyState(
            tiles=[tiles.copied() for tiles in self.tiles],
            last_times=list(self.last_times),
            last_values=list(self.last_values),
            last_entries=[list(entries) for entries in self.last_entries],
            recents=[dict(times) for times in self.recents],
            known_ms=self.known_ms,
            attributes=dict(self.attributes),
            listing=self.listing,
            pending=list(self.pending),
        )

    @property
    def is_empty(self) -> bool:
        """Whether no event has named the entity, or said anything of it."""
        return self.known_ms is None and not self.pending and not self.attributes

    @property
    def in_catalogue(self) -> bool:
        """Whether some event described the entity, and it is not withdrawn."""
        if self.listing is not None:
            return not self.listing[2]
        return bool(self.attributes)

    @property
    def moves(self) -> bool:
        """Whether values of windows, lists and recency may change as time goes by."""
        return (
            any(tiles.latest_ms for tiles in self.tiles)
            or any(self.last_times)
            or any(self.last_values)
            or any(self.last_entries)
            or any(self.recents)
        )


def put(fold: Fold, tiles: dict[int, Number], tile: int, number: Number) -> None:
    """Folds a number into a tile."""
    held = tiles.get(tile)
    if held is None:
        tiles[tile] = number
    elif fold == "min":
        tiles[tile] = min(held, number)
    elif fold == "max":
        tiles[tile] = max(held, number)
    else:
        tiles[tile] = held + number


def latest(times: Mapping[str, int], limit: int) -> list[tuple[str, int]]:
    """The ``limit`` (id, time) named last, the latest first; of equal times the greater id."""
    order = sorted(times.items(), key=lambda item: (item[1], item[0]), reverse=True)
    return order[:limit]
