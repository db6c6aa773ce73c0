"""An evaluation of what is served, as tables to read and as JSON."""

from __future__ import annotations

from collections.abc import Sequence

from pydantic import BaseModel, ConfigDict
from rich.console import Console
from rich.table import Table

from offline.evaluation.bootstrap import Interval
from offline.evaluation.figures import Figure, cell, figure
from offline.evaluation.served.reliability import ObjectiveReliability
from offline.evaluation.served.tally import SHOWN, Tally


class _Record(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SourceReport(_Record):
    """What a source brings: the share of the true items that it found, and that it alone found; its
    shares of the first ten places of all slates, and of the true items there."""

    name: str
    quota: int | None
    found: Figure | None
    only: Figure | None
    shown: float
    hits: float


class ReliabilityReport(_Record):
    """Of one objective over the period's impressions whose label is final; by bin of equal numbers
    of them the mean prediction and the share that came true, least likely first."""

    objective: str
    impressions: int
    mature: int
    positives: int
    calibration_error: float | None = None
    brier: float | None = None
    predicted: list[float] = []
    observed: list[float] = []


class ServedReport(_Record):
    """What was asked of the pipeline that serves, and how it did.

    ``unsettled``: requests of which a choice may still be undone, as by a refund. ``figures``: HR,
    NDCG and MRR of slates of ``length``, and the share of the true items that each stage kept.
    """

    domain: str
    bundle: str
    surface: str
    objective: str
    split: str
    requests: int
    users: int
    unsettled: int
    showable: int
    length: int
    candidates: int
    recall_at: int
    coverage: float
    figures: dict[str, Figure]
    sources: list[SourceReport]
    reliability: list[ReliabilityReport]

    def print(self, console: Console) -> None:
        """Prints the whole pipeline, its sources, and the reliability of its predictions."""
        console.print(self._slates())
        console.print(self._sources())
        if any(found.mature for found in self.reliability):
            console.print(self._reliability())
        for found in self.reliability:
            if not found.mature:
                console.print(
                    f"{found.objective}: none of {found.impressions:,} impressions of the period"
                    " has a final label yet: its reliability is not known"
                )

    def _slates(self) -> Table:
        table = Table(
            title=f"Served: {self.domain}, surface {self.surface}, {self.split} split: "
            f"{self.requests:,} requests of {self.users:,} users after which {self.objective} was "
            f"met; bundle {self.bundle}",
            caption="mean and 95 % bootstrap interval over users, with all their requests; "
            f"coverage: {self.coverage:.1%} of {self.showable:,} items that could be shown stand "
            f"in a slate's first {SHOWN}"
            + (f"; {self.unsettled:,} of the choices may still be undone" * bool(self.unsettled)),
        )
        table.add_column("stage")
        table.add_column("figure")
        table.add_column("", justify="right")
        at = self.recall_at
        rows = [
            (f"nearest {at} of all that may be shown", f"recall@{at}", f"nearest@{at}"),
            (f"sources merged, for {at}", f"recall@{at}", f"merged@{at}"),
            (f"sources merged, as configured ({self.candidates:,})", "recall", "merged"),
            ("after filters and first pass", "recall", "scored"),
            *(
                (f"slate of {self.length}" * (name == "hr@5"), name.upper(), name)
                for name in self.figures
                if name.startswith(("hr@", "ndcg@")) or name == "mrr"
            ),
        ]
        for stage, label, name in rows:
            table.add_row(stage, label, cell(self.figures[name]))
        return table

    def _sources(self) -> Table:
        table = Table(
            title="What each source brings",
            caption="found: share of the true items that it yields within its quota; alone: that"
            f" no other yields; shown, right: its share of the slates' first {SHOWN} places, and of"
            " the true items there (an item counts for the first source that yields it)",
        )
        for name in ("source", "quota", "found", "alone", "shown", "right"):
            table.add_column(name, justify="left" if name == "source" else "right")
        for source in self.sources:
            table.add_row(
                source.name,
                "" if source.quota is None else f"{source.quota:,}",
                "" if source.found is None else cell(source.found),
                "" if source.only is None else cell(source.only),
                f"{source.shown:.1%}",
                f"{source.hits:.1%}",
            )
        return table

    def _reliability(self) -> Table:
        shown = [found for found in self.reliability if found.mature]
        table = Table(
            "predicted : observed, %",
            *(found.objective for found in shown),
            title="Reliability over impressions whose label is final",
            caption="bins of equal numbers of impressions, the least likely first; predicted at the"
            " neutral position, observed wherever they stood",
        )
        for row in range(max(len(found.predicted) for found in shown)):
            table.add_row(f"bin {row + 1}", *(_bin(found, row) for found in shown))
        table.add_row("impressions", *(f"{found.mature:,}" for found in shown))
        table.add_row("met", *(f"{found.positives:,}" for found in shown))
        errors = (f"{100 * (found.calibration_error or 0.0):.2f}" for found in shown)
        table.add_row("calibration error", *errors)
        table.add_row("Brier score", *(f"{found.brier or 0.0:.4f}" for found in shown))
        return table


def source_reports(
    tally: Tally, quotas: Sequence[int], intervals: dict[str, Interval]
) -> list[SourceReport]:
    """Of all sources of the surface, and of what slates were filled with beside them."""
    shown, hits = max(1, tally.shown.total()), max(1, tally.hits.total())
    quota_of = dict(zip(tally.sources, quotas, strict=True))
    names = [*tally.sources, *sorted(set(tally.shown) - set(tally.sources))]
    return [
        SourceReport(
            name=name,
            quota=quota_of.get(name),
            found=figure(intervals[f"found {name}"]) if name in quota_of else None,
            only=figure(intervals[f"only {name}"]) if name in quota_of else None,
            shown=tally.shown[name] / shown,
            hits=tally.hits[name] / hits,
        )
        for name in names
    ]


def reliability_reports(found: Sequence[ObjectiveReliability]) -> list[ReliabilityReport]:
    """In the order of the bundle's objectives."""
    return [
        ReliabilityReport(
            objective=each.objective,
            impressions=each.impressions,
            mature=each.mature,
            positives=each.positives,
        )
        if each.table is None
        else ReliabilityReport(
            objective=each.objective,
            impressions=each.impressions,
            mature=each.mature,
            positives=each.positives,
            calibration_error=each.table.expected_calibration_error,
            brier=each.table.brier,
            predicted=each.table.predicted.tolist(),
            observed=each.table.observed.tolist(),
        )
        for each in found
    ]


def _bin(found: ReliabilityReport, row: int) -> str:
    if row >= len(found.predicted):
        return ""
    return f"{100 * found.predicted[row]:.1f} : {100 * found.observed[row]:.1f}"
