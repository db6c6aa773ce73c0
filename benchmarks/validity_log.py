"""Do analyses read from an event log what happened?

    python -m benchmarks.validity_log [--runs 20] [--seed N] [--world NAME ...]

Runs of the worlds of ``benchmarks.validity`` as event logs: exposures, what units did before and
after, slates of two rankings; written, compacted and measured as ``podium analyse`` does. Every
array must be the world's own, and every method must come to the same result. The last line is JSON.
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import track
from rich.table import Table

from benchmarks.processes import ROOT
from benchmarks.validity_events import (
    COVARIATES,
    HOLDING,
    SLICE_MS,
    SWITCHBACKS,
    exposed_at_ms,
    from_minor,
    log_of,
    readable,
    settled_part,
)
from benchmarks.validity_methods import methods_for
from benchmarks.validity_worlds import CARRIED_MS, Outcomes, World, every_world
from offline.analysis.plan import AnalysisPlan, plan_of
from offline.analysis.units.build import unit_table
from offline.analysis.units.table import Ints, UnitTable
from offline.dataset.columns import compact
from offline.dataset.schema import ColumnSchema
from services.common.assign.model import Definitions, Experiment, Variant
from services.common.assign.registered import Analysis, Covariate, Inside, Switchback
from services.common.domain import Domain, load_domain
from services.common.domain_metrics import Metric
from services.common.event_log import LogWriter

RUNS, SEED = 20, 20_261_123
KEY = "validity"
METRICS = {
    "outcome": {
        "kind": "ratio",
        "numerator": {"events": ["purchase"], "value": "amount_minor"},
        "denominator": {"events": ["watch"], "value": "duration_ms"},
        "window": "1h",
    },
    "clicks": {"kind": "total", "events": ["click"], "window": "1h"},
    **{
        name: {"kind": "total", "events": [event], "value": "amount_minor", "window": "1h"}
        for name, event in COVARIATES.items()
    },
}


def domain_of_worlds() -> Domain:
    """The shipped domain with metrics of the worlds' outcomes."""
    metrics = TypeAdapter(dict[str, Metric]).validate_python(METRICS)
    domain = load_domain(ROOT / "config" / "live_courses.yaml")
    return domain.model_copy(update={"metrics": metrics})


def plan_for(world: World, domain: Domain) -> AnalysisPlan:
    """How the experiment of a world is analysed."""
    variants: tuple[Variant, ...] = (Variant("control", 0.5), Variant("treatment", 0.5))
    unit, other, inside, covariates = "user", "", None, COVARIATES
    if world.name.startswith("clusters"):
        unit, inside = "host", Inside(("impression",))
    elif world.name in SWITCHBACKS:
        unit, inside, covariates = "time_slice", Inside(("impression",)), {}
    elif world.name == "market":
        other, covariates = "host", {}
    elif world.name == "interleaved":
        two = ("control", "treatment")
        variants = (*(replace(v, weight=0.0) for v in variants), Variant("both", 1.0, {}, two))
        covariates = {}
    primary = "clicks" if world.name == "interleaved" else "outcome"
    experiment = Experiment(
        KEY,
        unit,
        "salt",
        variants,
        slice_ms=SLICE_MS if unit == "time_slice" else 0,
        other_unit=other,
        analysis=Analysis(
            primary,
            covariates={name: Covariate(name, 3_600_000) for name in covariates},
            inside=inside,
            switchback=Switchback(CARRIED_MS if world.name == "carry_over" else 0),
        ),
    )
    return plan_of(Definitions({KEY: experiment}, ""), KEY, domain)


def through_log(world: World, outcomes: Outcomes, directory: Path, domain: Domain) -> Outcomes:
    """Outcomes as they are measured from a log of them, in the world's order of units."""
    plan = plan_for(world, domain)
    with LogWriter(directory / "log") as writer:
        writer.append(log_of(world, outcomes, KEY))
    columns = compact(directory / "log", directory / "columns", ColumnSchema.of(domain))
    return _measured(world, settled_part(outcomes), unit_table(columns, plan))


def _measured(world: World, outcomes: Outcomes, table: UnitTable) -> Outcomes:
    rows = _rows(table, exposed_at_ms(world, outcomes))
    if world.name == "interleaved":
        (credit,) = table.credits
        nothing, none = np.zeros(len(rows)), np.zeros((len(rows), 0))
        return Outcomes(
            nothing,
            nothing > 0,
            outcomes.arrived,
            nothing,
            none,
            credit.unit,
            credits=credit.earned["clicks"][rows],
        )
    metric = table.metrics["outcome"]
    if metric.denominator is None or not metric.mature.all():
        raise ValueError("all windows must have ended, of a ratio")
    clusters = None if outcomes.clusters is None else table.cluster
    if world.name == "market":
        clusters = table.unit
    covariates = [from_minor(table.covariates[name], HOLDING) for name in table.covariates]
    offset = 0.0 if world.name.startswith("buyers") else HOLDING
    return Outcomes(
        from_minor(metric.numerator, offset)[rows],
        table.variant[rows] == 1,
        outcomes.arrived,
        metric.denominator[rows],
        np.column_stack(covariates)[rows] if covariates else np.zeros((len(rows), 0)),
        None if clusters is None else clusters[rows],
        None if outcomes.hosts is None or table.cluster is None else table.cluster[rows],
        None if table.other_variant is None else table.other_variant[rows] == 1,
        elapsed_ms=None if outcomes.elapsed_ms is None else table.exposed_ms[rows] % SLICE_MS,
    )


def _rows(table: UnitTable, exposed_ms: Ints) -> Ints:
    """The row of each unit, told by when it was exposed."""
    place = np.argsort(table.exposed_ms)
    if not np.array_equal(table.exposed_ms[place], np.sort(exposed_ms)):
        raise ValueError("units, or when they were exposed, are not those of the world")
    rows = np.empty_like(place)
    rows[np.argsort(exposed_ms)] = place
    return rows


def differences(world: World, expected: Outcomes, found: Outcomes) -> list[str]:
    """What of a run is not as it was: arrays by name, and results of methods."""
    wrong = []
    for name in ("values", "treated", "denominators", "covariates", "host_treated", "credits"):
        one, other = getattr(expected, name), getattr(found, name)
        if (one is None) != (other is None) or (one is not None and not np.array_equal(one, other)):
            wrong.append(name)
    for name in ("clusters", "hosts"):
        one, other = getattr(expected, name), getattr(found, name)
        if one is not None and (other is None or not _same_groups(one, other)):
            wrong.append(name)
    for method in methods_for(world):
        one, other = (method.judge(outcomes, world, 0.0) for outcomes in (expected, found))
        # Clusters are numbered otherwise, and sums over them are in another order.
        same_width = one.width == other.width or (
            one.width is not None
            and other.width is not None
            and math.isclose(one.width, other.width, rel_tol=1e-9)
        )
        if (one.found, one.covered, same_width) != (other.found, other.covered, True):
            wrong.append(method.name)
    return wrong


def _same_groups(one: Ints, other: Ints) -> bool:
    """Whether two numberings tell the same units apart."""
    pairs = len(np.unique(np.column_stack([one, other]), axis=0))
    return pairs == len(np.unique(one)) == len(np.unique(other))


def run(world: World, number: int, seed: int, domain: Domain) -> list[str]:
    """What differs in one run."""
    expected = readable(world, world.draw(seed, number))
    with tempfile.TemporaryDirectory(prefix="podium-validity-") as directory:
        found = through_log(world, expected, Path(directory), domain)
    return differences(world, settled_part(expected), found)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=RUNS)
    parser.add_argument("--seed", type=int, default=SEED)
    parser.add_argument("--world", action="append", choices=[w.name for w in every_world()])
    options = parser.parse_args(arguments)
    console, domain = Console(), domain_of_worlds()
    shown = Table(title="Worlds through the event log")
    for column in ("world", "runs", "methods", "runs that differ"):
        shown.add_column(column, justify="left" if column == "world" else "right")
    wrong: dict[str, list[str]] = {}
    for world in every_world():
        if options.world and world.name not in options.world:
            continue
        numbers = track(range(options.runs), description=world.name, console=console)
        found = [run(world, number, options.seed, domain) for number in numbers]
        wrong[world.name] = sorted({name for names in found for name in names})
        differ = sum(bool(names) for names in found)
        shown.add_row(world.name, str(options.runs), str(len(methods_for(world))), str(differ))
    console.print(shown)
    print(json.dumps({"runs": options.runs, "seed": options.seed, "differ": wrong}))


if __name__ == "__main__":
    main()
