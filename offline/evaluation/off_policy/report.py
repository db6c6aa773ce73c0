"""Off-policy estimates as a table to read and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from offline.evaluation.figures import Figure, figure
from offline.evaluation.off_policy.comparison import Comparison
from offline.evaluation.off_policy.estimate import Estimate, Refused, Resampling
from offline.evaluation.off_policy.support import Limits, Support


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SupportReport(_Record):
    """What the result rests on; see ``Support``."""

    slates: int
    effective_sample_size: float
    effective_rewards: float
    mean_weight: float
    mean_weight_error: float
    largest_weight: float
    unsupported_mass: float | None


class EstimateReport(_Record):
    """A value with its interval."""

    kind: Literal["estimate"] = "estimate"
    estimator: str
    reward_model: str
    value: Figure
    standard_error: float
    threshold: float | None
    switched_mass: float | None
    support: SupportReport


class RefusedReport(_Record):
    """No value, and why."""

    kind: Literal["refused"] = "refused"
    estimator: str
    reward_model: str
    reason: str
    details: str
    support: SupportReport


class ComparisonReport(_Record):
    """A new policy's value from another's log; see ``Comparison``."""

    group: str
    logged: str
    new: str
    slates: int
    rewards: float
    logged_value: Figure
    truth: Figure | None
    results: list[EstimateReport | RefusedReport]


class LimitsReport(_Record):
    """What was asked of an estimate; see ``Limits``."""

    unsupported_mass: float
    effective_sample_size: float
    mean_weight_errors: float
    effective_rewards: float
    switched_mass: float


class OffPolicyReport(_Record):
    """What was estimated from what, how, and what was refused. Intervals: percentile bootstrap."""

    log: str
    unit: str
    resamples: int
    confidence: float
    limits: LimitsReport
    comparisons: list[ComparisonReport]

    def write(self, path: Path) -> None:
        """Writes JSON, indented, with a newline at the end. An infinite threshold is null."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")

    def print(self, console: Console) -> None:
        """Prints one table: a block a new policy, a row an estimator."""
        table = Table(
            title=f"Off-policy estimates from {self.log}: {self.unit}",
            caption=f"{self.confidence:.0%} percentile bootstrap intervals; effective: what the log"
            " is worth under the new policy",
        )
        for name in ("of", "logged by", "new policy", "estimator", "reward model"):
            table.add_column(name, overflow="fold")
        for name in ("estimate", "as logged", "new policy's own log", "effective"):
            table.add_column(name, justify="right")
        for comparison in self.comparisons:
            for place, result in enumerate(comparison.results):
                first = place == 0
                table.add_row(
                    *(
                        text if first else ""
                        for text in (comparison.group, comparison.logged, comparison.new)
                    ),
                    _estimator(result),
                    result.reward_model,
                    _cell(result.value) if isinstance(result, EstimateReport) else "refused",
                    _cell(comparison.logged_value) if first else "",
                    _cell(comparison.truth) if first and comparison.truth else "",
                    f"{result.support.effective_sample_size:,.0f}",
                    end_section=place == len(comparison.results) - 1,
                )
        console.print(table)
        for comparison in self.comparisons:
            for text, estimators in _refusals(comparison.results).items():
                console.print(
                    f"{comparison.group}, {comparison.logged} → {comparison.new}:"
                    f" {', '.join(estimators)} refused: {text}"
                )


def off_policy_report(
    log: str,
    unit: str,
    comparisons: Sequence[Comparison],
    *,
    limits: Limits,
    resampling: Resampling,
) -> OffPolicyReport:
    """The report of ``comparisons``, made from ``log``; ``unit`` is what 1,000 times a value is."""
    return OffPolicyReport(
        log=log,
        unit=unit,
        resamples=resampling.resamples,
        confidence=resampling.confidence,
        limits=LimitsReport(**asdict(limits)),
        comparisons=[
            ComparisonReport(
                group=comparison.group,
                logged=comparison.logged,
                new=comparison.new,
                slates=comparison.slates,
                rewards=comparison.rewards,
                logged_value=figure(comparison.logged_value),
                truth=None if comparison.truth is None else figure(comparison.truth),
                results=[_result(result) for result in comparison.results],
            )
            for comparison in comparisons
        ],
    )


def _result(result: Estimate | Refused) -> EstimateReport | RefusedReport:
    support = _support(result.support)
    if isinstance(result, Refused):
        return RefusedReport(
            estimator=result.estimator,
            reward_model=result.reward_model,
            reason=result.reason,
            details=result.details,
            support=support,
        )
    return EstimateReport(
        estimator=result.estimator,
        reward_model=result.reward_model,
        value=Figure(mean=result.value, low=result.low, high=result.high),
        standard_error=result.standard_error,
        threshold=result.threshold,
        switched_mass=result.switched_mass,
        support=support,
    )


def _support(support: Support) -> SupportReport:
    return SupportReport(**asdict(support))


def _refusals(results: Sequence[EstimateReport | RefusedReport]) -> dict[str, list[str]]:
    """Estimators by why they were refused."""
    found: dict[str, list[str]] = {}
    for result in results:
        if isinstance(result, RefusedReport):
            why = f"{result.reason}: {result.details}"
            found.setdefault(why, []).append(f"{result.estimator} ({result.reward_model})")
    return found


def _estimator(result: EstimateReport | RefusedReport) -> str:
    if isinstance(result, RefusedReport) or result.switched_mass is None:
        return result.estimator
    return f"{result.estimator} ({result.switched_mass:.0%} predicted)"


def _cell(value: Figure) -> str:
    mean, low, high = (1_000 * part for part in (value.mean, value.low, value.high))
    return f"{mean:.2f} [dim]({low:.2f}–{high:.2f})[/dim]"
