"""``podium events``: the event log looked into, archived, exported and cleared of the erased."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.erase import erase
from cli.options import LogArgument, LogOption, epoch_ms
from services.common.actor import actor_key

if TYPE_CHECKING:
    from rich.console import Console

    from offline.archive.source import EventFilter, EventSource
    from offline.archive.summary import Summary

DAMAGED = 1
_PSEUDONYM_WIDTH = 38
_ROW_WIDTH = 160

_Source = Annotated[
    str, typer.Argument(help="Folder of the event log, or an archive: folder or s3://bucket/path.")
]
_Types = Annotated[
    list[str] | None, typer.Option("--type", help="Only events of this type; may be repeated.")
]
_From = Annotated[
    str | None, typer.Option("--from", help="Only what arrived at this time or later: ISO 8601.")
]
_Until = Annotated[str | None, typer.Option("--until", help="Only what arrived before this time.")]


def register(app: typer.Typer) -> None:
    """Adds ``podium events`` with its sub-commands."""
    events = typer.Typer(
        no_args_is_help=True, help="Look into, archive, export, clear and restore the event log."
    )
    events.command()(compact)
    events.command()(inspect)
    events.command()(export)
    events.command()(restore)
    events.command()(erase)
    app.add_typer(events, name="events")


def compact(
    log: LogArgument,
    *,
    to: Annotated[str, typer.Option("--to", help="Archive: a folder or s3://bucket/path.")],
    remove_archived: Annotated[
        bool,
        typer.Option(
            "--remove-archived",
            help="Remove segments that are archived and applied; needs --store.",
        ),
    ] = False,
    store: Annotated[
        Path | None, typer.Option(help="Folder of the feature stores that are made of the log.")
    ] = None,
) -> None:
    """Bring an archive, Parquet by UTC date of arrival, up to the end of the log.

    Exit code 1 when the archive lacks something: records of the log that are damaged, or a file.
    """
    from rich.console import Console

    from cli.progress import stage_progress
    from offline.archive.compact import compact_log
    from offline.archive.remove import remove_archived as remove
    from offline.archive.target import open_target
    from services.common.errors import InvalidArgument

    if remove_archived and store is None:
        raise InvalidArgument.field(
            "store", "--remove-archived removes only what a store has applied; name its folder"
        )
    console = Console()
    target = open_target(to)
    with stage_progress(console) as progress:
        report = compact_log(log, target, progress=progress)
    manifest = report.manifest
    files = sum(len(batch.files) for batch in manifest.batches)
    console.print(
        f"{report.records:,} records archived; {target.url} holds {manifest.records:,} in"
        f" {files:,} files, up to arrival {report.next_arrival:,}"
    )
    if remove_archived and store is not None:
        position = _applied_position(store, log)
        with stage_progress(console) as progress:
            removed = remove(log, target, position, progress=progress)
        console.print(f"{len(removed):,} segments removed from {log}")
    if report.lacks:
        _show_damage(console, report.lacks)
        raise typer.Exit(DAMAGED)


def inspect(
    source: _Source,
    *,
    types: _Types = None,
    actor: Annotated[
        str | None, typer.Option(help="Only events of this user or device, a pseudonym.")
    ] = None,
    entity: Annotated[
        str | None, typer.Option(help="Only events about this entity, TYPE:ID.")
    ] = None,
    rank_id: Annotated[str | None, typer.Option(help="Only events that name this rank_id.")] = None,
    from_: _From = None,
    until: _Until = None,
    limit: Annotated[int, typer.Option(min=0, help="Most events that are shown.")] = 20,
) -> None:
    """Count what a log or an archive holds, and show the first events.

    Exit code 1 when something in it is damaged or missing.
    """
    from cli.console import wide_console
    from cli.progress import stage_progress
    from offline.archive.source import open_source
    from offline.archive.summary import Summary

    wanted = _filter(types, from_, until, actor, entity, rank_id)
    found = open_source(source)
    console = wide_console(_ROW_WIDTH)
    summary = Summary()
    with stage_progress(console) as progress:
        for table in found.tables(wanted, progress):
            summary.add(table, limit)
    _show_summary(console, found, summary)
    if summary.rows:
        _show_rows(console, summary)
    if found.damage() or summary.unreadable:
        raise typer.Exit(DAMAGED)


def export(
    source: _Source,
    *,
    to: Annotated[Path, typer.Option("--to", help="New file, .parquet or .jsonl.")],
    types: _Types = None,
    from_: _From = None,
    until: _Until = None,
    replace: Annotated[bool, typer.Option("--replace", help="Replace the file.")] = False,
) -> None:
    """Write events as one flat file; ids stay pseudonyms.

    Exit code 1 when something in the log or archive is damaged or missing.
    """
    from rich.console import Console

    from cli.progress import stage_progress
    from offline.archive.export import export_events
    from offline.archive.source import open_source
    from services.common.errors import InvalidArgument

    if to.exists() and not replace:
        raise InvalidArgument.field("to", f"{to} is there: name another file, or --replace it")
    console = Console()
    found = open_source(source)
    with stage_progress(console) as progress:
        written = export_events(found, to, _filter(types, from_, until), progress=progress)
    console.print(f"{written:,} events written to {to}")
    if damage := found.damage():
        _show_damage(console, damage)
        raise typer.Exit(DAMAGED)


def restore(
    archive: Annotated[str, typer.Argument(help="Archive: a folder or s3://bucket/path.")],
    *,
    log: LogOption,
) -> None:
    """Bring records that were removed from the front of a log back from its archive.

    Exit code 1 when the archive lacks some of them.
    """
    from rich.console import Console

    from cli.progress import stage_progress
    from offline.archive.restore import restore_log
    from offline.archive.target import open_target

    console = Console()
    with stage_progress(console) as progress:
        restored = restore_log(open_target(archive), log, progress=progress)
    console.print(f"{restored.records:,} records restored to {log}")
    if restored.gaps:
        _show_damage(console, [str(gap) for gap in restored.gaps])
        raise typer.Exit(DAMAGED)


def _filter(
    types: list[str] | None,
    from_: str | None,
    until: str | None,
    actor: str | None = None,
    entity: str | None = None,
    rank_id: str | None = None,
) -> EventFilter:
    from offline.archive.source import EventFilter
    from services.common.errors import InvalidArgument

    named = None
    if entity is not None:
        kind, separator, identity = entity.partition(":")
        if not (kind and separator and identity):
            raise InvalidArgument.field("entity", f"{entity!r} is not TYPE:ID")
        named = (kind, identity)
    return EventFilter(
        types=tuple(types or ()),
        actor=actor,
        entity=named,
        rank_id=rank_id,
        from_us=None if from_ is None else epoch_ms("from", from_) * 1_000,
        to_us=None if until is None else epoch_ms("until", until) * 1_000,
    )


def _applied_position(directory: Path, log_dir: Path) -> int:
    """Arrival up to which every store in the directory has applied the log, of which each must be
    made: the one in force, and one that is being filled beside it. Raises ``NotFound`` without
    a store, ``FailedPrecondition`` (OTHER_LOG) for one made of another log."""
    from cli.erasure import stores_in
    from services.common.errors import FailedPrecondition
    from services.feature.applying.apply import digest_before
    from services.feature.applying.process import log_salvage
    from services.feature.store.embedded import EmbeddedStore

    positions = []
    for path in stores_in(directory):
        store = EmbeddedStore(path, read_only=True)
        try:
            with store.read() as view:
                positions.append(view.position())
                end, digest = view.last_record()
        finally:
            store.close()
        if digest_before(log_dir, end, log_salvage(log_dir)) != digest:
            raise FailedPrecondition(
                f"the store in {path} was not made of {log_dir}", reason="OTHER_LOG"
            )
    return min(positions)


def _show_summary(console: Console, source: EventSource, summary: Summary) -> None:
    from rich.table import Table

    files, size_bytes = source.parts()
    console.print(
        f"{source.kind} {source.place}: {files:,} files, {size_bytes / 1e6:,.1f} MB", markup=False
    )
    if summary.arrivals is None:
        console.print("no events")
    else:
        facts = Table(show_header=False, box=None, padding=(0, 2, 0, 0))
        facts.add_row("events", f"{summary.events:,}")
        facts.add_row("arrivals", f"{summary.arrivals[0]:,} to {summary.arrivals[1]:,}")
        for name, span in (("arrived", summary.arrival_times), ("happened", summary.event_times)):
            if span is not None:
                facts.add_row(name, " to ".join(_time(moment) for moment in span))
        facts.add_row("duplicates", f"{summary.duplicates:,}")
        facts.add_row("too late", f"{summary.too_late:,}")
        facts.add_row("no event", f"{summary.unreadable:,}")
        console.print(facts)
        counts = Table("type", title="By type", title_justify="left")
        counts.add_column("count", justify="right")
        for name, count in sorted(summary.by_type.items(), key=lambda pair: (-pair[1], pair[0])):
            counts.add_row(name, f"{count:,}")
        console.print(counts)
    if damage := source.damage():
        _show_damage(console, damage)
    else:
        console.print("nothing is damaged or missing")


def _show_damage(console: Console, damage: list[str]) -> None:
    for found in damage:
        console.print(found, style="red", markup=False, highlight=False, soft_wrap=True)


def _show_rows(console: Console, summary: Summary) -> None:
    from rich import box
    from rich.table import Table
    from rich.text import Text

    title = f"The first {len(summary.rows):,} events"
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    table.add_column("arrival", justify="right", no_wrap=True)
    table.add_column("arrived", no_wrap=True)
    table.add_column("after", justify="right", no_wrap=True)
    table.add_column("type", overflow="fold")
    table.add_column("actor", overflow="fold", min_width=_PSEUDONYM_WIDTH)
    table.add_column("about", overflow="fold")
    for name in ("rank_id", "seen at", "marks"):
        table.add_column(name, overflow="fold")
    for row in summary.rows:
        position = "" if row["position"] is None else f" #{row['position']}"
        marks = [name for name in ("duplicate", "too_late") if row[name]]
        cells = (
            str(row["arrival"]),
            _time(row["arrival_time"]),
            _delay(row["event_time"], row["arrival_time"]),
            row["type"] or "(no event)",
            actor_key(row["user_id"] or "", row["device_id"] or ""),
            " ".join(f"{entity['type']}:{entity['id']}" for entity in row["entities"] or ()),
            row["rank_id"] or "",
            (row["surface"] or "") + position,
            " ".join(marks),
        )
        # What events say is no markup.
        table.add_row(*(Text(cell) for cell in cells))
    console.print(table)


def _time(moment: datetime | None) -> str:
    return "" if moment is None else moment.strftime("%Y-%m-%d %H:%M:%S")


def _delay(happened: datetime | None, arrived: datetime | None) -> str:
    """How long after it happened an event arrived, in its largest unit."""
    if happened is None or arrived is None:
        return ""
    seconds = (arrived - happened).total_seconds()
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if abs(seconds) >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"
