"""States from and to the bytes that a store keeps. Pure.

MessagePack, with times as distances back from the clock at which the state was stored: most take a
byte or a few. A checksum follows: what was not written here is not served.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final
from zlib import crc32

import msgpack

from services.common.errors import Unavailable
from services.feature.definitions import HOPS_MS, EntityAggregates, TileAggregate
from services.feature.states.key_state import KeyState, Number, Tiles, latest, put

STATE_FORMAT: Final = 5
"""Raised when stored states, or what stands beside them, change their form: stores are then rebuilt
from the log."""

_HOP_NUMBERS: Final[Mapping[int, int]] = MappingProxyType(
    {hop: number for number, hop in enumerate(HOPS_MS)}
)
_LARGE_INT: Final = 1
"""Extension type of an int beyond 64 bits, in decimal: a total that is capped only when served."""

_CHECKSUM: Final = struct.Struct("<I")

_VECTOR: Final = 2
"""Extension type of little-endian float32."""

# What reading bytes raises that are something else.
_MISFITS: Final = (
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    ArithmeticError,
    struct.error,
    msgpack.exceptions.UnpackException,
)


def encode_state(aggregates: EntityAggregates, state: KeyState, clock_ms: int) -> bytes:
    """Stored form, without what no read at or after ``clock_ms`` (epoch ms) counts.

    ``state`` is trimmed to the same.
    """
    for aggregate, tiles in zip(aggregates.tiles, state.tiles, strict=True):
        _trim(aggregate, tiles, clock_ms)
    for index, recent in enumerate(aggregates.recents):
        if len(state.recents[index]) > recent.cap:
            state.recents[index] = dict(latest(state.recents[index], recent.cap))
    return _packed(
        (
            clock_ms,
            state.known_ms if state.known_ms is None else clock_ms - state.known_ms,
            [
                _stored_tiles(aggregate, tiles, clock_ms)
                for aggregate, tiles in zip(aggregates.tiles, state.tiles, strict=True)
            ],
            [at if at is None else clock_ms - at for at in state.last_times],
            [
                held if held is None else (clock_ms - held[0], held[1], held[2])
                for held in state.last_values
            ],
            [
                [(clock_ms - at, arrival, kind, name) for at, arrival, kind, name in entries]
                for entries in state.last_entries
            ],
            [
                [part for name, at in times.items() for part in (name, clock_ms - at)]
                for times in state.recents
            ],
            {
                name: (clock_ms - at, arrival, _stored_attribute(value))
                for name, (at, arrival, value) in state.attributes.items()
            },
            state.listing,
            state.pending,
        )
    )


def decode_state(data: bytes) -> KeyState:
    """Inverse of ``encode_state``. Raises ``Unavailable`` (STORE_DAMAGED) for other bytes."""
    try:
        return _decoded(data)
    except _MISFITS as error:
        raise Unavailable(
            f"the feature store is damaged: it holds {len(data)} bytes that are no state "
            f"({type(error).__name__}); run podium features rebuild",
            reason="STORE_DAMAGED",
        ) from error


def _decoded(data: bytes) -> KeyState:
    body = memoryview(data)[: -_CHECKSUM.size]
    if _CHECKSUM.unpack_from(data, len(body))[0] != crc32(body):
        raise ValueError("the checksum does not fit")
    clock_ms, known, tiles, times, values, entries, recents, attributes, listing, pending = (
        msgpack.unpackb(body, use_list=False, ext_hook=_extension)
    )
    return KeyState(
        tiles=[_tiles(stored, clock_ms) for stored in tiles],
        last_times=[back if back is None else clock_ms - back for back in times],
        last_values=[
            held if held is None else (clock_ms - held[0], held[1], held[2]) for held in values
        ],
        last_entries=[
            [(clock_ms - back, arrival, kind, name) for back, arrival, kind, name in listed]
            for listed in entries
        ],
        recents=[
            dict(zip(flat[::2], [clock_ms - back for back in flat[1::2]], strict=True))
            for flat in recents
        ],
        known_ms=known if known is None else clock_ms - known,
        attributes={
            name: (clock_ms - back, arrival, value)
            for name, (back, arrival, value) in attributes.items()
        },
        listing=listing,
        pending=list(pending),
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


def _stored_tiles(aggregate: TileAggregate, tiles: Tiles, clock_ms: int) -> object:
    """For each level the number of its hop, then (hops back, number) of each tile; None for an
    empty level. Where all are empty, how many there are."""
    if not tiles.latest_ms and not any(tiles.levels):
        return len(tiles.levels)
    stored: list[object] = [clock_ms - tiles.latest_ms if tiles.latest_ms else None]
    for held, level in zip(tiles.levels, aggregate.levels, strict=True):
        if not held:
            stored.append(None)
            continue
        now = clock_ms // level.hop_ms
        flat: list[int | float] = [_HOP_NUMBERS[level.hop_ms]]
        for tile, number in held.items():
            flat += (now - tile, number)
        stored.append(flat)
    return stored


def _tiles(stored: Any, clock_ms: int) -> Tiles:
    if isinstance(stored, int):
        return Tiles([{} for _ in range(stored)])
    back, *levels = stored
    found: list[dict[int, Number]] = []
    for flat in levels:
        if flat is None:
            found.append({})
            continue
        now = clock_ms // HOPS_MS[flat[0]]
        found.append({now - hops: n for hops, n in zip(flat[1::2], flat[2::2], strict=True)})
    return Tiles(found, 0 if back is None else clock_ms - back)


def _stored_attribute(value: Any) -> Any:
    if isinstance(value, tuple) and value and isinstance(value[0], float):
        return msgpack.ExtType(_VECTOR, struct.pack(f"<{len(value)}f", *value))
    return value


def _extension(code: int, data: bytes) -> Any:
    if code == _VECTOR:
        return struct.unpack(f"<{len(data) // 4}f", data)
    if code == _LARGE_INT:
        return int(data)
    raise ValueError(f"no part of a state has type {code}")


def _packed(parts: Iterable[object]) -> bytes:
    data: bytes = msgpack.packb(parts, default=_large)
    return data + _CHECKSUM.pack(crc32(data))


def _large(value: Any) -> msgpack.ExtType:
    if not isinstance(value, int):
        raise TypeError(f"a state holds no {type(value).__name__}")
    return msgpack.ExtType(_LARGE_INT, str(value).encode())
