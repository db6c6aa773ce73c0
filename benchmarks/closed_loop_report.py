"""Tables and figures of what the worlds of a closed loop gave."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from benchmarks.closed_loop_arms import ALWAYS_DRAWN, SHOWN
from benchmarks.closed_loop_jobs import NewCourses, WorldResult
from benchmarks.closed_loop_run import LOGGING, ORACLE, TASTES
from benchmarks.closed_loop_world import SHIPPED, UNPOSITIONED
from offline.evaluation.bootstrap import Interval, clustered_interval

Floats = NDArray[np.float64]

NO_EXPLORATION = "no exploration"
SHARES = (0.02, 0.05, 0.1, 1.0)


@dataclass(frozen=True)
class ArmRow:
    """One arm: purchases to expect of a slate, and by how much they are above the shipped ones'."""

    arm: str
    purchases: Interval
    less_shipped: Interval
    opens: float
    revenue_minor: float
    share_of_oracle: float

    @property
    def verdict(self) -> str:
        """What the interval says of the part that this arm lacks."""
        if self.arm in (SHOWN, ORACLE, TASTES, LOGGING):
            return ""
        if self.less_shipped.high < 0:
            return "worse"
        return "better" if self.less_shipped.low > 0 else "no difference seen"


def by_visitor(person: Sequence[int], values: Sequence[float]) -> Floats:
    """Mean of each visitor's slates, float64 [visitors]: what intervals draw again."""
    _, owner = np.unique(np.array(person), return_inverse=True)
    totals = np.bincount(owner, weights=np.array(values, dtype=np.float64))
    return np.asarray(totals / np.bincount(owner), dtype=np.float64)


def arm_rows(worlds: Sequence[WorldResult]) -> list[ArmRow]:
    """One row an arm, in the order they were tried; intervals over worlds and visitors."""

    def values(arm: str) -> list[Floats]:
        return [by_visitor(world.person, world.purchases[arm]) for world in worlds]

    shipped, oracle = values(SHOWN), values(ORACLE)
    best = float(np.mean([found.mean() for found in oracle]))
    rows = []
    for arm in worlds[0].purchases:
        own = values(arm)
        gaps = [a - b for a, b in zip(own, shipped, strict=True)]
        purchases = clustered_interval(own)
        rows.append(
            ArmRow(
                arm,
                purchases,
                clustered_interval(gaps),
                float(np.mean([np.mean(world.opens[arm]) for world in worlds])),
                float(np.mean([np.mean(world.revenue_minor[arm]) for world in worlds])),
                purchases.mean / best,
            )
        )
    return rows


def exploration_costs(worlds: Sequence[WorldResult]) -> dict[str, dict[float, Interval]]:
    """What a share of slates that are drawn costs a slate on average, as a share of the value of
    slates that are not, by arm that draws always and by share."""
    plain = [by_visitor(world.person, world.purchases[NO_EXPLORATION]) for world in worlds]
    mean = float(np.mean([values.mean() for values in plain]))
    drawing = [arm for arm in worlds[0].purchases if _is_of(ALWAYS_DRAWN, arm)]
    costs: dict[str, dict[float, Interval]] = {}
    for arm in drawing:
        drawn = [by_visitor(world.person, world.purchases[arm]) for world in worlds]
        cost = clustered_interval([(p - d) / mean for p, d in zip(plain, drawn, strict=True)])
        costs[arm] = {
            share: Interval(share * cost.mean, share * cost.low, share * cost.high)
            for share in SHARES
        }
    return costs


def exposures(found: NewCourses) -> dict[str, float]:
    """How those new courses fared whose time for the guarantee was over by the end of a loop."""
    seen = np.array(found.impressions, dtype=np.int64)
    seen = seen[np.array(found.age_hours) >= found.within_hours]
    said: dict[str, float] = {
        "until": found.until,
        "within_hours": found.within_hours,
        "slates": found.slates,
        "courses": len(seen),
    }
    if not len(seen):
        return said
    return said | {
        "least": int(seen.min()),
        "median": float(np.median(seen)),
        "most": int(seen.max()),
        "share_guaranteed": round(float((seen >= found.until).mean()), 4),
        "slot_slates": sum(found.placed),
    }


def show(console: Console, worlds: Sequence[WorldResult]) -> dict[str, Any]:
    """Prints all tables; returns the figures for the line of JSON."""
    plain = [world for world in worlds if not world.biased]
    biased = [world for world in worlds if world.biased]
    figures: dict[str, Any] = {"worlds": len(plain), "slates": sum(len(w.person) for w in plain)}
    if plain:
        rows = arm_rows(plain)
        _show_arms(console, rows, "value of a slate, by the truth")
        figures["arms"] = {row.arm: _of_arm(row) for row in rows}
        costs = exploration_costs(plain)
        _show_exploration(console, costs)
        figures["exploration"] = {
            arm: {f"{share:g}": _bounds(cost) for share, cost in of.items()}
            for arm, of in costs.items()
        }
        figures["new_courses"] = [
            {"seed": world.seed, **exposures(found)}
            for world in plain
            for found in world.new_courses
        ]
        _show_new_courses(console, figures["new_courses"])
    if biased:
        rows = arm_rows(biased)
        _show_arms(console, rows, "strong position bias: value of a slate, by the truth")
        figures["biased_arms"] = {row.arm: _of_arm(row) for row in rows}
        figures["position"] = _show_position(console, biased)
    return figures


def _is_of(form: str, arm: str) -> bool:
    return re.fullmatch(re.escape(form).replace(r"\{:g\}", r"[\d.]+"), arm) is not None


def _show_arms(console: Console, rows: Sequence[ArmRow], title: str) -> None:
    table = Table(title=title, caption="two-sided 95 % intervals over worlds and visitors")
    table.add_column("arm", overflow="fold")
    for name in ("purchases", "less shipped", "%", "opened", "revenue", "of oracle"):
        table.add_column(name, justify="right")
    table.add_column("without it")
    base = next(row for row in rows if row.arm == SHOWN).purchases.mean
    for row in rows:
        gap = row.less_shipped
        table.add_row(
            row.arm,
            f"{row.purchases.mean:.4f}",
            f"{gap.mean:+.4f} ({gap.low:+.4f}, {gap.high:+.4f})",
            f"{gap.mean / base:+.1%}",
            f"{row.opens:.3f}",
            f"{row.revenue_minor / 100:,.2f}",
            f"{row.share_of_oracle:.1%}",
            "" if row.arm.startswith("diversity") else row.verdict,
        )
    console.print(table)


def _show_exploration(console: Console, costs: dict[str, dict[float, Interval]]) -> None:
    table = Table(title="cost of exploration, in % of a slate's value without it")
    table.add_column("slates")
    for share in SHARES:
        table.add_column(f"on {share:.0%}", justify="right")
    for arm, of in costs.items():
        cells = [f"{c.mean:.2%} ({c.low:.2%}, {c.high:.2%})" for c in of.values()]
        table.add_row(arm, *cells)
    console.print(table)


def _show_new_courses(console: Console, found: Sequence[dict[str, float]]) -> None:
    table = Table(title="impressions of new courses in the time of the guarantee")
    names = ["seed", "slates", "until", "within_hours", "courses", "least", "median", "most"]
    names.append("share_guaranteed")
    for name in names:
        table.add_column(name, justify="right")
    for row in found:
        table.add_row(*(f"{row.get(name, '')}" for name in names))
    console.print(table)


def _show_position(console: Console, worlds: Sequence[WorldResult]) -> dict[str, Any]:
    judged = [world.orders for world in worlds if world.orders is not None]
    own = {
        way: [np.array(found.correlations[way]) for found in judged]
        for way in (SHIPPED, UNPOSITIONED)
    }
    gap = clustered_interval([a - b for a, b in zip(own[SHIPPED], own[UNPOSITIONED], strict=True)])
    shipped, without = (clustered_interval(own[way]) for way in (SHIPPED, UNPOSITIONED))
    learned = np.mean([found.learned for found in judged], axis=0)
    true = np.mean([found.true for found in judged], axis=0)
    console.print(
        "rank correlation of a click's predicted chance with the truth: "
        f"{shipped.mean:.4f} as shipped, {without.mean:.4f} trained without positions; "
        f"difference {gap.mean:+.4f} ({gap.low:+.4f}, {gap.high:+.4f})"
    )
    table = Table(title="chance of a click at a position, as a share of that at the first")
    table.add_column("position")
    for place in range(len(true)):
        table.add_column(str(place), justify="right")
    table.add_row("true", *(f"{share:.2f}" for share in true))
    table.add_row("learned", *(f"{share:.2f}" for share in learned))
    console.print(table)
    return {
        "correlation": _bounds(shipped),
        "correlation_without_positions": _bounds(without),
        "difference": _bounds(gap),
        "true": np.round(true, 4).tolist(),
        "learned": np.round(learned, 4).tolist(),
    }


def _of_arm(row: ArmRow) -> dict[str, Any]:
    return {
        "purchases": _bounds(row.purchases),
        "less_shipped": _bounds(row.less_shipped),
        "opens": round(row.opens, 4),
        "revenue_minor": round(row.revenue_minor, 1),
        "share_of_oracle": round(row.share_of_oracle, 4),
    }


def _bounds(value: Interval) -> list[float]:
    return [round(number, 5) for number in (value.mean, value.low, value.high)]
