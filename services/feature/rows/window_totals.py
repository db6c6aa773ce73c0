"""The number of a window, from the tiles of its aggregate. Pure.

Windows over one aggregate are read one after another: what a whole level comes to is computed once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple

from services.feature.definitions import (
    EntityAggregates,
    Fold,
    TileAggregate,
    WindowAggregate,
    hop_ms,
)
from services.feature.states.key_state import KeyState, Number, Tiles

_FOLDED: Final[Mapping[Fold, Callable[[Iterable[Number]], Number]]] = MappingProxyType(
    {"count": sum, "values": sum, "sum": sum, "min": min, "max": max}
)


class LevelTotal(NamedTuple):
    """The first tile of a level, and what all its tiles come to."""

    first_tile: int
    number: Number


LevelTotals = dict[int, Sequence[LevelTotal | None]]
"""Totals of the levels of a state's aggregates, by index, as far as they were needed; None for an
empty level."""

WindowReader = Callable[[KeyState, int, LevelTotals], tuple[Number | None, int]]
"""(state, t_ms, level totals of the state) to the window's number as of ``t_ms``, None when there
is none, and the time of the latest event in it, 0 for none."""


def window_reader(aggregates: EntityAggregates, window: WindowAggregate) -> WindowReader:
    """Reads a window from states of ``aggregates``, which cover it."""
    shared = [(tiles.events, tiles.value, tiles.fold) for tiles in aggregates.tiles]
    index = shared.index((window.events, window.value, window.fold))
    aggregate = aggregates.tiles[index]
    window_ms, window_hop_ms = window.window_ms, hop_ms(window.window_ms)
    # A window is the sum of its own level and all finer ones.
    hops_ms = [level.hop_ms for level in aggregate.levels if level.hop_ms <= window_hop_ms]
    folded = _FOLDED[aggregate.fold]
    takes_back = aggregate.reversed_by_refunds

    def read(state: KeyState, t_ms: int, known: LevelTotals) -> tuple[Number | None, int]:
        tiles = state.tiles[index]
        # ``window_start_ms``, whose hop is known here.
        start_ms = (t_ms - window_ms) // window_hop_ms * window_hop_ms
        latest_ms = tiles.latest_ms
        if latest_ms < start_ms:
            # Only what a refund took back may lie in the window.
            if not takes_back:
                return None, 0
            latest_ms = 0
        totals = known.get(index)
        if totals is None:
            totals = known[index] = _level_totals(aggregate, tiles)
        parts: list[Number] = []
        for held, hop, whole in zip(tiles.levels, hops_ms, totals, strict=False):
            if whole is None:
                continue
            first = start_ms // hop
            if first <= whole.first_tile:
                parts.append(whole.number)
            else:
                parts += [number for tile, number in held.items() if tile >= first]
        return (folded(parts) if parts else None), latest_ms

    return read


def _level_totals(aggregate: TileAggregate, tiles: Tiles) -> list[LevelTotal | None]:
    folded = _FOLDED[aggregate.fold]
    return [LevelTotal(min(held), folded(held.values())) if held else None for held in tiles.levels]
