"""Cumulative sums by day, from which what was known each day can be computed."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import numpy as np

from offline.analysis.units.table import DailySums, Floats, Ints, MetricColumns


def day_starts_ms(first_ms: int, last_ms: int, time_zone: str) -> Ints:
    """When the days of a zone began (epoch ms) from that of ``first_ms`` to that of ``last_ms``."""
    zone = ZoneInfo(time_zone)
    day = datetime.fromtimestamp(first_ms / 1_000, zone).date()
    last = datetime.fromtimestamp(last_ms / 1_000, zone).date()
    starts = []
    while day <= last:
        midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
        starts.append(round(midnight.astimezone(UTC).timestamp() * 1_000))
        day += timedelta(days=1)
    return np.array(starts, dtype=np.int64)


def daily_sums(
    metric: MetricColumns, variant: Ints, variants: Sequence[str], time_zone: str
) -> DailySums:
    """The sums of a metric; no day where no row is mature.

    The days are those on which a window ended, from the first to the last, and all between.
    """
    count = 1 if metric.denominator is None else 2
    mature = np.flatnonzero(metric.mature)
    if not mature.size:
        none = np.zeros((0, len(variants)))
        shape = (0, len(variants), count)
        return DailySums(np.zeros(0, np.int64), none, np.zeros(shape), np.zeros((*shape, count)))
    ended_ms = metric.matured_ms[mature]
    starts = day_starts_ms(int(ended_ms.min()), int(ended_ms.max()), time_zone)
    cells = (np.searchsorted(starts, ended_ms, side="right") - 1) * len(variants) + variant[mature]
    columns = [metric.numerator[mature]]
    if metric.denominator is not None:
        columns.append(metric.denominator[mature])
    days, arms = len(starts), len(variants)

    def cumulated(weights: Floats | None) -> Floats:
        found = np.bincount(cells, weights=weights, minlength=days * arms)
        return np.cumsum(found.reshape(days, arms).astype(np.float64), axis=0)

    sums = np.empty((days, arms, count))
    products = np.empty((days, arms, count, count))
    for one in range(count):
        sums[:, :, one] = cumulated(columns[one])
        for other in range(one, count):
            products[:, :, one, other] = cumulated(columns[one] * columns[other])
            products[:, :, other, one] = products[:, :, one, other]
    return DailySums(starts, cumulated(None), sums, products)
