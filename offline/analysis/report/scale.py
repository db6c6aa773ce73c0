"""Where intervals lie on a common line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from offline.analysis.model import Interval

# Intervals so many times as wide as the usual one are cut off, so that the others can be seen.
WIDEST = 4.0


@dataclass(frozen=True)
class Bar:
    """An interval on a line from 0 to 100; an end that lies outside is cut off and told."""

    zero: float
    lower: float
    upper: float
    estimate: float
    cut_below: bool
    cut_above: bool
    margin: float | None


@dataclass(frozen=True)
class Scale:
    """The changes that the line's ends stand for."""

    least: float
    most: float

    def place(self, change: float) -> float:
        """Where ``change`` lies: 0 to 100, and no further."""
        share = (change - self.least) / (self.most - self.least)
        return round(100 * min(1.0, max(0.0, share)), 2)

    def bar(self, effect: Interval, *, margin: float | None = None) -> Bar | None:
        """``effect``'s relative interval; None where it has no relative estimate. ``margin``: a
        change to mark."""
        if effect.relative is None:
            return None
        lower, upper = effect.relative_lower, effect.relative_upper
        return Bar(
            zero=self.place(0.0),
            lower=0.0 if lower is None else self.place(lower),
            upper=100.0 if upper is None else self.place(upper),
            estimate=self.place(effect.relative),
            cut_below=lower is None or lower < self.least,
            cut_above=upper is None or upper > self.most,
            margin=None if margin is None else self.place(margin),
        )


def scale(effects: Sequence[Interval]) -> Scale:
    """A line that has room for 0 and for all of ``effects``' relative intervals that are not far
    wider than most."""
    ends = np.array(
        [
            (e.relative_lower, e.relative_upper)
            for e in effects
            if e.relative_lower is not None and e.relative_upper is not None
        ],
        np.float64,
    ).reshape(-1, 2)
    if not len(ends):
        return Scale(-0.1, 0.1)
    widths = ends[:, 1] - ends[:, 0]
    usual = ends[widths <= WIDEST * np.median(widths)]
    least, most = min(0.0, float(usual.min())), max(0.0, float(usual.max()))
    room = 0.06 * (most - least) or 0.01
    return Scale(least - room, most + room)
