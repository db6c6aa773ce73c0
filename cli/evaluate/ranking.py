"""``podium evaluate ranking``: how good is what is served, also against baselines."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_DOMAIN, DomainFile, LogOption


def ranking(
    *,
    domain: DomainFile = DEFAULT_DOMAIN,
    log: LogOption,
    dataset: Annotated[Path, typer.Option("--dataset", help="Folder of the dataset.")],
    bundles: Annotated[Path, typer.Option("--bundles", help="Folder of the bundles.")],
    version: Annotated[
        str | None, typer.Option("--version", help="Bundle; the promoted one by default.")
    ] = None,
    split: Annotated[
        str,
        typer.Option("--split", help="test; or validation, which the last pass of training saw."),
    ] = "test",
    surface: Annotated[str | None, typer.Option("--surface", help="Surface to rank for.")] = None,
    objective: Annotated[
        str | None,
        typer.Option("--objective", help="What counts as right; the heaviest by default."),
    ] = None,
    sample: Annotated[
        int | None,
        typer.Option("--sample", min=1, help="Ask that many users (leave-last splits)."),
    ] = None,
    requests: Annotated[
        int,
        typer.Option("--requests", min=1, help="Ask at most that many logged requests."),
    ] = 500,
    out: Annotated[Path | None, typer.Option("--out", help="Write the report as JSON.")] = None,
) -> None:
    """Ask the pipeline that serves what it would have answered in a held-out period.

    Of logged requests, where the log has impressions: recall of each source and stage, HR and NDCG
    of the slates, reliability of each objective. And, for the surface that ranks what the models'
    sequence holds, beside baselines, which rank all items, never a sample.
    """
    from cli.console import wide_console
    from cli.progress import stage_progress
    from offline.evaluation.evaluate import Source, evaluate, evaluate_served, ranks_histories
    from offline.evaluation.report import RankingReport
    from services.common.bundle.loaded import LoadedBundle
    from services.common.bundle.store import BundleStore
    from services.common.domain import load_domain
    from services.common.errors import NotFound

    console = wide_console()
    store = BundleStore(bundles)
    chosen = version or store.current()
    if chosen is None:
        raise NotFound(f"{bundles} holds no promoted bundle: name one with --version")
    loaded = LoadedBundle.load(store.path(chosen))
    served = compared = None
    with stage_progress(console) as progress:
        source = Source.open(load_domain(domain), log, dataset, progress=progress)
        if source.domain.log.impressions:
            served = evaluate_served(
                source,
                loaded,
                split=split,
                surface=surface,
                objective=objective,
                requests=requests,
                progress=progress,
            )
        if served is None or ranks_histories(source.domain, surface):
            compared = evaluate(
                source,
                loaded,
                split=split,
                surface=surface,
                objective=objective,
                sample=sample,
                progress=progress,
            ).report
    report = RankingReport(served=served, compared=compared)
    report.print(console)
    if out is not None:
        report.write(out)
        console.print(f"written to {out}")
