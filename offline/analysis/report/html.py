"""A report as one HTML file that needs nothing from elsewhere: no script, no font, no picture.

``report.html.j2`` is the page. Everything that people named is escaped there.
"""

from __future__ import annotations

import base64
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from offline.analysis import wording
from offline.analysis.model import Effect, Finding, Metric, Report, SegmentEffect
from offline.analysis.report import plots
from offline.analysis.report.scale import Bar, Scale, scale
from offline.analysis.report.summary import summary
from offline.analysis.report.verdicts import CHECKS, PARTS, VERDICTS, Shown

_TEMPLATE = "report.html.j2"
# Plots of more variants than these would fill pages; the table has all.
MOST_PLOTS = 8
_LEVELS = {"alarm": 0, "notice": 1, "not_checked": 2, "ok": 3}


@dataclass(frozen=True)
class EffectRow:
    """A variant's line of the table of metrics."""

    effect: Effect
    control: float | None
    treatment: float | None
    bar: Bar | None
    verdict: Shown


@dataclass(frozen=True)
class SegmentRow:
    """A segment's line."""

    effect: SegmentEffect
    bar: Bar | None


@dataclass(frozen=True)
class SegmentTable:
    """The effect of one variant on the primary metric, by one segment."""

    segment: str
    variant: str
    whole: Effect
    whole_bar: Bar | None
    rows: tuple[SegmentRow, ...]


@dataclass(frozen=True)
class Plot:
    """A picture as a data URI, and what it shows."""

    source: str
    variant: str
    label: str


def to_html(report: Report) -> str:
    """``report`` as a page."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template(_TEMPLATE)
    effects = [effect for metric in report.metrics for effect in metric.effects]
    line = scale([effect.effect for effect in effects])
    return page.render(
        report=report,
        summary=summary(report),
        words=wording,
        checks=CHECKS,
        parts=PARTS,
        tables=[(metric, _rows(metric, line)) for metric in report.metrics],
        line=line,
        measured=any(effect.effect.estimate is not None for effect in effects),
        too_early=any(effect.verdict == "too_early" for effect in effects),
        effect_plots=_effect_plots(report),
        segments=_segments(report),
        first_shown=report.decision.variant or (report.arms[1].variant if report.arms[1:] else ""),
        units_plot=_units_plot(report),
        colours=plots.ARM_COLOURS,
        health=sorted(report.health, key=_urgency),
        total=sum(arm.units for arm in report.arms),
    )


def _rows(metric: Metric, line: Scale) -> list[EffectRow]:
    means = {mean.variant: mean.mean for mean in metric.means}
    margin = None
    if metric.margin:
        margin = -metric.margin if metric.direction == "increase" else metric.margin
    return [
        EffectRow(
            effect=effect,
            control=metric.means[0].mean if metric.means else None,
            treatment=means.get(effect.variant),
            bar=line.bar(effect.effect, margin=margin),
            verdict=VERDICTS[effect.verdict],
        )
        for effect in metric.effects
    ]


def _effect_plots(report: Report) -> list[Plot]:
    if report.primary is None:
        return []
    return [
        Plot(
            source=_data_uri(plots.effect_over_time(known, report.period.time_zone)),
            variant=effect.variant,
            label=f"Change of {wording.readable(report.primary.name)} as it was known day by day",
        )
        for effect in report.primary.effects[:MOST_PLOTS]
        if (known := [p for p in effect.sequence if p.effect.estimate is not None])
    ]


def _segments(report: Report) -> list[SegmentTable]:
    tables = []
    for effect in report.primary.effects if report.primary is not None else ():
        line = scale([effect.effect, *(found.effect for found in effect.segments)])
        for segment in dict.fromkeys(found.segment for found in effect.segments):
            rows = tuple(
                SegmentRow(found, line.bar(found.effect))
                for found in effect.segments
                if found.segment == segment
            )
            tables.append(
                SegmentTable(segment, effect.variant, effect, line.bar(effect.effect), rows)
            )
    return tables


def _units_plot(report: Report) -> Plot | None:
    if not report.exposures:
        return None
    drawn = plots.units_over_time(report.exposures, report.period.time_zone)
    return Plot(_data_uri(drawn), "", "Units exposed for the first time, by day")


def _urgency(finding: Finding) -> int:
    return _LEVELS[finding.level]


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
