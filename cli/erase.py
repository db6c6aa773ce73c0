"""``podium events erase``: who was erased goes from every file, and is searched for."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import (
    DEFAULT_DOMAIN,
    ArchiveOption,
    CapturesOption,
    DomainFile,
    LogArgument,
    SearchOption,
    SpoolOption,
    pseudonymiser,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from cli.search import Searched

LEFT = 1


def erase(
    log: LogArgument,
    *,
    store: Annotated[
        Path | None,
        typer.Option(
            help="Folder of the embedded feature store made of the log. Without it the erasures"
            " themselves stay in the log: another store may still have to read whom they name."
        ),
    ] = None,
    archive: ArchiveOption = None,
    spool: SpoolOption = None,
    captures: CapturesOption = None,
    search: SearchOption = None,
    domain_file: DomainFile = DEFAULT_DOMAIN,
) -> None:
    """Clear log, archive, spools and captures of who was erased by EraseUser, then search for what
    is left.

    Services may be running; what only a stopped one lets go of is told: then run it again. Every
    file is searched for the ids and for their pseudonyms under every key version that
    PODIUM_PSEUDONYM_KEYS holds. Exit code 1 while something is left.
    """
    from rich.console import Console

    from cli.erasure import ErasureJob, alone, compact_stores
    from offline.archive.target import open_target
    from services.common.domain import load_domain

    _require_folders("--captures", captures)
    _require_folders("--spool", spool)
    _require_folders("--search", search)
    console = Console(soft_wrap=True)
    target = open_target(archive) if archive is not None else None
    domain, names, spools = load_domain(domain_file), pseudonymiser(), spool or []
    with alone(log):
        job = ErasureJob(domain, log, target, names)
        if not job.count:
            console.print("nobody is to be forgotten who has not been")
            return
        changed = job.erase_records() + sum(job.erase_spool(directory) for directory in spools)
        removed = sum(job.remove_captures(directory) for directory in captures or [])
        # Looked at now: a store that is begun from here on meets nobody in the log.
        behind = job.behind(store) if store is not None else []
        compacted = store is None or compact_stores(log, store)
        places = [*([store] if store is not None else []), *(captures or []), *(search or [])]
        looked = job.look(places, spools)
        left = any(place.found for place in looked)
        if store is not None and not left and not behind:
            # Only now, since nobody knows any more afterwards whom to look for.
            job.erase_records(tombstones=True)
            looked = job.look(places, spools)
    console.print(f"{job.count:,} to be forgotten, {changed:,} records erased")
    if captures:
        console.print(f"{removed:,} captured requests removed")
    for path in behind:
        console.print(f"{path} has not applied the erasure yet: run this again", style="red")
    _show(console, looked)
    if left and not compacted:
        console.print(
            "A store's file keeps what was freed in it while the service runs: stop the service"
            " and run this again."
        )
    if left or behind:
        raise typer.Exit(LEFT)


def _require_folders(option: str, given: Sequence[Path] | None) -> None:
    """Raises ``NotFound``: nothing would be found in a folder that is not there."""
    from services.common.errors import NotFound

    for path in given or []:
        if not path.is_dir():
            raise NotFound(f"{option}: there is no folder {path}", reason="NO_FOLDER")


def _show(console: Console, looked: Sequence[Searched]) -> None:
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Searched for ids and pseudonyms", title_justify="left")
    table.add_column("searched", overflow="fold")
    for name in ("files", "bytes"):
        table.add_column(name, justify="right")
    table.add_column("found in", overflow="fold")
    for place in looked:
        names = ", ".join(path.name for path in place.found)
        table.add_row(
            Text(place.place), f"{place.files:,}", f"{place.bytes:,}", Text(names or "nothing")
        )
    console.print(table)
