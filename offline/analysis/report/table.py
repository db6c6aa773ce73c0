"""A report on a terminal: the decision, the metrics, what of health is not fine."""

from __future__ import annotations

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from offline.analysis import wording
from offline.analysis.model import Metric, Report
from offline.analysis.report.summary import summary
from offline.analysis.report.verdicts import CHECKS, PARTS, VERDICTS

_TONES = {"good": "green", "bad": "red", "waiting": "yellow", "doubt": "yellow", "none": "default"}
_LEVELS = {"alarm": "red", "notice": "yellow", "not_checked": "dim"}
_ROLES = {"primary": "decides", "guardrail": "guardrail", "secondary": ""}


def print_report(report: Report, console: Console) -> None:
    """Prints ``report``. Where the sample ratio alarms there is no figure of an effect in it."""
    said = summary(report)
    console.print(f"[bold {_TONES[said.tone]}]{escape(said.headline)}[/]")
    for text in (said.tested, *said.worked, *said.sure, *said.next_step):
        console.print(f"  {escape(text)}")
    if not report.withheld and any(metric.effects for metric in report.metrics):
        console.print(_metrics(report))
    for metric in report.metrics:
        for effect in metric.effects:
            for part in effect.parts:
                console.print(
                    f"{escape(metric.name)}, {escape(effect.variant)}:"
                    f" {PARTS.get(part.name, part.name).lower()}"
                    f" {escape(wording.change(part.effect, metric.unit))}"
                    f" [dim]({escape(wording.interval(part.effect, metric.unit))})[/dim]"
                )
    for told in report.preferences:
        console.print(
            f"{escape(told.metric)}: items of {escape(told.treatment)} rather than of"
            f" {escape(told.control)} for {wording.share(0.5 + told.preference)} of persons, ties"
            f" counted half [dim]({wording.share(0.5 + told.lower)} to"
            f" {wording.share(0.5 + told.upper)}, p = {wording.p_value(told.p_value)})[/dim]"
        )
    console.print(_arms(report))
    for warning in report.warnings:
        console.print(f"[yellow]note[/] {escape(warning.text)}")
    for finding in report.health:
        if finding.level != "ok":
            of = f" ({escape(finding.subject)})" if finding.subject else ""
            check = escape(CHECKS.get(finding.check, finding.check))
            console.print(
                f"[{_LEVELS[finding.level]}]{finding.level.replace('_', ' ')}[/]"
                f" {check}{of}: {escape(finding.text)}"
            )
    fine = sum(finding.level == "ok" for finding in report.health)
    console.print(f"[dim]{fine} of {len(report.health)} checks are fine.[/]")


def _metrics(report: Report) -> Table:
    level = f"{100 * (1 - report.method.alpha):g}%"
    table = Table(
        title=f"{escape(report.experiment.key)}: against {escape(report.experiment.control)}",
        caption=f"{level} intervals, each of its comparison alone; p counts that there are several"
        if report.corrected
        else f"{level} intervals",
    )
    for name in ("metric", "", "variant"):
        table.add_column(name, overflow="fold")
    for name in ("control", "variant", "change", "interval", "p"):
        table.add_column(name, justify="right", overflow="fold")
    table.add_column("verdict", overflow="fold")
    for metric in report.metrics:
        _add(table, metric)
    return table


def _add(table: Table, metric: Metric) -> None:
    means = {mean.variant: wording.of_unit(mean.mean, metric.unit) for mean in metric.means}
    for place, effect in enumerate(metric.effects):
        verdict = VERDICTS[effect.verdict]
        table.add_row(
            escape(metric.name) if not place else "",
            _ROLES[metric.role] if not place else "",
            escape(effect.variant),
            escape(next(iter(means.values()), wording.NONE)),
            escape(means.get(effect.variant, wording.NONE)),
            escape(wording.change(effect.effect, metric.unit)),
            escape(wording.interval(effect.effect, metric.unit)),
            wording.p_value(effect.p_value if effect.p_adjusted is None else effect.p_adjusted),
            f"[{_TONES[verdict.tone]}]{verdict.text}[/]",
            end_section=place == len(metric.effects) - 1,
        )


def _arms(report: Report) -> Table:
    table = Table(title="who took part")
    table.add_column("variant", overflow="fold")
    for name in ("units", "planned"):
        table.add_column(name, justify="right")
    for arm in report.arms:
        table.add_row(escape(arm.variant), f"{arm.units:,}", f"{arm.planned_share:.2%}")
    return table
