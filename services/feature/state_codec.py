"""States from and to the bytes that a store keeps. Pure."""

from __future__ import annotations

import json
from typing import Any

from services.feature.definitions import EntityAggregates, TileAggregate
from services.feature.windows import KeyState, Tiles, latest, put


def encode_state(aggregates: EntityAggregates, state: KeyState, clock_ms: int) -> bytes:
    """Stored form, without what no read at or after ``clock_ms`` (epoch ms) counts.

    ``state`` is trimmed to the same.
    """
    for aggregate, tiles in zip(aggregates.tiles, state.tiles, strict=True):
        _trim(aggregate, tiles, clock_ms)
    for index, recent in enumerate(aggregates.recents):
        if len(state.recents[index]) > recent.cap:
            state.recents[index] = dict(latest(state.recents[index], recent.cap))
    return _dump(
        [
            state.known_ms,
            [
                [
                    tiles.latest_ms,
                    *([n for item in held.items() for n in item] for held in tiles.levels),
                ]
                for tiles in state.tiles
            ],
            state.last_times,
            state.last_values,
            state.last_entries,
            [[v for item in times.items() for v in item] for times in state.recents],
            state.attributes,
            state.listing,
            state.pending,
        ]
    )


def decode_state(data: bytes) -> KeyState:
    """Inverse of ``encode_state``."""
    known, tiles, times, values, entries, recents, attributes, listing, pending = json.loads(data)
    return KeyState(
        tiles=[Tiles([_pairs(numbers) for numbers in levels], at) for at, *levels in tiles],
        last_times=times,
        last_values=[tuple(value) if value is not None else None for value in values],
        last_entries=[[tuple(entry) for entry in listed] for listed in entries],
        recents=[_pairs(listed) for listed in recents],
        known_ms=known,
        attributes={
            name: (time_ms, arrival, _attribute(value))
            for name, (time_ms, arrival, value) in attributes.items()
        },
        listing=tuple(listing) if listing is not None else None,
        pending=[(visible_ms, _operation(op)) for visible_ms, op in pending],
    )


def _trim(aggregate: TileAggregate, tiles: Tiles, clock_ms: int) -> None:
    """Folds tiles that no window needs by themselves into the next level's."""
    for number, (held, (hop_ms, longest_ms)) in enumerate(
        zip(tiles.levels, aggregate.levels, strict=True)
    ):
        first = (clock_ms - longest_ms) // hop_ms
        passed = [tile for tile in held if tile < first]
        for tile in passed:
            value = held.pop(tile)
            if number + 1 < len(tiles.levels):
                coarser = tile * hop_ms // aggregate.levels[number + 1].hop_ms
                put(aggregate.fold, tiles.levels[number + 1], coarser, value)


def _operation(stored: list[Any]) -> tuple[Any, ...]:
    return tuple(tuple(part) if isinstance(part, list) else part for part in stored)


def _attribute(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value


def _pairs(flat: list[Any]) -> dict[Any, Any]:
    return dict(zip(flat[::2], flat[1::2], strict=True))


def _dump(value: object) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
