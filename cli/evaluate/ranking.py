"""``podium evaluate ranking``: how well a bundle ranks, against baselines, with intervals."""

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
    out: Annotated[Path | None, typer.Option("--out", help="Write the report as JSON.")] = None,
) -> None:
    """Rank a held-out split with a bundle and with baselines: all items, never a sample."""
    from cli.console import wide_console
    from cli.progress import stage_progress
    from offline.evaluation.evaluate import Source
    from offline.evaluation.evaluate import evaluate as run
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
    with stage_progress(console) as progress:
        source = Source.open(load_domain(domain), log, dataset, progress=progress)
        evaluation = run(
            source,
            loaded,
            split=split,
            surface=surface,
            objective=objective,
            sample=sample,
            progress=progress,
        )
    evaluation.report.print(console)
    if out is not None:
        evaluation.report.write(out)
        console.print(f"written to {out}")
