"""Planning an experiment: how many units, for how long, and what it could see."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from offline.analysis.statistics.power import (
    MOST_UNITS,
    Baseline,
    Design,
    Needed,
    minimum_effect,
    needed,
    needed_to_hold,
)
from services.common.errors import InvalidArgument


@dataclass(frozen=True)
class Plan:
    """What it takes to find one effect: ``relative`` to the baseline's mean (``absolute``: in the
    metric's unit); ``days`` at the given traffic, None without it."""

    relative: float
    absolute: float
    needed: Needed
    days: float | None


@dataclass(frozen=True)
class Holds:
    """What it takes to show that a guardrail holds within a ``margin`` (a share of the baseline's
    mean), where nothing changes; ``days`` as in ``Plan``."""

    margin: float
    needed: Needed
    days: float | None


@dataclass(frozen=True)
class Seen:
    """The smallest effect that is found after ``days``, with ``units`` of both arms."""

    days: float
    units: int
    absolute: float
    relative: float


def plans(
    baseline: Baseline,
    relative_effects: Sequence[float],
    design: Design,
    *,
    units_per_day: float | None = None,
) -> tuple[Plan, ...]:
    """Units, and days where ``units_per_day`` (new ones, of both arms) is known, of each effect.

    Raises InvalidArgument for a baseline mean of 0, and as ``statistics.power.needed`` does.
    """
    _check(baseline, units_per_day)
    found = []
    for relative in relative_effects:
        absolute = relative * baseline.mean
        units = needed(baseline, absolute, design)
        days = None if units_per_day is None else units.units / units_per_day
        found.append(Plan(relative, absolute, units, days))
    return tuple(found)


def margins(
    baseline: Baseline,
    shares: Sequence[float],
    design: Design,
    *,
    units_per_day: float | None = None,
    less_is_better: bool = False,
) -> tuple[Holds, ...]:
    """Units, and days where ``units_per_day`` is known, of each margin of a guardrail.

    Raises InvalidArgument as ``statistics.power.needed_to_hold`` does.
    """
    _check(baseline, units_per_day)
    found = []
    for margin in shares:
        units = needed_to_hold(baseline, margin, design, less_is_better=less_is_better)
        found.append(
            Holds(margin, units, None if units_per_day is None else units.units / units_per_day)
        )
    return tuple(found)


def smallest_effects(
    baseline: Baseline, days: Sequence[float], design: Design, *, units_per_day: float
) -> tuple[Seen, ...]:
    """The smallest increase that is found after each number of ``days``.

    ``units_per_day``: new ones of both arms. Raises InvalidArgument as
    ``statistics.power.minimum_effect`` does, and for days that bring too few units.
    """
    _check(baseline, units_per_day)
    found = []
    for each in days:
        bring = each * units_per_day
        if not 0.0 < bring <= MOST_UNITS:
            raise InvalidArgument.field(
                "days", f"{each:g} bring {bring:g} units, must bring 1 to {MOST_UNITS:g}"
            )
        units = int(bring)
        absolute = minimum_effect(baseline, units, design)
        found.append(Seen(each, units, absolute, absolute / abs(baseline.mean)))
    return tuple(found)


def _check(baseline: Baseline, units_per_day: float | None) -> None:
    if baseline.mean == 0.0:
        raise InvalidArgument.field("mean", "is 0: nothing is relative to it")
    if units_per_day is not None and not units_per_day > 0.0:
        raise InvalidArgument.field("units_per_day", f"must be positive, is {units_per_day}")
