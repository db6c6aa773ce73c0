"""``podium dataset``: the event log becomes tables to train and evaluate on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_DOMAIN, DomainFile

if TYPE_CHECKING:
    from rich.console import Console

    from offline.dataset.tables import DatasetMeta


def register(app: typer.Typer) -> None:
    """Adds ``podium dataset``."""

    @app.command()
    def dataset(
        *,
        domain: DomainFile = DEFAULT_DOMAIN,
        log: Annotated[Path, typer.Option("--log", help="Folder of the event log.")],
        archive: Annotated[
            str | None,
            typer.Option(
                "--archive",
                help="Archive of the log, where segments were removed: a folder or s3://bucket/path.",
            ),
        ] = None,
        out: Annotated[Path, typer.Option("--out", help="Folder of the dataset.")],
    ) -> None:
        """Point-in-time examples, interactions and the catalogue, from the event log."""
        from rich.console import Console

        from cli.progress import stage_progress
        from offline.archive.target import open_target
        from offline.dataset.build import build_dataset
        from services.common.domain import load_domain

        console = Console()
        loaded = load_domain(domain)
        target = None if archive is None else open_target(archive)
        with stage_progress(console) as progress:
            meta = build_dataset(loaded, log, out, archive=target, progress=progress)
        _show(console, meta, out)


def _show(console: Console, meta: DatasetMeta, out: Path) -> None:
    from rich.table import Table

    table = Table(title=f"Dataset of {meta.domain} in {out}")
    table.add_column("table")
    table.add_column("rows", justify="right")
    for name, rows in meta.rows.items():
        table.add_row(name, f"{rows:,}")
    console.print(table)
    leaks = meta.leak_check
    console.print(
        f"leak check: {leaks.sampled} examples, {leaks.compared_values:,} values recomputed from"
        f" the log up to their time, {leaks.differing_values} differ"
    )
