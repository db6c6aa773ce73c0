"""The rows of two arms by one metric, as the statistics take them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from offline.analysis.plan import AnalysisPlan, Design, Statistic
from offline.analysis.statistics.means import linearised, winsor_threshold
from offline.analysis.units.table import UnitTable

Values = NDArray[np.float64]
Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]

CONTROL = 0


@dataclass(frozen=True)
class Sample:
    """Mature rows of the control and of one treatment; arrays are [rows].

    ``cluster`` is None where rows are what was drawn; ``slices``, ``elapsed_ms`` and
    ``block_slices`` count only of slices of time, ``other_treated`` only of two-sided experiments,
    whose rows are pairs of ``unit`` and ``cluster``. ``covariates`` [rows × covariates] have no
    column that others tell.
    ``level`` is that of a quantile; values of a winsorised mean are cut already, and ``uncut`` has
    them as they were; None of others.
    """

    design: Design
    statistic: Statistic
    level: float | None
    numerator: Values
    denominator: Values | None
    treated: Flags
    unit: Indices
    cluster: Indices | None
    other_treated: Flags | None
    slices: Indices | None
    elapsed_ms: Indices | None
    matured_ms: Indices
    covariates: Values
    block_slices: int = 1
    uncut: Values | None = None

    @property
    def groups(self) -> Indices | None:
        """What rows are clustered by: blocks of slices, hosts or rooms; None where by nothing."""
        return self.cluster if self.slices is None else self.slices // self.block_slices

    def only(self, rows: Flags) -> Sample:
        """The part of the sample that ``rows`` [rows] names."""
        parts: dict[str, Any] = {
            name: None if column is None else column[rows]
            for name, column in (
                ("numerator", self.numerator),
                ("denominator", self.denominator),
                ("treated", self.treated),
                ("unit", self.unit),
                ("cluster", self.cluster),
                ("other_treated", self.other_treated),
                ("slices", self.slices),
                ("elapsed_ms", self.elapsed_ms),
                ("matured_ms", self.matured_ms),
                ("covariates", self.covariates),
                ("uncut", self.uncut),
            )
        }
        return replace(self, **parts)

    def apart(self, rows: Flags) -> Sample:
        """As ``only``, without covariates that do not vary there, or that others tell."""
        part = self.only(rows)
        columns = list(part.covariates.T)
        return replace(part, covariates=_independent(columns, len(part.treated)))

    def known_by(self, ends_ms: int) -> Sample:
        """The sample as it was known at ``ends_ms`` (epoch): rows whose window had ended, those of
        a winsorised mean cut where they were cut then."""
        known = self.only(np.asarray(self.matured_ms < ends_ms))
        return known if known.uncut is None else known.cut_at(known.threshold())

    def threshold(self) -> float:
        """Where values of a winsorised mean are cut: at the quantile of all that are here, infinite
        where an arm has none."""
        if self.uncut is None or self.level is None or self.treated.all() or not self.treated.any():
            return np.inf
        return winsor_threshold(
            self.uncut[~self.treated], self.uncut[self.treated], quantile=self.level
        )

    def cut_at(self, threshold: float) -> Sample:
        """With values of a winsorised mean cut there."""
        if self.uncut is None:
            return self
        return replace(self, numerator=np.minimum(self.uncut, threshold))

    def values(self) -> Values:
        """Values of which an arm's mean is what arms are compared by: of ratios linearised in each
        arm.

        Raises:
            InvalidArgument: a ratio's denominator sums to zero in an arm.
        """
        if self.denominator is None:
            return self.numerator
        found = np.empty_like(self.numerator)
        for arm in (self.treated, ~self.treated):
            if arm.any():
                found[arm] = linearised(self.numerator[arm], self.denominator[arm])
        return found

    def arm_value(self, *, treated: bool) -> tuple[float | None, int]:
        """An arm's mean, ratio or quantile as it was measured, and how many rows it is of. Of a
        two-sided experiment: where both sides are of the arm."""
        rows = self.treated == treated
        if self.other_treated is not None:
            rows = rows & (self.other_treated == treated)
        values, units = self.numerator[rows], int(rows.sum())
        if not units:
            return None, 0
        if self.denominator is not None:
            below = float(self.denominator[rows].sum())
            return (float(values.sum()) / below if below else None), units
        if self.statistic == "quantile":
            return float(np.quantile(values, 0.5 if self.level is None else self.level)), units
        return float(values.mean()), units


def sample_of(plan: AnalysisPlan, table: UnitTable, metric: str, treatment: int) -> Sample:
    """The sample of ``metric``, and of ``treatment``, an index into the plan's variants."""
    columns, planned = table.metrics[metric], plan.metrics[metric]
    rows = rows_of(table, metric, treatment)
    covariates = [column[rows] for column in table.covariates.values()]
    sample = replace(
        _bare(plan, table, rows, treatment),
        statistic=planned.statistic,
        level=planned.level,
        numerator=columns.numerator[rows],
        denominator=None if columns.denominator is None else columns.denominator[rows],
        matured_ms=columns.matured_ms[rows],
        covariates=_independent(covariates, int(rows.sum())),
    )
    if planned.statistic == "winsorised_mean":
        sample = replace(sample, uncut=sample.numerator)
        sample = sample.cut_at(sample.threshold())
    return sample


def covariate_sample(
    plan: AnalysisPlan, table: UnitTable, covariate: str, treatment: int
) -> Sample:
    """The means of ``covariate`` of all rows: what was before exposure needs no window."""
    rows = _of_arms(table, treatment)
    return plain_sample(plan, table, rows, treatment, table.covariates[covariate][rows])


def plain_sample(
    plan: AnalysisPlan, table: UnitTable, rows: Flags, treatment: int, values: Values
) -> Sample:
    """The means of ``values``, one for each of ``rows`` [rows of the table] of both arms."""
    return replace(_bare(plan, table, rows, treatment), numerator=values)


def rows_of(table: UnitTable, metric: str, treatment: int) -> Flags:
    """Which rows of the table the sample of ``metric`` has, in their order."""
    return table.metrics[metric].mature & _of_arms(table, treatment)


def _bare(plan: AnalysisPlan, table: UnitTable, rows: Flags, treatment: int) -> Sample:
    """A sample of zeros."""
    exposed_ms = table.exposed_ms[rows]
    switchback = plan.design == "switchback"
    other = table.other_variant
    return Sample(
        design=plan.design,
        statistic="mean",
        level=None,
        numerator=np.zeros(len(exposed_ms)),
        denominator=None,
        treated=table.variant[rows] == treatment,
        unit=table.unit[rows],
        cluster=None if table.cluster is None else table.cluster[rows],
        other_treated=None if other is None else other[rows] == treatment,
        slices=exposed_ms // plan.slice_ms if switchback else None,
        elapsed_ms=exposed_ms % plan.slice_ms if switchback else None,
        matured_ms=exposed_ms,
        covariates=np.zeros((len(exposed_ms), 0)),
        block_slices=plan.block_slices,
    )


def _of_arms(table: UnitTable, treatment: int) -> Flags:
    rows = _of_either(table.variant, treatment)
    if table.other_variant is not None:
        rows = rows & _of_either(table.other_variant, treatment)
    return rows


def _of_either(variant: Indices, treatment: int) -> Flags:
    return np.asarray((variant == CONTROL) | (variant == treatment))


def _independent(columns: list[Values], rows: int) -> Values:
    """Columns that vary and that those before them do not tell, [rows × columns]."""
    kept: list[Values] = []
    basis = np.ones((rows, 1)) / np.sqrt(max(rows, 1))
    for column in columns:
        length = float(np.linalg.norm(column))
        left = column - basis @ (basis.T @ column)
        if length == 0 or np.linalg.norm(left) <= 1e-8 * length:
            continue
        kept.append(column)
        basis = np.column_stack([basis, left / np.linalg.norm(left)])
    return np.column_stack(kept) if kept else np.zeros((rows, 0))
