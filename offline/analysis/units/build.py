"""The table of an experiment's units, from the compacted log."""

from __future__ import annotations

import numpy as np
import pyarrow as pa

from offline.analysis.plan import AnalysisPlan, PlannedMetric
from offline.analysis.units.credited import credits_of
from offline.analysis.units.daily import daily_sums
from offline.analysis.units.exposed import Rows, exposed, numbers
from offline.analysis.units.log import KnownLog, open_known
from offline.analysis.units.outcomes import before, outcomes, slopes
from offline.analysis.units.table import Floats, Ints, MetricColumns, Texts, UnitTable
from offline.analysis.units.told import overlaps, segment_values
from offline.dataset.columns import Columns
from offline.dataset.log_tables import MEMORY_LIMIT
from offline.progress import Progress, no_progress

_STAGE = "measure"


def unit_table(
    columns: Columns,
    plan: AnalysisPlan,
    *,
    as_of_ms: int | None = None,
    memory_limit: str = MEMORY_LIMIT,
    progress: Progress = no_progress,
) -> UnitTable:
    """Units of the plan's experiment with their outcomes, as known at ``as_of_ms`` (epoch; None:
    when the log ends).

    What grows with the log stays in the query engine, within ``memory_limit``; here are arrays of
    numbers alone. Raises ``FailedPrecondition`` (EMPTY_LOG) where nothing had happened.
    """
    steps = 4 + len(plan.metrics) + len(plan.covariates) + len(plan.segments)
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(_STAGE, done, steps)

    with open_known(columns, plan, as_of_ms, memory_limit=memory_limit) as log:
        rows = exposed(log, plan)
        step()
        base = _base(log, plan, rows)
        number = len(base["exposed_ms"])
        metrics = {}
        for name, metric in plan.metrics.items():
            metrics[name] = _metric(log, plan, rows, metric, base)
            step()
        covariates: dict[str, Floats] = {}
        for covariate in plan.covariates:
            if covariate.metric.denominator is None:
                found = before(log, plan, rows, covariate, "numerator")
                covariates[covariate.name] = _filled(log.read(found), number)
            else:
                for part in ("numerator", "denominator"):
                    found = before(log, plan, rows, covariate, part)
                    covariates[f"{covariate.name}.{part}"] = _filled(log.read(found), number)
            step()
        segments = {}
        for name, segment in plan.segments.items():
            segments[name] = _texts(log.read(segment_values(log, rows, segment)), number)
            step()
        others, other_variants = _overlaps(log.read(overlaps(log, plan, rows)), number)
        step()
        earned = credits_of(
            log, plan, rows, base["variant"], {n: m.mature for n, m in metrics.items()}
        )
        step()
        primary = plan.metrics[plan.primary]
        course = _filled(log.read(slopes(log, plan, rows, primary)), number)
        course[~metrics[plan.primary].mature] = 0
        step()
        position, moment_ms, lost = log.position, log.as_of_ms, log.lost_records
    daily = {
        name: daily_sums(metric, base["variant"], plan.variants, plan.report_time_zone)
        for name, metric in metrics.items()
    }
    return UnitTable(
        variants=plan.variants,
        unit=base.get("unit", np.arange(number)),
        variant=base["variant"],
        exposed_ms=base["exposed_ms"],
        cluster=base.get("cluster"),
        other_variant=base.get("other_variant"),
        metrics=metrics,
        covariates=covariates,
        segments=segments,
        daily=daily,
        overlaps=others,
        overlap_variants=other_variants,
        credits=earned,
        excluded=rows.excluded,
        exposures=rows.exposures,
        revisions=rows.revisions,
        position=position,
        as_of_ms=moment_ms,
        slopes=course,
        lost_records=lost,
    )


def _base(log: KnownLog, plan: AnalysisPlan, rows: Rows) -> dict[str, Ints]:
    """Columns of ``exposed.numbers``, int64 by row."""
    found = log.read(numbers(rows, plan))
    return {
        name: found[name].to_numpy().astype(np.int64, copy=False) for name in found.column_names
    }


def _metric(
    log: KnownLog, plan: AnalysisPlan, rows: Rows, metric: PlannedMetric, base: dict[str, Ints]
) -> MetricColumns:
    matured_ms = base["exposed_ms"] + metric.maturity_ms
    mature = matured_ms <= log.as_of_ms
    number = len(mature)
    numerator = _filled(log.read(outcomes(log, plan, rows, metric, "numerator")), number)
    numerator[~mature] = 0
    denominator = None
    if metric.denominator is not None:
        denominator = _filled(log.read(outcomes(log, plan, rows, metric, "denominator")), number)
        denominator[~mature] = 0
    elif plan.timed:
        whole_ms = min(metric.window_ms, plan.slice_ms)
        there_ms = np.minimum(whole_ms, plan.slice_ms - base["lost_ms"])
        denominator = np.where(mature, there_ms / whole_ms, 0.0)
    return MetricColumns(numerator, denominator, mature, matured_ms)


def _filled(found: pa.Table, number: int) -> Floats:
    """Values by row, 0 where a row has none."""
    values = np.zeros(number)
    values[found["row"].to_numpy()] = found["value"].to_numpy()
    return values


def _texts(found: pa.Table, number: int) -> Texts:
    """Texts by row, "" where a row has none; equal ones are one object."""
    values = np.full(number, "", dtype=object)
    codes = found["value"].combine_chunks().dictionary_encode()
    known = np.array(codes.dictionary.to_pylist(), dtype=object)
    if len(known):
        values[found["row"].to_numpy()] = known[codes.indices.to_numpy(zero_copy_only=False)]
    return values


def _overlaps(found: pa.Table, number: int) -> tuple[dict[str, Ints], dict[str, tuple[str, ...]]]:
    by_experiment: dict[str, Ints] = {}
    variants: dict[str, tuple[str, ...]] = {}
    experiment = _coded(found["experiment"])
    variant = _coded(found["variant"])
    row = found["row"].to_numpy()
    for index, key in enumerate(experiment[0]):
        here = experiment[1] == index
        present = np.unique(variant[1][here])
        names = sorted(variant[0][code] for code in present)
        place = np.array([names.index(v) if v in names else -1 for v in variant[0]], dtype=np.int64)
        arms = np.full(number, -1, dtype=np.int64)
        arms[row[here]] = place[variant[1][here]]
        by_experiment[key], variants[key] = arms, tuple(names)
    return dict(sorted(by_experiment.items())), dict(sorted(variants.items()))


def _coded(column: pa.ChunkedArray) -> tuple[list[str], Ints]:
    """Distinct texts of a column, and which of them each row has."""
    codes = column.combine_chunks().dictionary_encode()
    return codes.dictionary.to_pylist(), codes.indices.to_numpy(zero_copy_only=False).astype(
        np.int64
    )
