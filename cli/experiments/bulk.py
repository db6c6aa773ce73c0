"""``podium experiments apply|kill-switch``: everything at once."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from cli.experiments.options import DEFAULT_TARGET, Caller, Target, TokenFile, registry


class Switch(Enum):
    """Whether everything is off."""

    ON = "on"
    OFF = "off"


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    app.command()(apply)
    app.command("kill-switch")(kill_switch)


def apply(
    file: Annotated[
        Path, typer.Argument(help="Experiments file, YAML.", exists=True, dir_okay=False)
    ],
    *,
    remove: Annotated[
        list[str] | None,
        typer.Option(help="KIND:KEY of a flag, layer or saved_group to remove; may be repeated."),
    ] = None,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Bring an experiments file into the registry, whole or not at all.

    What the file does not name stays as it is. Experiments that are new begin as running and killed
    say; the state of others is changed by start, pause and so on.
    """
    from services.common.assign.definitions import ExperimentsFile
    from services.common.yaml_config import load_yaml

    gone = [_named(text) for text in remove or ()]
    read = load_yaml(file, ExperimentsFile).model_dump(mode="json", exclude_unset=True)
    with registry(target, caller, token_file) as client:
        done = client.put(read, gone, client.registry_version())
    _show([("changed", *name) for name in done.changed] + [("removed", *n) for n in done.removed])


def kill_switch(
    state: Annotated[Switch, typer.Argument(help="on: no experiment assigns anybody.")],
    *,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Turn all experiments off at once, or on again."""
    with registry(target, caller, token_file) as client:
        client.switch(state is Switch.ON)
    typer.echo("all experiments are off" if state is Switch.ON else "experiments are on again")


def _named(text: str) -> tuple[str, str]:
    kind, separator, key = text.partition(":")
    if not (kind and separator and key):
        raise typer.BadParameter(f"{text!r} is not KIND:KEY", param_hint="--remove")
    return kind, key


def _show(rows: list[tuple[str, str, str]]) -> None:
    from rich.table import Table

    from cli.console import wide_console

    table = Table(title=f"Definitions: {len(rows)}" if rows else "nothing has changed")
    for column in ("what", "kind", "key"):
        table.add_column(column)
    for row in rows:
        table.add_row(*row)
    wide_console().print(table, markup=False)
