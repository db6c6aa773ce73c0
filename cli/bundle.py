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
    """Verify and list all bundles, oldest first; * marks the current one.

    What is wrong with a corrupt one goes to standard error.
    """
    from rich.table import Column, Table

    from cli.console import wide_console
    from services.common.bundle.store import BundleStore
    from services.common.errors import BundleError

    store = BundleStore(bundles)
    versions = store.versions()
    try:
        current = store.current()
    except BundleError as error:
        current = None
        typer.echo(f"error: {error.message}", err=True)
    # A version is copied into other commands, so it is never shortened; other columns may be.
    width = max(map(len, versions), default=0)
    table = Table(
        "",
        Column("version", no_wrap=True, min_width=width),
        *("domain", "seed", "log position", "items", "revision"),
    )
    for version in versions:
        marker = "*" if version == current else ""
        try:
            manifest = store.verify(version)
        except BundleError as error:
            table.add_row(marker, version, "corrupt")
            typer.echo(f"error: {error.message}", err=True)
            continue
        table.add_row(
            marker,
            version,
            manifest.domain,
            str(manifest.seed),
            f"{manifest.training_window.log_position:,}",
            f"{sum(entry.rows for entry in manifest.indexes.values()):,}",
            manifest.git_revision[:12],
        )
    wide_console().print(table, crop=False)


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
