"""Tables of the demo: slates with names and prices, what changed, variants, timings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from rich.console import Console
from rich.table import Table

from podium.ranker.v1 import ranker_pb2

Rows = Mapping[str, Mapping[str, Any]]
MICROSECONDS_PER_MS = 1_000
SLATE_WIDTH = 132
SHOWN_OBJECTIVES = ("click", "purchase")


@dataclass(frozen=True)
class Catalogue:
    """Feature rows of what was shown, by entity type and id; enough to name and price it."""

    rows: Mapping[str, Rows]

    def name(self, entity: str, item: str) -> str:
        """Title, or the id where there is none."""
        return str(self.rows.get(entity, {}).get(item, {}).get("title") or item)

    def price(self, course: str) -> str:
        """Price of a course in dollars, or nothing."""
        minor = self.rows.get("course", {}).get(course, {}).get("price_minor")
        return f"${minor / 100:,.2f}" if minor else ""

    def host(self, entity: str, item: str) -> str:
        """Name of the host behind an item."""
        host = self.rows.get(entity, {}).get(item, {}).get("host_id")
        return self.name("host", str(host)) if host else ""

    def viewers(self, entity: str, item: str) -> int | None:
        """How many watch a room on air; None for anything else."""
        row = self.rows.get(entity, {}).get(item, {})
        return int(row.get("viewers", 0)) if row.get("live") else None


def print_slate(
    console: Console,
    title: str,
    response: ranker_pb2.RankResponse,
    catalogue: Catalogue,
    weights: Mapping[str, float],
    before: Sequence[str] | None = None,
) -> None:
    """One slate; with ``before``, the ids of an earlier one, also how each item moved."""
    slate = response.slate
    table = Table(title=title, title_justify="left", title_style="bold", width=SLATE_WIDTH)
    table.add_column("#", justify="right", min_width=2)
    if before is not None:
        table.add_column("was", justify="right", min_width=3)
    table.add_column("item", no_wrap=True, ratio=3)
    table.add_column("host", no_wrap=True, ratio=2)
    table.add_column("sells", no_wrap=True, ratio=3)
    table.add_column("price", justify="right", min_width=7)
    for name in SHOWN_OBJECTIVES:
        if name in slate.objectives:
            table.add_column(f"P({name})", justify="right", min_width=len(name) + 3)
    table.add_column("value", justify="right", min_width=6)
    table.add_column("why", no_wrap=True, min_width=22)
    predictions = np.array(slate.predictions).reshape(len(slate.ids), len(slate.objectives))
    for index, item in enumerate(slate.ids):
        cells = [str(index + 1)]
        if before is not None:
            cells.append(_moved(item, index, before))
        cells.append(catalogue.name(slate.entity_type, item))
        cells.append(catalogue.host(slate.entity_type, item))
        cells += _sells(slate, index, catalogue)
        cells += [
            f"{predictions[index, list(slate.objectives).index(name)]:.3f}"
            for name in SHOWN_OBJECTIVES
            if name in slate.objectives
        ]
        cells.append(f"{slate.values[index]:.3f}")
        cells.append(_why(slate, index, predictions[index], weights))
        table.add_row(*cells)
    console.print(table)
    if response.degraded:
        console.print("degraded:", [_degradation(part) for part in response.degraded])


def print_variants(console: Console, rows: Sequence[tuple[str, str, str, str, float]]) -> None:
    """Rows: (user, experiment, variant by the ranker, by the experiment service, bucket)."""
    table = Table(title="Variants", title_justify="left", title_style="bold")
    for column in ("user", "experiment", "Rank says", "Assign says", "bucket"):
        table.add_column(column)
    for user, experiment, ranked, assigned, bucket in rows:
        table.add_row(user, experiment, ranked, assigned, f"{bucket:.4f}")
    console.print(table)


def print_timings(console: Console, responses: Sequence[ranker_pb2.RankResponse]) -> None:
    """Median and 99th percentile of each stage over several calls, in milliseconds."""
    stages: dict[str, list[int]] = {}
    for response in responses:
        for timing in response.timings:
            stages.setdefault(timing.stage, []).append(timing.duration_us)
    title = f"Stages of Rank over {len(responses)} calls (ms)"
    table = Table(title=title, title_justify="left", title_style="bold")
    for column in ("stage", "p50", "p99"):
        table.add_column(column, justify="left" if column == "stage" else "right")
    for stage, values in stages.items():
        p50, p99 = np.percentile(values, [50, 99]) / MICROSECONDS_PER_MS
        table.add_row(stage, f"{p50:.2f}", f"{p99:.2f}")
    console.print(table)


def print_parts(console: Console, parts: Mapping[str, float]) -> None:
    """Seconds each part of the demo took."""
    table = Table(title="Time of each part", title_justify="left", title_style="bold")
    table.add_column("part")
    table.add_column("seconds", justify="right")
    for part, seconds in parts.items():
        table.add_row(part, f"{seconds:.1f}")
    table.add_row("total", f"{sum(parts.values()):.1f}", style="bold")
    console.print(table)


def _moved(item: str, index: int, before: Sequence[str]) -> str:
    if item not in before:
        return "new"
    was = list(before).index(item)
    return "" if was == index else str(was + 1)


def _sells(slate: ranker_pb2.Slate, index: int, catalogue: Catalogue) -> tuple[str, str]:
    """What an item sells, and for how much; for a room on air also how many watch."""
    course = slate.selling_course_ids[index] if slate.selling_course_ids else ""
    if not course:
        return "", ""
    name = "itself" if slate.entity_type == "course" else catalogue.name("course", course)
    viewers = catalogue.viewers(slate.entity_type, slate.ids[index])
    return (f"{viewers} watch: {name}" if viewers is not None else name), catalogue.price(course)


def _why(
    slate: ranker_pb2.Slate, index: int, predictions: np.ndarray, weights: Mapping[str, float]
) -> str:
    """Source, what is live, and the objective that adds most to the value."""
    shares = np.array([weights.get(name, 0.0) for name in slate.objectives]) * predictions
    return f"{slate.sources[index]}, for {slate.objectives[int(np.argmax(shares))]}"


def _degradation(part: ranker_pb2.Degradation) -> str:
    part_name = ranker_pb2.Degradation.Part.Name(part.part).removeprefix("PART_")
    reason = ranker_pb2.Degradation.Reason.Name(part.reason).removeprefix("REASON_")
    return f"{part_name} {part.name}".rstrip().lower() + f": {reason}".lower()
