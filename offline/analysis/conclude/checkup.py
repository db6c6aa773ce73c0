"""All checks of health that a table of units allows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from offline.analysis.conclude.estimates import compare
from offline.analysis.conclude.sample import (
    CONTROL,
    Flags,
    Sample,
    covariate_sample,
    plain_sample,
    rows_of,
)
from offline.analysis.health.exposures import (
    check_crossover,
    check_days,
    check_lost,
    days_of_exposures,
)
from offline.analysis.health.interaction import Overlap, check_interactions
from offline.analysis.health.novelty import check_by_age, check_by_day, effects_by_day
from offline.analysis.health.randomisation import check_randomisation
from offline.analysis.health.sample_ratio import check_over_time, check_sample_ratio
from offline.analysis.health.self_check import (
    check_before_exposure,
    check_control,
    check_control_clusters,
)
from offline.analysis.model import DayOfExposures, Finding
from offline.analysis.plan import AnalysisPlan
from offline.analysis.statistics.comparison import Comparison
from offline.analysis.statistics.means import linearised
from offline.analysis.statistics.switchback import randomisation_p
from offline.analysis.units.daily import day_starts_ms
from offline.analysis.units.table import PARTS_OF_WINDOW, UnitTable
from services.common.assign.model import TIME_SLICE
from services.common.errors import InvalidArgument

Indices = NDArray[np.int64]
# Comparisons by clusters cost time by rows: so many rows are compared in all.
_CLUSTER_ROWS = 4_000_000
_LEAST_DRAWS, _MOST_DRAWS = 100, 200
_ROUNDING = 1e-9


def sizes_of_arms(plan: AnalysisPlan, table: UnitTable) -> tuple[Finding, ...]:
    """The sample ratio of what was drawn: of a two-sided experiment both sides, each by itself."""
    if not table.rows:
        return ()
    findings: list[Finding] = []
    for of, unit, variant in drawn_units(plan, table):
        first = first_rows(unit, table.exposed_ms)
        counts = np.bincount(variant[first], minlength=len(plan.variants))
        findings.append(check_sample_ratio(counts.tolist(), plan.shares, plan.variants, of))
        days = by_day(plan, table.exposed_ms[first], variant[first])
        by_arm = np.array([d.units for d in days], np.int64)
        findings.append(check_over_time(by_arm, plan.shares, of))
    return tuple(findings)


def drawn_units(plan: AnalysisPlan, table: UnitTable) -> list[tuple[str, Indices, Indices]]:
    """What was drawn, by name: who each row belongs to and the arm of that, [rows] each."""
    of = named(plan.unit)
    if table.cluster is None:
        return [(of, table.unit, table.variant)]
    if table.other_variant is not None:
        other = named(plan.other_unit)
        return [(of, table.unit, table.variant), (other, table.cluster, table.other_variant)]
    return [(of, table.cluster, table.variant)]


def named(unit: str) -> str:
    """The units of a type in words."""
    return "slices" if unit == TIME_SLICE else f"{unit}s"


def first_rows(unit: Indices, exposed_ms: Indices) -> Indices:
    """The row of each unit's first exposure."""
    order = np.lexsort((exposed_ms, unit))
    _, first = np.unique(unit[order], return_index=True)
    return np.asarray(order[first])


def days_of(plan: AnalysisPlan, table: UnitTable) -> tuple[DayOfExposures, ...]:
    """Rows by the day of their first exposure and arm."""
    return by_day(plan, table.exposed_ms, table.variant)


def by_day(plan: AnalysisPlan, exposed_ms: Indices, variant: Indices) -> tuple[DayOfExposures, ...]:
    """First exposures by day of the report's time zone and arm."""
    if not len(exposed_ms):
        return ()
    starts = day_starts_ms(int(exposed_ms.min()), int(exposed_ms.max()), plan.report_time_zone)
    return days_of_exposures(exposed_ms, variant, len(plan.variants), starts)


def whole_exposures(
    plan: AnalysisPlan,
    table: UnitTable,
    days: tuple[DayOfExposures, ...],
    lost_exposures: int | None,
) -> tuple[Finding, ...]:
    """Days without exposures, units in two arms, and what was lost where that is known."""
    findings = [check_days(days, plan.report_time_zone)]
    findings.append(check_crossover(table.excluded.get("crossover", 0), table.rows))
    if lost_exposures is not None:
        findings.append(check_lost(lost_exposures, table.exposures))
    return tuple(findings)


def before_exposure(
    plan: AnalysisPlan, table: UnitTable, treatments: Sequence[int]
) -> tuple[Finding, ...]:
    """Each covariate compared between the control and each treatment, by the metrics' method."""
    findings = []
    for treatment in treatments:
        for name in table.covariates:
            found = compare(covariate_sample(plan, table, name, treatment), plan.alpha)
            p_value = None if found.comparison is None else found.comparison.p_value
            findings.append(check_before_exposure(name, plan.variants[treatment], p_value))
    return tuple(findings)


def placebo(
    plan: AnalysisPlan, sample: Sample, treatment: int, *, seed: int
) -> tuple[Finding, ...]:
    """The control drawn apart at random, by the method that the primary metric is compared by."""
    if sample.other_treated is not None or sample.statistic == "quantile":
        return ()
    whole_share = plan.shares[CONTROL] + plan.shares[treatment]
    share = plan.shares[treatment] / whole_share if whole_share else 0.5
    control = sample.only(~sample.treated)
    if not len(control.numerator):
        return ()
    try:
        values = control.values()
    except InvalidArgument:
        # A ratio of one unit, or over nothing, is none yet.
        return ()
    clusters = control.slices if control.slices is not None else control.cluster
    if clusters is None:
        return (check_control(plan.primary, values, plan.alpha, share=share, seed=seed),)

    def test_of(treated: Flags) -> float:
        found = compare(replace(control, treated=treated), plan.alpha).comparison
        return 1.0 if found is None else found.p_value

    draws = min(_MOST_DRAWS, max(_LEAST_DRAWS, _CLUSTER_ROWS // len(clusters)))
    return (
        check_control_clusters(
            plan.primary, clusters, test_of, plan.alpha, share=share, seed=seed, draws=draws
        ),
    )


def drawn_anew(
    plan: AnalysisPlan, sample: Sample, comparison: Comparison | None, treatment: int, *, seed: int
) -> tuple[Finding, ...]:
    """Of slices of time: the primary metric's p-value by arms drawn anew; of fixed plans, and not
    of quantiles. A p-value of one look is none of a plan that looks at any time."""
    if sample.slices is None or sample.statistic == "quantile" or plan.method == "always_valid":
        return ()
    drawn_p = None
    if comparison is not None:
        drawn_p = randomisation_p(
            sample.numerator,
            sample.treated,
            sample.slices,
            denominators=sample.denominator,
            seed=seed,
        )
    p_value = None if comparison is None else comparison.p_value
    variant = plan.variants[treatment]
    return (check_randomisation(plan.primary, variant, drawn_p, p_value, plan.alpha),)


def trends(plan: AnalysisPlan, table: UnitTable, treatments: Sequence[int]) -> tuple[Finding, ...]:
    """The trend of the primary metric's effect over the days on which windows ended; of units that
    were drawn one by one, and means or ratios."""
    metric = plan.metrics[plan.primary]
    if table.cluster is not None or metric.statistic in {"quantile", "winsorised_mean"}:
        return ()
    daily = table.daily[plan.primary]
    return tuple(
        check_by_day(
            plan.primary,
            effects_by_day(
                daily.units,
                daily.sums,
                daily.products,
                CONTROL,
                treatment,
            ),
            plan.variants[treatment],
        )
        for treatment in treatments
    )


def since_exposure(
    plan: AnalysisPlan, table: UnitTable, treatments: Sequence[int]
) -> tuple[Finding, ...]:
    """The trend of the primary metric's effect over a unit's window; of slices of time there is
    none to ask for.

    Slopes are compared as a share of what is counted in all: people do less the longer ago their
    exposure is, and so what an effect adds to it shrinks with it; that is none of the effect's own.
    """
    if plan.design == "switchback":
        return ()
    findings = []
    for treatment in treatments:
        rows = rows_of(table, plan.primary, treatment)
        slopes = plain_sample(plan, table, rows, treatment, table.slopes[rows])
        counted = table.metrics[plan.primary].numerator[rows]
        shares = replace(slopes, denominator=counted)
        means = plain_sample(plan, table, rows, treatment, counted / PARTS_OF_WINDOW)
        slope, mean = (compare(sample, plan.alpha).comparison for sample in (shares, means))
        variant = plan.variants[treatment]
        if slope is None or mean is None:
            findings.append(check_by_age(plan.primary, variant, None, 0.0, 0.0))
            continue
        # Where all is done in one part, shares differ by rounding alone.
        p_value = slope.p_value if abs(slope.estimate) > _ROUNDING else 1.0
        in_all = mean.treatment_mean * PARTS_OF_WINDOW
        reach = slope.estimate * in_all * (PARTS_OF_WINDOW - 1) / 2
        findings.append(
            check_by_age(
                plan.primary,
                variant,
                p_value,
                mean.estimate - reach,
                mean.estimate + reach,
            )
        )
    return tuple(findings)


def interactions(plan: AnalysisPlan, table: UnitTable) -> tuple[Finding, ...]:
    """Whether experiments that share units change the effect on the primary metric."""
    columns, metric = table.metrics[plan.primary], plan.metrics[plan.primary]
    if table.cluster is not None or metric.statistic == "quantile" or not columns.mature.any():
        return ()
    mature = columns.mature
    values = columns.numerator[mature]
    if columns.denominator is not None:
        try:
            values = linearised(values, columns.denominator[mature])
        except InvalidArgument:
            return ()
    overlaps = [
        Overlap(key, table.overlap_variants[key], arm[mature])
        for key, arm in table.overlaps.items()
    ]
    return check_interactions(
        values, table.variant[mature], len(plan.variants), overlaps, plan.primary
    )
