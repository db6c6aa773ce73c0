"""``podium power``: how many units an experiment needs, for how long, and what it could see."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from offline.analysis.power import Holds, Plan, Seen
    from offline.analysis.statistics.power import Baseline, Design

EFFECTS = (0.01, 0.02, 0.05, 0.1, 0.2)
DAYS = (7.0, 14.0, 28.0)


def register(app: typer.Typer) -> None:
    """Adds ``podium power``."""
    app.command()(power)


def power(
    *,
    share: Annotated[
        float | None, typer.Option(help="Metric: the share of units that do something (0.03).")
    ] = None,
    mean: Annotated[float | None, typer.Option(help="Metric: mean of a unit's value.")] = None,
    deviation: Annotated[
        float | None, typer.Option(help="Standard deviation of a unit's value; beside --mean.")
    ] = None,
    ratio: Annotated[
        tuple[float, float, float, float, float] | None,
        typer.Option(
            help="Metric: a ratio of sums. Means of numerator and denominator of a unit, their "
            "standard deviations, their correlation.",
            metavar="MEAN MEAN DEVIATION DEVIATION CORRELATION",
        ),
    ] = None,
    effect: Annotated[
        list[float] | None,
        typer.Option(help="Relative effect to find (0.05: 5 % more). May be given several times."),
    ] = None,
    margin: Annotated[
        list[float] | None,
        typer.Option(
            help="Of a guardrail: loss to rule out (0.02: 2 % of the control). May be given "
            "several times."
        ),
    ] = None,
    less_is_better: Annotated[
        bool,
        typer.Option(
            "--less-is-better", help="The guardrail is one that must not grow; beside --margin."
        ),
    ] = False,
    units_per_day: Annotated[
        float | None, typer.Option(help="New units a day that take part, both arms together.")
    ] = None,
    days: Annotated[
        list[float] | None,
        typer.Option(help="What is seen after so many days; beside --units-per-day."),
    ] = None,
    alpha: Annotated[float, typer.Option(help="Chance of a false finding.")] = 0.05,
    chance: Annotated[
        float, typer.Option("--power", help="Chance to find the effect where it is.")
    ] = 0.8,
    treatment_share: Annotated[float, typer.Option(help="Treatment's share of units.")] = 0.5,
    explained: Annotated[
        float, typer.Option(help="Share of the variance that covariates explain (CUPED).")
    ] = 0.0,
    cluster_size: Annotated[
        float | None,
        typer.Option(help="Whole clusters (hosts, rooms) are drawn: mean number of units in one."),
    ] = None,
    cluster_variation: Annotated[
        float, typer.Option(help="Standard deviation of the sizes of clusters over their mean.")
    ] = 0.0,
    cluster_correlation: Annotated[
        float, typer.Option(help="Correlation of units of one cluster (intraclass).")
    ] = 0.05,
    always_valid: Annotated[
        bool,
        typer.Option(
            "--always-valid", help="Analysed by an always-valid sequence: any look counts."
        ),
    ] = False,
) -> None:
    """Say how many units an experiment needs, for how long, and what it could see.

    Give one metric: --share, --mean with --deviation, or --ratio.
    """
    from offline.analysis.power import margins, plans, smallest_effects
    from offline.analysis.statistics.power import Clustering, Design

    if days and units_per_day is None:
        raise typer.BadParameter("needs --units-per-day", param_hint="--days")
    if less_is_better and not margin:
        raise typer.BadParameter("needs --margin", param_hint="--less-is-better")
    baseline = _baseline(share, mean, deviation, ratio)
    clustering = None
    if cluster_size is not None:
        clustering = Clustering(cluster_size, cluster_correlation, cluster_variation)
    design = Design(alpha, chance, treatment_share, explained, clustering, always_valid)
    holds = margins(
        baseline, margin or (), design, units_per_day=units_per_day, less_is_better=less_is_better
    )
    asked = effect or (() if holds and not days else EFFECTS)
    found = plans(baseline, asked, design, units_per_day=units_per_day)
    seen: Sequence[Seen] = ()
    if units_per_day is not None and found:
        seen = smallest_effects(baseline, days or DAYS, design, units_per_day=units_per_day)
    if found:
        _show(baseline, design, found, seen)
    if holds:
        _show_margins(design, holds)


def _show_margins(design: Design, holds: Sequence[Holds]) -> None:
    from rich.table import Table

    from cli.console import wide_console

    title = (
        f"To show with a chance of {100 * design.power:g} % that a guardrail holds, where nothing"
        f" changes, one-sided at {design.alpha / 2:g}"
    )
    table = Table(title=title + (", always valid" if design.always_valid else ""))
    clustered = design.clustering is not None
    columns = ["margin", "units", "control", "treatment"]
    columns += ["clusters, control", "clusters, treatment"] if clustered else []
    columns += ["days"] if any(each.days is not None for each in holds) else []
    for column in columns:
        table.add_column(column, justify="right")
    for each in holds:
        units = each.needed
        cells = [f"{100 * each.margin:g} %", f"{units.units:,}"]
        cells += [f"{units.control_units:,}", f"{units.treatment_units:,}"]
        if clustered:
            cells += [f"{units.control_clusters:,}", f"{units.treatment_clusters:,}"]
        if each.days is not None:
            cells.append(f"{each.days:,.1f}")
        table.add_row(*cells)
    wide_console().print(table)


def _baseline(
    share: float | None,
    mean: float | None,
    deviation: float | None,
    ratio: tuple[float, float, float, float, float] | None,
) -> Baseline:
    from offline.analysis.statistics.power import Baseline, proportion, ratio_baseline

    if (mean is None) != (deviation is None):
        raise typer.BadParameter("goes with --mean", param_hint="--deviation")
    if deviation is not None and not deviation > 0.0:
        raise typer.BadParameter("must be positive", param_hint="--deviation")
    if share is not None and mean is None and ratio is None:
        return proportion(share)
    if mean is not None and deviation is not None and share is None and ratio is None:
        return Baseline(mean, deviation * deviation)
    if ratio is not None and share is None and mean is None:
        above, below, above_deviation, below_deviation, correlation = ratio
        covariance = correlation * above_deviation * below_deviation
        return ratio_baseline(
            above,
            below,
            above_deviation * above_deviation,
            below_deviation * below_deviation,
            covariance,
        )
    raise typer.BadParameter("give one of --share, --mean and --ratio")


def _show(baseline: Baseline, design: Design, found: Sequence[Plan], seen: Sequence[Seen]) -> None:
    from rich.table import Table

    from cli.console import wide_console

    console = wide_console()
    title = f"To find it with a chance of {100 * design.power:g} % at alpha {design.alpha:g}"
    table = Table(title=title + (", always valid" if design.always_valid else ""))
    clustered = design.clustering is not None
    columns = ["effect", "from", "to", "units", "control", "treatment"]
    columns += ["clusters, control", "clusters, treatment"] if clustered else []
    columns += ["days"] if any(plan.days is not None for plan in found) else []
    for column in columns:
        table.add_column(column, justify="right")
    for plan in found:
        units = plan.needed
        cells = [
            f"{100 * plan.relative:+g} %",
            f"{baseline.mean:.6g}",
            f"{baseline.mean + plan.absolute:.6g}",
            f"{units.units:,}",
            f"{units.control_units:,}",
            f"{units.treatment_units:,}",
        ]
        if clustered:
            cells += [f"{units.control_clusters:,}", f"{units.treatment_clusters:,}"]
        if plan.days is not None:
            cells.append(f"{plan.days:,.1f}")
        table.add_row(*cells)
    console.print(table)
    if design.clustering is not None:
        console.print(
            f"Design effect of clusters: {design.clustering.design_effect:.2f}", highlight=False
        )
    if seen:
        smallest = Table(title="The smallest effect that is found")
        for column in ("after days", "units", "effect", "from", "to"):
            smallest.add_column(column, justify="right")
        for each in seen:
            smallest.add_row(
                f"{each.days:g}",
                f"{each.units:,}",
                f"{100 * each.relative:+.2f} %",
                f"{baseline.mean:.6g}",
                f"{baseline.mean + each.absolute:.6g}",
            )
        console.print(smallest)
