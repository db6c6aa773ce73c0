"""``podium import``: real logs become event logs."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import pseudonymiser

if TYPE_CHECKING:
    from rich.console import Console

    from offline.importers.report import ImportReport


def register(app: typer.Typer) -> None:
    """Adds ``podium import`` with one sub-command a source."""
    sources = typer.Typer(no_args_is_help=True, help="Turn real logs into the event log.")

    @sources.callback()
    def group() -> None:
        """Turn real logs into the event log."""

    @sources.command()
    def mooccubex(
        path: Annotated[Path, typer.Argument(help="Folder with sequences.txt and the id lists.")],
        log: Annotated[Path, typer.Option("--log", help="Folder of the new event log.")],
        domain: Annotated[
            Path, typer.Option("--domain", help="Domain file that declares courses and enrolments.")
        ] = Path("config/mooccubex.yaml"),
    ) -> None:
        """Course enrolments of MOOCCubeX (XuetangX)."""
        from rich.console import Console

        from cli.progress import stage_progress
        from offline.importers.mooccubex import import_mooccubex
        from services.common.domain import load_domain

        console = Console()
        loaded = load_domain(domain)
        names = pseudonymiser()
        with stage_progress(console) as progress:
            report = import_mooccubex(path, log, loaded, names.encrypt, progress=progress)
        _show(console, report, log)

    app.add_typer(sources, name="import")


def _show(console: Console, report: ImportReport, log: Path) -> None:
    from rich.table import Table

    table = Table(title=f"Imported into {log}")
    table.add_column("records")
    for name in ("read", "kept", "dropped"):
        table.add_column(name, justify="right")
    table.add_column("why dropped")
    for name, count in report.counts.items():
        why = ", ".join(f"{reason}: {number:,}" for reason, number in count.dropped.items())
        dropped = sum(count.dropped.values())
        table.add_row(name, f"{count.read:,}", f"{count.kept:,}", f"{dropped:,}", why)
    console.print(table)
    console.print(f"{report.events:,} events written")
