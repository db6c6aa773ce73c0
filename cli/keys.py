"""``podium keys``: keys of pseudonyms, made and rotated."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import (
    ArchiveOption,
    CapturesOption,
    LogArgument,
    SearchOption,
    SpoolOption,
    pseudonymiser,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from cli.features.client import Served
    from cli.rotation import Counted
    from services.common.pseudonym import Pseudonymiser

LEFT = 1


def register(app: typer.Typer) -> None:
    """Adds ``podium keys`` with its sub-commands."""
    keys = typer.Typer(no_args_is_help=True, help="Keys of pseudonyms: make one, rotate.")
    keys.command()(new)
    keys.command()(rotate)
    app.add_typer(keys, name="keys")


def new(
    *,
    version: Annotated[
        int, typer.Option(min=1, help="Its version; of pseudonyms' keys the highest encrypts.")
    ],
) -> None:
    """Print a new random key in the form that PODIUM_PSEUDONYM_KEYS and PODIUM_TOKEN_KEYS take."""
    import base64
    import secrets

    from services.common.pseudonym import KEY_BYTES

    typer.echo(f"{version}:{base64.b64encode(secrets.token_bytes(KEY_BYTES)).decode()}")


def rotate(
    log: LogArgument,
    *,
    store: Annotated[Path, typer.Option(help="Folder of the feature service's stores.")],
    archive: ArchiveOption = None,
    spool: SpoolOption = None,
    captures: CapturesOption = None,
    search: SearchOption = None,
    target: Annotated[
        str, typer.Option(help="Where the feature service listens, HOST:PORT.")
    ] = "localhost:50051",
) -> None:
    """Bring all pseudonyms under the newest key of PODIUM_PSEUDONYM_KEYS, then count the others.

    The services go on meanwhile, with all keys. Log, archive and captures are written anew, and the
    feature service fills a store and switches to it. Killed anywhere, the command is run again.
    Exit code 1 while an older key is needed, 0 when it may be dropped from the setting.
    """
    from rich.console import Console

    from cli.erasure import alone
    from cli.features.waiting import wait_for
    from cli.progress import stage_progress
    from cli.rotation import RotationJob, key_of_store, stores_under_other_keys
    from offline.archive.target import open_target
    from services.common.log_removed import check_not_removed
    from services.feature.views.registry import registry_of

    console = Console(soft_wrap=True)
    names, spools, captured = pseudonymiser(), spool or [], captures or []
    archived = open_target(archive) if archive is not None else None
    with alone(log):
        job = RotationJob(log, names)
        served = _served(target, names)
        if key_of_store(store) != names.version:
            # The next store is filled from all of it.
            check_not_removed(log)
        registry_of(log).ask_for_key(names.version)
        with stage_progress(Console(stderr=True)) as progress:
            changed = job.rewrite_log(progress)
            if archived is not None:
                changed += job.rewrite_archive(archived, progress)
            changed += sum(job.rewrite_spool(directory) for directory in spools)
            renamed = sum(job.rewrite_captures(directory, progress) for directory in captured)
        console.print(f"{changed:,} records written anew under key {names.version}")
        if captured:
            console.print(f"{renamed:,} captured requests written anew")
        if served is not None:
            took_s, _ = wait_for(
                target,
                lambda found: (
                    found.store_key_version == names.version
                    and not stores_under_other_keys(store, names.version)
                ),
            )
            console.print(f"the store in force is under key {names.version}, after {took_s:.1f} s")
        with stage_progress(Console(stderr=True)) as progress:
            places = [store, *captured, *(search or [])]
            counted = job.count(places, spools, archived, progress)
    _show(console, counted, names)
    if not _explained(console, counted, names, key_of_store(store), target):
        raise typer.Exit(LEFT)


def _served(target: str, names: Pseudonymiser) -> Served | None:
    """What the feature service says; None where none answers.

    Raises ``FailedPrecondition`` (KEY_NOT_SERVED) for one that does not know the newest key.
    """
    from cli.features.client import feature_views
    from services.common.errors import DeadlinePassed, FailedPrecondition, Unavailable
    from services.common.pseudonym import SETTING

    try:
        with feature_views(target) as client:
            served = client.served()
    except (Unavailable, DeadlinePassed):
        return None
    if served.key_version != names.version:
        raise FailedPrecondition(
            f"the feature service at {target} writes under key {served.key_version}, the newest in"
            f" {SETTING} here is {names.version}: give all services both keys and start them anew",
            reason="KEY_NOT_SERVED",
        )
    return served


def _explained(
    console: Console,
    counted: Sequence[Counted],
    names: Pseudonymiser,
    store_key: int | None,
    target: str,
) -> bool:
    """Says what is left, and whether nothing is."""
    older = ", ".join(map(str, names.versions[:-1]))
    left = [place for place in counted if place.left(names)]
    if store_key != names.version:
        under = "under no key that it tells" if store_key is None else f"under key {store_key}"
        console.print(
            f"The store in force is {under}, and no feature service answers at {target}: start it,"
            " then run this again.",
            style="red",
        )
    for place in left:
        if place.waiting:
            console.print(f"{place.place}: {place.waiting:,} of them wait to be shipped")
    if left or store_key != names.version:
        console.print(f"Key {older} is still needed; run this again.", style="red")
        return False
    if older:
        console.print(f"Nothing is under key {older} any more: it may be dropped.")
    else:
        console.print("There is one key only: nothing to rotate.")
    return True


def _show(console: Console, counted: Sequence[Counted], names: Pseudonymiser) -> None:
    from rich.table import Table
    from rich.text import Text

    known = {version for place in counted for version in place.versions} | set(names.versions)
    table = Table(title="Pseudonyms by key", title_justify="left")
    table.add_column("looked at", overflow="fold")
    table.add_column("files or records", justify="right")
    for version in sorted(known):
        label = f"key {version}" if version in names.versions else f"key {version}, not there"
        table.add_column(label, justify="right")
    for place in counted:
        cells = (f"{place.versions[version]:,}" for version in sorted(known))
        table.add_row(Text(place.place), f"{place.looked_at:,}", *cells)
    console.print(table)
