"""A surface's selection, bound to one version of its table: what requests only look up.

What reads a column that the table lacks, as tables of older bundles may, is left out.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from services.common.domain_selection import ImpressionFloor, LoadCap, Selection
from services.ranker.arrays import BoolArray, Float32Array, Float64Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.guarantee import Guarantee


@dataclass(frozen=True, slots=True)
class BoundPin:
    """A pin: of the item in ``slot``, or of what the source at the place ``source`` yields first;
    the other is -1. Both are -1 where the catalogue has no such item."""

    position: int
    slot: int
    source: int


@dataclass(frozen=True, slots=True)
class BoundSelection:
    """Selection over a table of n slots; None where nothing of the kind is configured.

    ``overloaded`` bool [n] marks what the load cap leaves out, ``adjustments`` float32 [n] is the
    share of its magnitude by which pacing raises a value. ``guarantee``: what new items are owed.
    ``shortfall`` float32 [n]: impressions that an item's group is short of its floor, 0 where it is
    not.
    """

    spec: Selection
    overloaded: BoolArray | None = None
    adjustments: Float32Array | None = None
    guarantee: Guarantee | None = None
    shortfall: Float32Array | None = None
    pins: tuple[BoundPin, ...] = ()

    @property
    def fixes(self) -> bool:
        """Whether some positions can be fixed."""
        return bool(self.pins or self.guarantee is not None or self.shortfall is not None)


def bind(
    spec: Selection,
    table: EntityTable,
    eligible: BoolArray,
    sources: Sequence[str],
    guarantee: Guarantee | None,
) -> BoundSelection:
    """Binds a selection. ``eligible`` bool [n] may be shown as far as the item alone says;
    ``sources`` are the names of the surface's sources, in order. ``guarantee``: what the table says
    of the selection's new items."""
    overloaded, discounts = _load(spec.load_cap, table)
    shortfall = _shortfall(spec.impression_floor, table, eligible)
    boost = spec.impression_floor.boost if spec.impression_floor is not None else 0.0
    adjustments = discounts
    if shortfall is not None and boost:
        raised = np.where(shortfall > 0, np.float32(boost), np.float32(0))
        adjustments = raised if discounts is None else discounts + raised
    pins = tuple(
        BoundPin(
            pin.position,
            -1 if pin.id is None else table.slot_of.get(pin.id, -1),
            -1 if pin.source is None else list(sources).index(pin.source),
        )
        for pin in sorted(spec.pins, key=lambda pin: pin.position)
    )
    return BoundSelection(spec, overloaded, adjustments, guarantee, shortfall, pins)


def _load(spec: LoadCap | None, table: EntityTable) -> tuple[BoolArray | None, Float32Array | None]:
    if spec is None:
        return None, None
    load, capacity = _column(table, spec.load), _column(table, spec.capacity)
    if load is None or capacity is None:
        return None, None
    full: BoolArray = (load >= spec.at * capacity) & table.present_of(spec.capacity)
    if spec.discount is None:
        return full, None
    return None, np.where(full, np.float32(-spec.discount), np.float32(0))


def _shortfall(
    spec: ImpressionFloor | None, table: EntityTable, eligible: BoolArray
) -> Float32Array | None:
    if spec is None:
        return None
    column, impressions = table.strings(spec.group), _column(table, spec.impressions)
    if column is None or impressions is None:
        return None
    codes, pool = column
    impressions = np.maximum(impressions, 0) * table.alive
    of_group = np.bincount(codes, impressions, minlength=len(pool.values))
    active = np.bincount(codes[eligible], minlength=len(pool.values)) > 0
    # Code 0 is no group: its items take no part.
    of_group[0], active[0] = 0.0, False
    fair = of_group.sum() / max(1, np.count_nonzero(active))
    short = np.where(active, np.maximum(spec.floor * fair - of_group, 0), 0)
    return short[codes].astype(np.float32)


def _column(table: EntityTable, name: str) -> Float64Array | None:
    values = table.numeric(name)
    return None if values is None else values.astype(np.float64)
