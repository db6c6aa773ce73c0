"""Impressions that a surface guarantees to new items: who is behind, and whose turn it is.

An item is new for ``within`` after it was published, and is to have ``until`` impressions by then.
They fall due one by one, evenly over the first three quarters of that time; what is left is for
hours without traffic and for luck. Whoever has fewer than are due is behind and takes part in a
draw for the slot, with a weight of

    impressions still to be had / time left to have them

which is the rate that the item needs. So items share the traffic in the proportion that keeps all
promises while any does, and one that could seldom be shown gets its turn more surely the later it
is. Nobody has to know what other replicas or other requests of a batch do: each request draws for
itself, by its seed.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from services.common.domain_selection import NewItems
from services.common.durations import duration_ms
from services.ranker.arrays import (
    BoolArray,
    Float32Array,
    Float64Array,
    Int64Array,
    UInt64Array,
)
from services.ranker.catalogue.table import EntityTable

SCHEDULED_SHARE = 0.75
"""Share of the time by whose end every impression is due."""

_LEAST_LEFT = 0.001
"""Share of the time that always counts as left: nobody needs all traffic at once."""

_FACTORS = np.uint64(0xFF51AFD7ED558CCD), np.uint64(0xC4CEB9FE1A85EC53)
_HALF, _FRACTION = np.uint64(32), np.uint64(11)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a guarantee stands: ``items`` that are new, the impressions ``due`` to them so far, how
    many of these are ``behind``, and the rate that keeps every promise from here on."""

    items: int
    due: float
    behind: float
    needed_per_second: float


@dataclass(frozen=True, slots=True)
class Guarantee:
    """A guarantee over a table of n slots.

    ``had`` [n] are impressions, ``published_ms`` int64 [n]; ``within_ms`` 0: items stay new.
    ``new`` bool [n] marks items that may be new, ``open`` those that may be owed something.
    """

    until: int
    within_ms: int
    had: Float32Array | Int64Array
    published_ms: Int64Array
    new: BoolArray
    open: BoolArray

    @classmethod
    def of(cls, spec: NewItems | None, table: EntityTable, now_ms: int) -> Guarantee | None:
        """Over one version of a table, from ``now_ms`` on; None without one, or where the table
        lacks a column."""
        had = None if spec is None else table.numeric(spec.impressions)
        if spec is None or had is None:
            return None
        lacking = had < spec.until
        if spec.published is None or spec.younger_than is None:
            nowhere = np.zeros(len(table), np.int64)
            return cls(spec.until, 0, had, nowhere, table.alive, table.alive & lacking)
        published = table.numeric(spec.published)
        if published is None:
            return None
        published_ms, within_ms = np.asarray(published, np.int64), duration_ms(spec.younger_than)
        new = table.alive & table.present_of(spec.published) & (published_ms > now_ms - within_ms)
        return cls(spec.until, within_ms, had, published_ms, new, new & lacking)

    def needed(self, slots: Int64Array, now_ms: int) -> Float64Array:
        """Impressions per millisecond that items [m] need, float64 [m]; 0 where none is behind."""
        remaining = np.where(self.open[slots], self.until - self.had[slots], 0.0)
        if not self.within_ms:
            return np.maximum(remaining, 0.0)
        age_ms, due = self._due(slots, now_ms)
        left_ms = np.maximum(self.within_ms - age_ms, _LEAST_LEFT * self.within_ms)
        return np.where(self.had[slots] < due, remaining / left_ms, 0.0)

    def standing(self, eligible: BoolArray, now_ms: int) -> Standing:
        """How the new items stand that may be shown at all, bool [n]."""
        slots = np.flatnonzero(self.new & eligible)
        if self.within_ms:
            age_ms = now_ms - self.published_ms[slots]
            slots = slots[(age_ms >= 0) & (age_ms < self.within_ms)]
        remaining = np.maximum(self.until - self.had[slots], 0.0)
        if not self.within_ms:
            return Standing(len(slots), self.until * len(slots), float(remaining.sum()), 0.0)
        age_ms, due = self._due(slots, now_ms)
        return Standing(
            len(slots),
            float(due.sum()),
            float(np.maximum(due - self.had[slots], 0.0).sum()),
            float(1_000 * (remaining / (self.within_ms - age_ms)).sum()),
        )

    def _due(self, slots: Int64Array, now_ms: int) -> tuple[Int64Array, Float64Array]:
        """Ages in ms, and impressions due by now: none before an item is new and after."""
        age_ms = now_ms - self.published_ms[slots]
        steps = np.floor(age_ms * (self.until / (SCHEDULED_SHARE * self.within_ms))) + 1.0
        due = np.clip(steps, 0.0, self.until)
        due[(age_ms < 0) | (age_ms >= self.within_ms)] = 0.0
        return age_ms, due


def turns(needed: Float64Array, tie: UInt64Array, seeds: UInt64Array) -> Float64Array:
    """When each of m items has its turn in each of B draws, float64 [B, m]: the least is first, and
    what needs nothing has infinity.

    ``needed`` float64 [m] are the weights, ``tie`` uint64 [m] the items' hashes, ``seeds`` uint64
    [B]. In an order of exponential variables with these rates each place goes to one of those left
    in proportion to its weight (Efraimidis & Spirakis 2006). An item's turn depends on its weight
    and the seed alone, not on who else takes part.
    """
    mixed = (tie[None, :] ^ seeds[:, None]) * _FACTORS[0]
    mixed ^= mixed >> _HALF
    mixed *= _FACTORS[1]
    uniform = ((mixed >> _FRACTION).astype(np.float64) + 0.5) * 2.0**-53
    with np.errstate(divide="ignore"):
        times: Float64Array = -np.log(uniform) / needed
    return times
