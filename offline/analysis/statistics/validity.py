"""How far methods keep what they promise, as measured: the table beside this module.

``python -m benchmarks.validity --write`` measures it. Worlds are those of
``benchmarks.validity_worlds``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib.resources import files
from typing import Literal

TABLE = "validity.json"
ALPHA = 0.05
# Of a true 5 %, a run of 2,000 shows more than 6.3 % once in 200 times.
MOST_FALSE, LEAST_FALSE = 0.063, 0.038
# Two standard errors of 2,000 runs of a true 5 %.
MOST_FALSE_SEQUENTIAL = 0.06
# Data are like a world of single units that is at most so much more skewed.
SKEWNESS_FACTOR, SKEWNESS_MARGIN = 1.25, 0.5
WIDEST_SEQUENTIAL = 2.0

Kind = Literal["fixed", "sequential"]


@dataclass(frozen=True)
class Measured:
    """A method in a world: ``runs`` without an effect and as many with one.

    ``type_one``: share of runs without an effect that found one at 5 %; a sequential method looks
    every day and counts if it ever does. ``coverage``: share of runs with an effect whose interval
    at 95 % held it, of a sequential method on every day; None where the truth isn't known, or
    intervals promise no such thing. ``power``: share of runs with an effect that found it.
    ``width``: of a sequential interval at the horizon over that of the fixed-horizon method,
    median; None of others. Of the world: ``clusters_an_arm``, None where units are drawn one by
    one, and the typical sample ``skewness`` of unit values, 0 where there are clusters.
    """

    world: str
    method: str
    kind: Kind
    runs: int
    type_one: float
    coverage: float | None
    power: float
    width: float | None
    clusters_an_arm: int | None
    skewness: float
    description: str

    @property
    def fault(self) -> str | None:
        """What it does not keep, in words; None where all is kept.

        Too few false findings are a fault in the normal world and with thirty clusters alone: where
        a few large values decide, every honest method is careful.
        """
        careful = self.world in ("normal", "clusters_30")
        sequential = self.kind == "sequential"
        most = MOST_FALSE_SEQUENTIAL if sequential else MOST_FALSE
        if self.type_one > most:
            return "finds too much"
        if self.coverage is not None and self.coverage < 1.0 - most:
            return "holds too little"
        if sequential:
            too_wide = self.width is not None and self.width > WIDEST_SEQUENTIAL
            return "too wide" if too_wide else None
        if careful and self.type_one < LEAST_FALSE:
            return "finds too little"
        return None

    @property
    def warning(self) -> str | None:
        """A sentence for whoever reads a result of the method in such a world; None without a
        fault."""
        if self.fault is None:
            return None
        if self.fault == "too wide":
            return (
                f"{self.method}: its intervals are {self.width:.1f} times as wide as those of a "
                f"fixed horizon ({self.description})"
            )
        if self.fault == "holds too little" and self.coverage is not None:
            return (
                f"{self.method}: its intervals held the true effect in {100 * self.coverage:.1f} % "
                f"of {self.runs:,} runs instead of {100 * (1.0 - ALPHA):g} % ({self.description})"
            )
        return (
            f"{self.method} {self.fault}: without any effect it found one in "
            f"{100 * self.type_one:.1f} % of {self.runs:,} runs instead of {100 * ALPHA:g} % "
            f"({self.description})"
        )


def measured() -> tuple[Measured, ...]:
    """The table, read anew at each call."""
    rows = json.loads(files(__package__ or "").joinpath(TABLE).read_text(encoding="utf-8"))
    return tuple(Measured(**row) for row in rows)


def as_json(rows: Sequence[Measured]) -> str:
    """The table's text."""
    return json.dumps([asdict(row) for row in rows], indent=1) + "\n"


def warnings_of(
    method: str,
    *,
    clusters_an_arm: int | None,
    skewness: float = 0.0,
    table: Sequence[Measured] | None = None,
) -> tuple[str, ...]:
    """Sentences about ``method`` where it was off in worlds like the data's.

    ``clusters_an_arm``: of the arm with fewest, None where units were drawn one by one. Data in
    clusters resemble the world with as many or, between two, the one with fewer. Those of single
    units, whose values have that sample ``skewness``, resemble worlds that are no more skewed, or
    little more. A method that was not measured in such a world gives no sentence.
    """
    rows = [row for row in (measured() if table is None else table) if row.method == method]
    if clusters_an_arm is None:
        most = SKEWNESS_FACTOR * abs(skewness) + SKEWNESS_MARGIN
        alike = [row for row in rows if row.clusters_an_arm is None and row.skewness <= most]
    else:
        sizes = {row.clusters_an_arm for row in rows if row.clusters_an_arm is not None}
        fewer = [size for size in sizes if size <= clusters_an_arm]
        nearest = max(fewer, default=min(sizes, default=None))
        alike = [row for row in rows if nearest is not None and row.clusters_an_arm == nearest]
    return tuple(row.warning for row in alike if row.warning is not None)


def markdown(rows: Sequence[Measured]) -> str:
    """The table as it stands in docs/experiments.md."""
    lines = [
        "| world | method | type I, % | coverage, % | power, % | width | |",
        "|---|---|--:|--:|--:|--:|---|",
    ]
    for row in rows:
        coverage = "" if row.coverage is None else f"{100 * row.coverage:.1f}"
        width = "" if row.width is None else f"{row.width:.2f}"
        lines.append(
            f"| {row.world} | {row.method} | {100 * row.type_one:.1f} | {coverage} "
            f"| {100 * row.power:.1f} | {width} | {row.fault or ''} |"
        )
    return "\n".join(lines) + "\n"
