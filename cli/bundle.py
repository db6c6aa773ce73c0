"""``podium bundle``: list, show, promote and roll back published bundles."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Bundles = Annotated[Path, typer.Option(help="Directory of bundles.")]
Version = Annotated[str, typer.Argument(help="Version, as `podium bundle list` prints it.")]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    commands = typer.Typer(no_args_is_help=True, help="Published bundles.")
    commands.command("list")(list_bundles)
    commands.command("show")(show)
    commands.command("promote")(promote)
    commands.command("rollback")(rollback)
    app.add_typer(commands, name="bundle")


def list_bundles(bundles: Bundles) -> None:
    """All bundles, oldest first; * marks the current one."""
    from rich.console import Console
    from rich.table import Table

    from services.common.bundle.store import BundleStore

    store = BundleStore(bundles)
    current = store.current()
    table = Table("", "version", "domain", "seed", "log position", "items", "revision")
    for manifest in store.list():
        table.add_row(
            "*" if manifest.version == current else "",
            manifest.version,
            manifest.domain,
            str(manifest.seed),
            f"{manifest.training_window.log_position:,}",
            f"{sum(entry.rows for entry in manifest.indexes.values()):,}",
            manifest.git_revision[:12],
        )
    Console().print(table)


def show(version: Version, bundles: Bundles) -> None:
    """Verify a bundle's files and print its manifest as JSON."""
    from services.common.bundle.store import BundleStore

    typer.echo(BundleStore(bundles).verify(version).to_bytes().decode(), nl=False)


def promote(version: Version, bundles: Bundles) -> None:
    """Verify a bundle and make it the current one; running rankers take it without restart."""
    from services.common.bundle.store import BundleStore

    BundleStore(bundles).promote(version)
    typer.echo(f"current: {version}")


def rollback(bundles: Bundles) -> None:
    """Go back to the bundle promoted before the current one."""
    from services.common.bundle.store import BundleStore

    typer.echo(f"current: {BundleStore(bundles).rollback()}")
