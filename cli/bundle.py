"""``podium bundle``: published bundles, and which of them serve. Nothing else moves the pointer."""

from __future__ import annotations

import getpass
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from rich.table import Table

    from services.common.bundle.pointer import Move, Pointer
    from services.common.bundle.store import BundleStore

Bundles = Annotated[Path, typer.Option(help="Directory of bundles.")]
Version = Annotated[str, typer.Argument(help="Version, as `podium bundle list` prints it.")]
MaybeVersion = Annotated[str, typer.Argument(help="Version, as `podium bundle list` prints it.")]
By = Annotated[str, typer.Option(help="Who moves the pointer; by default the user.")]
End = Annotated[bool, typer.Option("--end", help="End it.")]

LATEST_MOVES = 10


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    commands = typer.Typer(
        no_args_is_help=True, help="Published bundles, and which of them rankers serve."
    )
    commands.command("list")(list_bundles)
    commands.command("show")(show)
    commands.command("status")(status)
    commands.command("promote")(promote)
    commands.command("roll-back")(rollback)
    commands.command("rollback", hidden=True)(rollback)
    commands.command("canary")(canary)
    commands.command("shadow")(shadow)
    commands.command("experiment")(experiment)
    app.add_typer(commands, name="bundle")


def list_bundles(bundles: Bundles) -> None:
    """Verify and list all bundles, oldest first; * marks the live one.

    What is wrong with a corrupt one goes to standard error.
    """
    from rich.table import Column, Table

    from cli.console import wide_console
    from services.common.bundle.pointer import Pointer
    from services.common.bundle.store import BundleStore
    from services.common.errors import BundleError

    store = BundleStore(bundles)
    versions = store.versions()
    try:
        pointer = store.pointer()
    except BundleError as error:
        pointer = Pointer()
        typer.echo(f"error: {error.message}", err=True)
    roles = pointer.roles()
    # A version is copied into other commands, so it is never shortened; other columns may be.
    width = max(map(len, versions), default=0)
    table = Table(
        "",
        Column("version", no_wrap=True, min_width=width),
        *("domain", "seed", "log position", "items", "revision", "role"),
    )
    for version in versions:
        marker = "*" if version == pointer.live else ""
        try:
            manifest = store.verify(version)
        except BundleError as error:
            table.add_row(marker, version, "corrupt", *[""] * 4, roles.get(version, ""))
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
            roles.get(version, ""),
        )
    wide_console().print(table, crop=False)


def show(version: Version, bundles: Bundles) -> None:
    """Verify a bundle's files and print its manifest as JSON."""
    from services.common.bundle.store import BundleStore

    typer.echo(BundleStore(bundles).verify(version).to_bytes().decode(), nl=False)


def status(
    bundles: Bundles,
    moves: Annotated[int, typer.Option(min=0, help="How many moves to list.")] = LATEST_MOVES,
) -> None:
    """Which bundles serve, with which share, since when, by whom; and the latest moves.

    A ranker may have set one of them aside: that is in its log, and its metrics.
    """
    from cli.console import wide_console
    from services.common.bundle.store import BundleStore

    store = BundleStore(bundles)
    pointer, made = store.pointer(), store.moves()
    console = wide_console()
    console.print(_roles_table(store, pointer, made), crop=False)
    if made and moves:
        console.print(_moves_table(made[-moves:]), crop=False)


def promote(bundles: Bundles, version: MaybeVersion = "", by: By = "") -> None:
    """Verify a bundle and make it live, the canary where no version is named; running rankers take
    it without a restart."""
    from services.common.bundle.store import BundleStore
    from services.common.errors import NotFound

    store = BundleStore(bundles)
    if not version:
        chosen = store.pointer().canary
        if chosen is None:
            raise NotFound("there is no canary: name the version to promote")
        version = chosen.version
    store.promote(version, by=by or whoever())
    typer.echo(f"live: {version}")


def rollback(bundles: Bundles, by: By = "") -> None:
    """Make the bundle that was live before live again."""
    from services.common.bundle.store import BundleStore

    typer.echo(f"live: {BundleStore(bundles).rollback(by=by or whoever())}")


def canary(
    bundles: Bundles,
    version: MaybeVersion = "",
    *,
    share: Annotated[str, typer.Option(help="Share of the users, 5% or 0.05.")] = "5%",
    end: End = False,
    by: By = "",
) -> None:
    """Verify a bundle and let it answer a share of the users; who is in it stays as it grows."""
    from services.common.bundle.store import BundleStore

    chosen = _named(version, end=end)
    BundleStore(bundles).canary(chosen, share_of(share), by=by or whoever())
    typer.echo(f"canary: {version} for {share_of(share):.4g} of the users" if chosen else "ended")


def shadow(
    bundles: Bundles,
    version: MaybeVersion = "",
    *,
    share: Annotated[str, typer.Option(help="Share of the requests, 5% or 0.05.")] = "5%",
    end: End = False,
    by: By = "",
) -> None:
    """Verify a bundle and let it rank a share of the requests for comparison, after their answer
    was given."""
    from services.common.bundle.store import BundleStore

    chosen = _named(version, end=end)
    BundleStore(bundles).shadow(chosen, share_of(share), by=by or whoever())
    typer.echo(
        f"shadow: {version} for {share_of(share):.4g} of the requests" if chosen else "ended"
    )


def experiment(bundles: Bundles, version: Version, *, end: End = False, by: By = "") -> None:
    """Verify a bundle and let variants of experiments name it; it is served beside the live one."""
    from services.common.bundle.store import BundleStore

    store = BundleStore(bundles)
    if end:
        store.end_variants(version, by=by or whoever())
    else:
        store.serve_variants(version, by=by or whoever())
    typer.echo("ended" if end else f"experiment: {version}")


def share_of(text: str) -> float:
    """The share that "5%" or "0.05" says. Raises ``InvalidArgument``."""
    from services.common.errors import InvalidArgument

    number, percent = (text[:-1], True) if text.endswith("%") else (text, False)
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError as error:
        raise InvalidArgument.field("share", f"{text!r} is no share: 5% or 0.05") from error
    if not 0 < share <= 1:
        raise InvalidArgument.field("share", f"{text} is not above 0 and at most 100 %")
    return share


def whoever() -> str:
    """The user of this machine; a number where it has no name."""
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return f"user {os.getuid()}"


def _named(version: str, *, end: bool) -> str | None:
    from services.common.errors import InvalidArgument

    if bool(version) == end:
        raise InvalidArgument.field("version", "name a version, or give --end")
    return version or None


def _roles_table(store: BundleStore, pointer: Pointer, made: list[Move]) -> Table:
    from rich.table import Column, Table

    from services.common.errors import PodiumError

    by_number = {move.pointer.move: move for move in made}
    rows = [("live", entry, "") for entry in pointer.promoted[-1:]]
    for role, shared, of in (
        ("canary", pointer.canary, "users"),
        ("shadow", pointer.shadow, "requests"),
    ):
        if shared is not None:
            rows.append((role, shared, f"{100 * shared.share:.4g} % of {of}"))
    rows += [("experiment", entry, "whom a variant gives it") for entry in pointer.experiments]
    rows += [("roll-back", entry, "") for entry in pointer.promoted[-2:-1]]
    table = Table("role", Column("version", no_wrap=True), "share", "since", "by", "files")
    for role, entry, share in rows:
        move = by_number.get(entry.move)
        try:
            store.verify(entry.version)
            files = "sound"
        except PodiumError as error:
            files = "corrupt"
            typer.echo(f"error: {error.message}", err=True)
        since = "" if move is None else f"{move.at:%Y-%m-%d %H:%M:%S} UTC"
        table.add_row(role, entry.version, share, since, "" if move is None else move.by, files)
    return table


def _moves_table(made: list[Move]) -> Table:
    from rich.table import Column, Table

    table = Table(
        Column("move", justify="right"),
        *("at", "by", "action"),
        Column("version", no_wrap=True),
        Column("share", justify="right"),
    )
    for move in made:
        share = "" if move.share is None else f"{100 * move.share:.4g} %"
        at = f"{move.at:%Y-%m-%d %H:%M:%S} UTC"
        table.add_row(str(move.pointer.move), at, move.by, move.action, move.version, share)
    return table
