"""When a row changes by itself: a window's start hops, a value's time to live is over. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from services.common.domain_features import Feature
from services.common.durations import duration_ms
from services.feature.definitions import (
    EntityAggregates,
    FeatureView,
    hop_ms,
    last_value_aggregate,
    recent_key,
    window_aggregates,
    window_hops_ms,
    window_start_ms,
)
from services.feature.states.key_state import KeyState

ALWAYS_MS: Final = 2_000
"""What changes with every moment, a time since something happened, is told anew this often."""


def next_hop_ms(view: FeatureView, t_ms: int) -> int | None:
    """First time after ``t_ms`` (epoch ms) at which rows of the view may change without an event;
    None when they never do. Attributes that expire apart: each row has a time of its own."""
    times = []
    for column in view.features:
        definition = column.definition
        window = getattr(definition, "window", None)
        lists_until = definition.kind == "last_n" and definition.ttl is not None
        if definition.kind == "recency" or lists_until:
            times.append(t_ms + ALWAYS_MS)
        elif window is not None:
            times.append(window_hops_ms(t_ms, duration_ms(window)))
    return min(times, default=None)


class StillWindows:
    """How long the windows of a state stand still: until the first tile, the first of the entities
    counted, or a last value passes out of one of them."""

    def __init__(self, aggregates: EntityAggregates, definitions: Iterable[Feature]) -> None:
        keys = [(tiles.events, tiles.value, tiles.fold) for tiles in aggregates.tiles]
        named = [(recent.events, recent.of) for recent in aggregates.recents]
        tiled: set[tuple[int, int]] = set()
        counted: set[tuple[int, int]] = set()
        lasts: set[tuple[int, int]] = set()
        for definition in definitions:
            for window in window_aggregates(definition):
                key = (window.events, window.value, window.fold)
                tiled.add((keys.index(key), window.window_ms))
            if definition.kind == "distinct":
                index = named.index(recent_key(definition.events, definition.of))
                counted.add((index, duration_ms(definition.window)))
            elif definition.kind == "last":
                index = aggregates.last_values.index(last_value_aggregate(definition))
                lasts.add((index, duration_ms(definition.window)))
        self._tiled = sorted(tiled)
        self._counted = sorted(counted)
        self._lasts = sorted(lasts)
        self._levels = [[level.hop_ms for level in tiles.levels] for tiles in aggregates.tiles]

    def until_ms(self, state: KeyState, t_ms: int) -> int | None:
        """First time after ``t_ms`` (epoch ms) at which a window of ``state``, as visible then,
        holds less; None when all are empty."""
        times = []
        for index, window_ms in self._tiled:
            start_ms, hop = window_start_ms(t_ms, window_ms), hop_ms(window_ms)
            levels = zip(state.tiles[index].levels, self._levels[index], strict=True)
            earliest_ms = min(
                (
                    tile * size
                    for held, size in levels
                    if size <= hop
                    for tile in held
                    if tile >= start_ms // size
                ),
                default=None,
            )
            if earliest_ms is not None:
                times.append(_passes_ms(earliest_ms, window_ms))
        for index, window_ms in self._counted:
            start_ms = window_start_ms(t_ms, window_ms)
            inside = (at for at in state.recents[index].values() if at >= start_ms)
            earliest_ms = min(inside, default=None)
            if earliest_ms is not None:
                times.append(_passes_ms(earliest_ms, window_ms))
        for index, window_ms in self._lasts:
            held_last = state.last_values[index]
            if held_last is not None and held_last[0] >= window_start_ms(t_ms, window_ms):
                times.append(_passes_ms(held_last[0], window_ms))
        return min(times, default=None)


def _passes_ms(time_ms: int, window_ms: int) -> int:
    """First time at which the window starts after the hop that ``time_ms`` lies in."""
    hop = hop_ms(window_ms)
    return (time_ms // hop + 1) * hop + window_ms


def expiry_ms(view: FeatureView, state: KeyState, t_ms: int) -> int | None:
    """First time after ``t_ms`` at which an attribute of ``state``, as visible then, is older than
    its time to live; None when none will be."""
    times = []
    for column in view.features:
        if column.definition.kind != "attribute" or column.definition.ttl is None:
            continue
        found = state.attributes.get(column.attribute or column.name)
        if found is not None:
            times.append(found[0] + duration_ms(column.definition.ttl) + 1)
    return min((time_ms for time_ms in times if time_ms > t_ms), default=None)
