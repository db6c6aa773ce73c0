"""``podium train``: a dataset to a published bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cli.options import DEFAULT_DOMAIN, DomainFile


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command()(train)


def train(
    *,
    domain: DomainFile = DEFAULT_DOMAIN,
    dataset: Annotated[Path, typer.Option(help="Directory that `podium dataset` wrote.")],
    bundles: Annotated[Path, typer.Option(help="Directory of bundles to publish into.")],
    promote: Annotated[bool, typer.Option(help="Make the new bundle the current one.")] = False,
    seed: Annotated[int, typer.Option(help="Equal seeds and data give equal metrics.")] = 0,
    threads: Annotated[
        int, typer.Option(min=1, help="Threads of torch; more than 1 pays for large models only.")
    ] = 1,
    cpu_minutes: Annotated[
        float | None,
        typer.Option(
            min=0.1, help="CPU minutes that training may take, in place of the domain's epochs."
        ),
    ] = None,
) -> None:
    """Train retrieval and ranker, pass the parity gate, publish a bundle."""
    import time
    from datetime import UTC, datetime

    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

    from cli.bundle import whoever
    from offline.dataset.tables import load_dataset
    from offline.publish.publish import publish, revision
    from offline.publish.summary import summary
    from offline.training.train import train as train_models
    from services.common.bundle.store import BundleStore
    from services.common.domain import load_domain

    declared = load_domain(domain)
    loaded = load_dataset(dataset)
    store = BundleStore(bundles)
    console = Console()
    bar = Progress(
        TextColumn("{task.description:<10}"),
        BarColumn(),
        TextColumn("{task.percentage:>4.0f} %"),
        TimeElapsedColumn(),
        console=console,
    )
    tasks: dict[str, TaskID] = {}
    with bar:

        def show(stage: str, share: float) -> None:
            for name, task in tasks.items():
                if name != stage:
                    bar.update(task, completed=1.0)
                    bar.stop_task(task)
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=1.0)
            bar.update(tasks[stage], completed=share)

        models = train_models(
            declared,
            loaded,
            seed=seed,
            threads=threads,
            budget_s=None if cpu_minutes is None else cpu_minutes * 60,
            progress=show,
        )
        started = time.perf_counter()
        published = publish(
            declared,
            models,
            loaded.meta,
            store,
            seed=seed,
            created_at=datetime.now(UTC),
            git_revision=revision(Path(__file__).parent),
            progress=show,
        )
        version = published.manifest.version
        if promote:
            store.promote(version, by=whoever())
        show("done", 1.0)
    console.print(summary(models, published, {"publish": time.perf_counter() - started}))
    state = (
        "published and promoted" if promote else "published; `podium bundle promote` makes it live"
    )
    console.print(f"{bundles / version}: {state}")
