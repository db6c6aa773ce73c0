"""``podium experiments list|show|audit``: what the registry has."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from cli.experiments.options import DEFAULT_TARGET, Caller, Key, Target, TokenFile, registry

if TYPE_CHECKING:
    from cli.experiments.client import Shown, Told


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command("list")(list_experiments)
    app.command()(show)
    app.command()(audit)


def list_experiments(
    *,
    state: Annotated[
        list[str] | None,
        typer.Option(
            help="draft, running, paused, concluded or archived; may be repeated. All but archived "
            "ones by default."
        ),
    ] = None,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """List experiments with their states."""
    from cli.experiments.client import STATES

    for name in state or ():
        if name not in STATES:
            raise typer.BadParameter(
                f"{name!r} is not one of {', '.join(STATES)}", param_hint="--state"
            )
    with registry(target, caller, token_file) as client:
        _print_list(client.find(state or ()), target)


def show(
    key: Key,
    *,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Show an experiment and its definition, as create and update take it."""
    import json

    from cli.console import wide_console
    from services.common.yaml_config import yaml_text

    with registry(target, caller, token_file) as client:
        found = client.get(key)
    print_one(found)
    console = wide_console()
    console.print(
        yaml_text(json.loads(found.definition)), markup=False, highlight=False, soft_wrap=True
    )


def audit(
    key: Annotated[str, typer.Argument(help="Key of one experiment; all by default.")] = "",
    *,
    limit: Annotated[int, typer.Option(min=1, max=1_000, help="Most entries to show.")] = 50,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Show who changed what, and when, the newest first."""
    with registry(target, caller, token_file) as client:
        _print_audit(client.audit(key, limit))


def print_one(found: Shown) -> None:
    """An experiment as a table of two columns."""
    from rich.table import Table

    from cli.console import wide_console

    table = Table(title=found.key, show_header=False)
    outcome = found.winner + (", rolled out to all" if found.rolled_out else "")
    for name, value in (
        ("state", found.state),
        ("version", str(found.version)),
        ("revision in force", str(found.revision)),
        ("description", found.description),
        ("created", found.created),
        ("started", found.started),
        ("concluded", found.concluded),
        ("changed last", found.updated),
        ("winner", outcome),
    ):
        if value:
            table.add_row(name, value)
    wide_console().print(table, markup=False)


def _print_list(found: list[Shown], target: str) -> None:
    from rich.table import Table

    from cli.console import wide_console

    table = Table(title=f"Experiments at {target}: {len(found)}")
    for column in ("experiment", "state", "version", "started", "concluded", "winner", "about"):
        table.add_column(column)
    for one in found:
        table.add_row(
            one.key,
            one.state,
            str(one.version),
            one.started,
            one.concluded,
            one.winner + (" (all)" if one.rolled_out else ""),
            one.description,
        )
    wide_console().print(table, markup=False)


def _print_audit(entries: list[Told]) -> None:
    from rich.table import Table

    from cli.console import wide_console

    table = Table(title=f"Changes, the newest first: {len(entries)}")
    for column in ("when", "who", "what", "of", "version", "state", "fields, remarks"):
        table.add_column(column)
    for entry in entries:
        states = (entry.state_before, entry.state_after)
        same = states[0] == states[1]
        table.add_row(
            entry.at,
            entry.caller or "?",
            entry.action,
            f"{entry.kind} {entry.key}".rstrip(),
            f"{entry.version_before or '-'} > {entry.version_after or '-'}",
            states[1] if same else f"{states[0] or '-'} > {states[1] or '-'}",
            "; ".join(filter(None, (", ".join(entry.changed_fields), entry.remark))),
        )
    wide_console().print(table, markup=False)
