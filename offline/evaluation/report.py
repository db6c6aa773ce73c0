"""An evaluation as a table to read and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from offline.evaluation.compare import COVERAGE_K, Comparison, Outcome
from offline.evaluation.figures import Figure, cell, figure
from offline.evaluation.first_pass import Kept
from offline.evaluation.served.report import ServedReport

SHOWN = ("hr@10", "ndcg@10", "mrr", "recall@50", "recall@500")


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _Written(_Record):
    def write(self, path: Path) -> None:
        """Writes JSON, indented, with a newline at the end."""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(self.model_dump_json(indent=1) + "\n", encoding="utf-8")


class SystemReport(_Record):
    """One system: its figures by name, and the share of items among anybody's first ten."""

    name: str
    coverage: float
    figures: dict[str, Figure]


class DifferenceReport(_Record):
    """Mean of (system - baseline) over the same users."""

    system: str
    baseline: str
    metric: str
    difference: Figure


class FirstPassReport(_Record):
    """See ``first_pass.Kept``."""

    users: int
    items: float
    k: int
    kept: int
    recall: float
    nearness_recall: float


class EvaluationReport(_Written):
    """What was evaluated, on what, and how it did. ``systems[0]`` is what serving answers with:
    it ranks no further than its slate, and its recall@500 is that of its candidates.
    ``first_pass`` is empty of a bundle without one."""

    domain: str
    bundle: str
    surface: str
    objective: str
    split: str
    questions: int
    items: int
    resamples: int
    confidence: float
    systems: list[SystemReport]
    differences: list[DifferenceReport]
    first_pass: list[FirstPassReport] = []

    def print(self, console: Console) -> None:
        """Prints the systems, then the paired differences of the first one to the others."""
        percent = f"{self.confidence:.0%}"
        table = Table(
            title=f"{self.domain}, surface {self.surface}, {self.split} split: "
            f"{self.questions:,} users, all {self.items:,} items ranked; bundle {self.bundle}",
            caption=f"mean and {percent} bootstrap interval over users; "
            f"coverage: share of items in anybody's first {COVERAGE_K}; of {self.systems[0].name} "
            "the slate as it is served, recall of its candidates",
        )
        table.add_column("system", overflow="fold")
        for metric in SHOWN:
            table.add_column(metric.upper(), justify="right", overflow="fold")
        table.add_column("coverage", justify="right")
        for system in self.systems:
            of = system.figures
            cells = [cell(of[metric]) if metric in of else "" for metric in SHOWN]
            table.add_row(system.name, *cells, f"{system.coverage:.1%}")
        console.print(table)
        self._print_first_pass(console)
        if not self.differences:
            return
        gaps = Table(
            title=f"{self.systems[0].name} less each other system, paired by user",
            caption=f"{percent} bootstrap interval; bold where it lies above zero",
        )
        gaps.add_column("less", overflow="fold")
        metrics = list(dict.fromkeys(d.metric for d in self.differences))
        for metric in metrics:
            gaps.add_column(metric.upper(), justify="right", overflow="fold")
        for baseline in dict.fromkeys(d.baseline for d in self.differences):
            row = [d for d in self.differences if d.baseline == baseline]
            gaps.add_row(baseline, *(_gap(d.difference) for d in row))
        console.print(gaps)

    def _print_first_pass(self, console: Console) -> None:
        if not self.first_pass:
            return
        first = self.first_pass[0]
        table = Table(
            title=f"first pass: share of the ranker's best {first.k} that is kept of "
            f"{first.items:,.0f} items ({first.users:,} users)"
        )
        for column in ("kept", "first pass", "by nearness alone"):
            table.add_column(column, justify="right")
        for found in self.first_pass:
            table.add_row(f"{found.kept:,}", f"{found.recall:.3f}", f"{found.nearness_recall:.3f}")
        console.print(table)


def first_pass_reports(kept: Sequence[Kept]) -> list[FirstPassReport]:
    """Reports of what the first pass keeps."""
    return [FirstPassReport(**asdict(found)) for found in kept]


class RankingReport(_Written):
    """All that ``podium evaluate`` says of a surface: of requests that were logged, and, of the
    surface of the models' sequence, beside other systems; None for what can't be asked there."""

    served: ServedReport | None
    compared: EvaluationReport | None

    def print(self, console: Console) -> None:
        """Prints what there is of the two."""
        if self.served is not None:
            self.served.print(console)
        if self.compared is not None:
            self.compared.print(console)


def system_reports(outcomes: list[Outcome], comparison: Comparison) -> list[SystemReport]:
    """Reports in the order of ``outcomes``."""
    return [
        SystemReport(
            name=outcome.name,
            coverage=outcome.coverage,
            figures={k: figure(v) for k, v in comparison.figures[outcome.name].items()},
        )
        for outcome in outcomes
    ]


def difference_reports(comparison: Comparison) -> list[DifferenceReport]:
    """Reports of the paired differences."""
    return [
        DifferenceReport(
            system=d.system, baseline=d.baseline, metric=d.metric, difference=figure(d.value)
        )
        for d in comparison.differences
    ]


def _gap(value: Figure) -> str:
    text = f"{value.mean:+.4f}\n[dim]{value.low:+.4f} … {value.high:+.4f}[/dim]"
    return f"[bold]{text}[/bold]" if value.low > 0 else text
