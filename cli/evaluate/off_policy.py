"""``podium evaluate off-policy``: what another policy would have earned, or why that is unknown."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_DOMAIN, DomainFile

if TYPE_CHECKING:
    from offline.evaluation.off_policy.comparison import Comparison
    from offline.evaluation.off_policy.estimate import Resampling
    from offline.evaluation.off_policy.support import Limits


class LogKind(StrEnum):
    """Whose log is read."""

    PODIUM = "podium"
    OPEN_BANDIT = "open-bandit"


def off_policy(
    *,
    folder: Annotated[
        Path,
        typer.Argument(help="Folder of the log; open-bandit: random/ and bts/ with campaigns."),
    ],
    log: Annotated[LogKind, typer.Option("--log", help="Kind of the log.")] = LogKind.PODIUM,
    weight: Annotated[
        list[str] | None,
        typer.Option(
            "--weight",
            metavar="OBJECTIVE=NUMBER",
            help="podium: a weight of the new policy; may be repeated, others stay as logged.",
        ),
    ] = None,
    dataset: Annotated[
        Path | None,
        typer.Option("--dataset", help="podium: folder of the dataset, made from the same log."),
    ] = None,
    domain: DomainFile = DEFAULT_DOMAIN,
    surface: Annotated[
        str | None,
        typer.Option("--surface", help="podium: surface whose slates count; the model's own."),
    ] = None,
    objective: Annotated[
        str | None,
        typer.Option("--objective", help="podium: what a reward is; the heaviest by default."),
    ] = None,
    positions: Annotated[
        int | None,
        typer.Option("--positions", min=1, help="podium: count the first so many positions only."),
    ] = None,
    resamples: Annotated[
        int, typer.Option("--resamples", min=100, help="Draws of the bootstrap.")
    ] = 1_000,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Seed of those draws.")] = 0,
    out: Annotated[Path | None, typer.Option("--out", help="Write the report as JSON.")] = None,
) -> None:
    """Estimate what a new policy would have earned from what was logged; refuse what can't be.

    Of Podium's log: other weights, from the slates that explored. Of the Open Bandit Dataset: each
    of two policies from the other's log, beside the truth.
    """
    from cli.console import wide_console
    from offline.evaluation.off_policy.estimate import Resampling
    from offline.evaluation.off_policy.report import off_policy_report
    from offline.evaluation.off_policy.support import Limits

    console = wide_console()
    limits, resampling = Limits(), Resampling(resamples=resamples, seed=seed)
    if log == LogKind.PODIUM:
        comparisons, unit = _other_weights(
            folder,
            dataset,
            weight or [],
            domain,
            surface,
            objective,
            positions,
            limits,
            resampling,
        )
    else:
        comparisons, unit = _other_policies(folder, limits, resampling)
    report = off_policy_report(log.value, unit, comparisons, limits=limits, resampling=resampling)
    report.print(console)
    if out is not None:
        report.write(out)
        console.print(f"written to {out}")


def _other_policies(
    folder: Path, limits: Limits, resampling: Resampling
) -> tuple[list[Comparison], str]:
    from offline.evaluation.off_policy.comparison import compare_policies
    from offline.evaluation.off_policy.open_bandit import read_campaigns

    comparisons = [
        comparison
        for campaign in read_campaigns(folder)
        for comparison in compare_policies(campaign, limits=limits, resampling=resampling)
    ]
    return comparisons, "clicks per 1,000 impressions"


def _other_weights(
    folder: Path,
    dataset: Path | None,
    weights: list[str],
    domain: Path,
    surface: str | None,
    objective: str | None,
    positions: int | None,
    limits: Limits,
    resampling: Resampling,
) -> tuple[list[Comparison], str]:
    from offline.dataset.explored import explored_slates
    from offline.evaluation.off_policy.comparison import compare_on
    from offline.evaluation.off_policy.explored import read_labels, reweighted
    from offline.evaluation.protocol import main_surface, target_objective
    from services.common.domain import load_domain
    from services.common.errors import InvalidArgument

    if dataset is None:
        raise InvalidArgument.field("dataset", "is required: rewards are its labels")
    chosen = dict(map(_weight, weights))
    if not chosen:
        raise InvalidArgument.field("weight", "at least one is required")
    loaded = load_domain(domain)
    surface = surface or main_surface(loaded)
    objective = objective or target_objective(loaded)
    labels = read_labels(dataset, objective)
    slates, predictions = reweighted(
        list(explored_slates(folder, surface)), labels, chosen, objective, positions=positions
    )
    comparison = compare_on(
        slates,
        predictions,
        group=surface,
        logged="served weights",
        new=", ".join(weights),
        limits=limits,
        resampling=resampling,
    )
    return [comparison], f"{objective} per 1,000 slates"


def _weight(text: str) -> tuple[str, float]:
    from math import isfinite

    from services.common.errors import InvalidArgument

    name, equals, number = text.partition("=")
    try:
        value = float(number)
    except ValueError as error:
        raise InvalidArgument.field("weight", f"{text!r} is not OBJECTIVE=NUMBER") from error
    if not name or not equals or not isfinite(value):
        raise InvalidArgument.field("weight", f"{text!r} is not OBJECTIVE=NUMBER")
    return name, value
