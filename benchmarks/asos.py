"""How many of 78 real experiments would have stopped early, and were they right?

    python -m benchmarks.asos PATH_TO/asos_digital_experiments_dataset.parquet [--alpha A]

The ASOS Digital Experiments Dataset (Liu, Cardoso, Couturier & McCoy 2021, CC BY 4.0): 78 online
controlled experiments, four metrics, running counts, means and variances of each arm over time. An
experiment of several treatments stops when one of them does, each at alpha / treatments. Sequences
are tuned for the experiment's last count, as for a planned end. Stopping counts as early before the
last look; right means that the fixed-horizon test (Welch) at the last look found that treatment's
effect with the same sign, unconfirmed that it found none, wrong that it found the other sign.
Peeking is the same with Welch's test at each look.

The dataset's values of a unit grow over its time in the experiment; sequences are made for units
that arrive with values that stay: what they promise is not promised here. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table

from offline.analysis.statistics.comparison import (
    Arm,
    Comparison,
    compared,
    welch_degrees_of_freedom,
)
from offline.analysis.statistics.over_time import ArmOverTime
from offline.analysis.statistics.sequences import confidence_sequence

METRICS = (1, 2, 3, 4)
COLUMNS = ("time_since_start", "count", "mean", "variance")

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Course:
    """A treatment against its control by one metric, look by look."""

    control: ArmOverTime
    treatment: ArmOverTime


def courses(path: Path, metric: int) -> dict[str, list[Course]]:
    """Treatments of every experiment; looks in order of time."""
    table = pq.read_table(path, filters=[("metric_id", "=", metric)]).to_pydict()
    rows: dict[tuple[str, int], list[tuple[float, ...]]] = defaultdict(list)
    for place, key in enumerate(zip(table["experiment_id"], table["variant_id"], strict=True)):
        rows[key].append(
            tuple(
                np.nan if table[name][place] is None else float(table[name][place])
                for name in (
                    "time_since_start",
                    *(f"{column}_{arm}" for arm in "ct" for column in COLUMNS[1:]),
                )
            )
        )
    found: dict[str, list[Course]] = defaultdict(list)
    for (experiment, _), looks in sorted(rows.items()):
        columns = np.array(sorted(looks)).T
        found[experiment].append(Course(_arm(*columns[1:4]), _arm(*columns[4:7])))
    return dict(found)


def _arm(count: Values, mean: Values, variance: Values) -> ArmOverTime:
    units = np.nan_to_num(count).astype(np.int64)
    known = np.isfinite(variance) & np.isfinite(mean) & (units > 1)
    return ArmOverTime(
        np.where(known, mean, 0.0),
        np.where(known, variance, 0.0) / np.maximum(units, 1),
        units,
        np.maximum(units - 1.0, 1.0),
    )


def fixed(course: Course, look: int, alpha: float) -> Comparison:
    """Welch's test at one look."""
    arms = [
        Arm(float(arm.mean[look]), float(arm.variance[look]), int(arm.units[look]))
        for arm in (course.control, course.treatment)
    ]
    freedom = welch_degrees_of_freedom(arms[0], arms[1])
    return compared("welch", arms[0], arms[1], alpha=alpha, degrees_of_freedom=freedom)


@dataclass(frozen=True)
class Stop:
    """How one experiment went: ``verdict`` is "right", "wrong", "unconfirmed", or "not early";
    ``share`` of the units of the last look that it had by then."""

    verdict: str
    share: float


def stop(treatments: Sequence[Course], *, alpha: float, peeking: bool) -> Stop:
    """When the first of ``treatments`` stops, and what its last look says."""
    each = alpha / len(treatments)
    first: tuple[float, int, Course] | None = None
    for course in treatments:
        looks = len(course.control.mean)
        if peeking:
            known = (course.control.variance > 0.0) & (course.treatment.variance > 0.0)
            told = [
                bool(known[look]) and fixed(course, look, each).p_value <= each
                for look in range(looks)
            ]
            at = told.index(True) if any(told) else -1
        else:
            units = float(course.control.units[-1] + course.treatment.units[-1])
            at = int(
                confidence_sequence(
                    course.control, course.treatment, horizon_units=units, alpha=each
                ).stopped()
            )
        if 0 <= at < looks - 1:
            counts = course.control.units + course.treatment.units
            share = float(counts[at] / counts[-1])
            if first is None or share < first[0]:
                first = share, at, course
    if first is None:
        return Stop("not early", 1.0)
    share, at, course = first
    last = fixed(course, -1, each)
    sign = np.sign(course.treatment.mean[at] - course.control.mean[at])
    if last.p_value > each:
        return Stop("unconfirmed", share)
    return Stop("right" if np.sign(last.estimate) == sign else "wrong", share)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("path", type=Path)
    parser.add_argument("--alpha", type=float, default=0.05)
    options = parser.parse_args(arguments)
    table = Table(title="Experiments that would have stopped early")
    table.add_column("method")
    for name in ("metric", "early", "right", "wrong", "unconfirmed", "units", "at the end"):
        table.add_column(name, justify="right")
    results = []
    for metric in METRICS:
        experiments = courses(options.path, metric)
        ends = sum(
            any(
                fixed(course, -1, options.alpha / len(treatments)).p_value
                <= options.alpha / len(treatments)
                for course in treatments
            )
            for treatments in experiments.values()
        )
        for method in ("asymptotic_sequence", "peeking"):
            stops = [
                stop(treatments, alpha=options.alpha, peeking=method == "peeking")
                for treatments in experiments.values()
            ]
            counts = Counter(each.verdict for each in stops)
            early = [each.share for each in stops if each.verdict != "not early"]
            middle = round(float(np.median(early)), 3) if early else None
            result = {
                "method": method,
                "metric": metric,
                "early": len(early),
                **{verdict: counts[verdict] for verdict in ("right", "wrong", "unconfirmed")},
                "share_of_units": middle,
                "found_at_the_end": ends,
            }
            results.append(result)
            table.add_row(*("" if value is None else str(value) for value in result.values()))
    console = Console()
    console.print(table)
    console.print(
        "units: median share of the last look's by then; at the end: experiments in which the last "
        "look finds something"
    )
    print(json.dumps(results))


if __name__ == "__main__":
    main()
