"""The report of an experiment: health first, then effects, then what may be concluded of them."""

from __future__ import annotations

import numpy as np

from offline.analysis.conclude import checkup
from offline.analysis.conclude.decide import Standing, decide
from offline.analysis.conclude.effects import Found, effects_of, measure
from offline.analysis.conclude.interleaved import preferences_of
from offline.analysis.conclude.warned import warnings_of
from offline.analysis.model import (
    SAMPLE_RATIO,
    Arm,
    ArmMean,
    Effect,
    Experiment,
    Finding,
    Method,
    Metric,
    Period,
    Report,
    Role,
)
from offline.analysis.plan import AnalysisPlan
from offline.analysis.statistics.arrays import require_numbers
from offline.analysis.units.table import Floats, UnitTable

# Of what is drawn at random in checks: the same table gives the same report.
_SEED = 6


def conclude(
    plan: AnalysisPlan,
    table: UnitTable,
    *,
    definitions_hash: str,
    lost_exposures: int | None = None,
) -> Report:
    """What ``table`` says of the experiment that ``plan`` plans.

    Where the sample ratio alarms no effect is computed. A fixed plan that has not ended concludes
    nothing, nor does one that was made up afterwards.

    Args:
        plan: the plan; the table was made by it.
        table: units and their outcomes.
        definitions_hash: of the definitions that the plan is part of.
        lost_exposures: how many are known to be lost on their way to the log; None where nobody
            counted.

    Raises:
        InvalidArgument: the table holds values that are no finite numbers, or beyond 1e60.
    """
    _require_numbers(table)
    period = _period(plan, table)
    treatments = [
        index
        for index, variant in enumerate(plan.variants)
        if index and variant not in plan.interleaved
    ]
    health = list(checkup.sizes_of_arms(plan, table))
    days = checkup.days_of(plan, table)
    health += checkup.whole_exposures(plan, table, days, lost_exposures)
    withheld = any(f.check == SAMPLE_RATIO and f.level == "alarm" for f in health)
    standing = Standing(
        registered=plan.registered,
        looks=plan.method,
        period=period,
        control=plan.control,
        exposed=table.rows,
        excluded=sum(table.excluded.values()),
    )
    measured = table.rows > 0 and not withheld
    found: dict[str, list[Found]] = {name: [] for name in plan.metrics}
    if measured:
        for name in plan.metrics:
            found[name] = [measure(plan, table, name, treatment) for treatment in treatments]
        health += _looked_into(plan, table, treatments, found[plan.primary])
    if plan.method == "always_valid" and not all(f.valid_always for f in found[plan.primary]):
        standing = Standing(**{**vars(standing), "looks": "fixed"})
    metrics = _metrics(plan, table, found, standing)
    preferences = preferences_of(plan, table) if measured else ()
    return Report(
        experiment=Experiment(
            key=plan.experiment,
            description=plan.description,
            revisions=table.revisions,
            definitions_hash=definitions_hash,
            unit=plan.unit,
            cluster=plan.cluster,
            control=plan.control,
        ),
        period=period,
        method=Method(
            design=plan.design,
            estimator=_estimator(found[plan.primary]),
            looks=standing.looks,
            alpha=plan.alpha,
            correction=plan.correction,
            covariates=tuple(covariate.name for covariate in plan.covariates),
        ),
        arms=_arms(plan, table),
        exposures=days,
        health=tuple(health),
        metrics=metrics,
        warnings=warnings_of(plan, table, standing, found) if measured else (),
        decision=decide(standing, health, metrics, preferences),
        preferences=preferences,
    )


def _require_numbers(table: UnitTable) -> None:
    columns: dict[str, Floats | None] = {"slopes": table.slopes}
    for name, metric in table.metrics.items():
        columns[f"metrics.{name}.numerator"] = metric.numerator
        columns[f"metrics.{name}.denominator"] = metric.denominator
    columns |= {f"covariates.{name}": column for name, column in table.covariates.items()}
    for shown in table.credits:
        columns |= {f"credits.{shown.variant}.{n}": each for n, each in shown.earned.items()}
    for name, column in columns.items():
        if column is not None:
            require_numbers(name, column)


def _period(plan: AnalysisPlan, table: UnitTable) -> Period:
    deciding = (plan.primary, *plan.guardrails)
    longest_ms = max(plan.metrics[name].maturity_ms for name in deciding)
    there = table.rows > 0
    return Period(
        first_exposure_ms=int(table.exposed_ms.min()) if there else None,
        last_exposure_ms=int(table.exposed_ms.max()) if there else None,
        position=table.position,
        as_of_ms=table.as_of_ms,
        planned_end_ms=plan.end_ms,
        horizon_ms=None if plan.end_ms is None else plan.end_ms + longest_ms,
        time_zone=plan.report_time_zone,
    )


def _looked_into(
    plan: AnalysisPlan, table: UnitTable, treatments: list[int], primary: list[Found]
) -> list[Finding]:
    """Checks that compare arms."""
    if not treatments:
        return []
    findings = list(checkup.before_exposure(plan, table, treatments))
    findings += checkup.placebo(plan, primary[0].sample, treatments[0], seed=_SEED)
    for found in primary:
        findings += checkup.drawn_anew(
            plan, found.sample, found.comparison, found.treatment, seed=_SEED
        )
    findings += checkup.since_exposure(plan, table, treatments)
    findings += checkup.trends(plan, table, treatments)
    findings += checkup.interactions(plan, table)
    return findings


def _metrics(
    plan: AnalysisPlan, table: UnitTable, found: dict[str, list[Found]], standing: Standing
) -> tuple[Metric, ...]:
    by_metric: dict[str, tuple[Effect, ...]] = {}
    for names in ((plan.primary,), tuple(plan.guardrails), _secondary(plan)):
        by_metric.update(effects_of(plan, {n: found[n] for n in names}, standing))
    return tuple(
        Metric(
            name=name,
            role=_role(plan, name),
            definition=planned.definition,
            unit=planned.unit,
            direction=planned.better,
            margin=plan.guardrails[name].margin if name in plan.guardrails else None,
            immature=table.metrics[name].immature,
            means=_means(plan, found[name]),
            effects=by_metric[name],
        )
        for name, planned in plan.metrics.items()
    )


def _secondary(plan: AnalysisPlan) -> tuple[str, ...]:
    return tuple(n for n in plan.metrics if n != plan.primary and n not in plan.guardrails)


def _role(plan: AnalysisPlan, name: str) -> Role:
    if name == plan.primary:
        return "primary"
    return "guardrail" if name in plan.guardrails else "secondary"


def _means(plan: AnalysisPlan, found: list[Found]) -> tuple[ArmMean, ...]:
    if not found:
        return ()
    control, units = found[0].sample.arm_value(treated=False)
    means = [ArmMean(plan.control, units, control)]
    for one in found:
        value, units = one.sample.arm_value(treated=True)
        means.append(ArmMean(plan.variants[one.treatment], units, value))
    return tuple(means)


def _arms(plan: AnalysisPlan, table: UnitTable) -> tuple[Arm, ...]:
    arms = []
    for index, (variant, share) in enumerate(zip(plan.variants, plan.shares, strict=True)):
        rows = table.variant == index
        clusters = None if table.cluster is None else len(np.unique(table.cluster[rows]))
        arms.append(Arm(variant, int(rows.sum()), clusters, share))
    return tuple(arms)


def _estimator(primary: list[Found]) -> str:
    return primary[0].method if primary else "none"
