"""``podium experiments import growthbook``: features of GrowthBook as an experiments file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.common.assign.assign import Definitions


def growthbook(
    payload: Annotated[
        Path, typer.Argument(help="The SDK endpoint's JSON: features, savedGroups.")
    ],
    out: Annotated[
        Path, typer.Argument(help="Experiments file to write; one that is there is refused.")
    ],
    *,
    replace: Annotated[
        bool, typer.Option("--replace", help="Replace the file, with all that it holds.")
    ] = False,
    unit: Annotated[
        list[str] | None,
        typer.Option(
            help="ATTRIBUTE=TYPE: where a request lacks the hash attribute, its unit of that type "
            "stands for it. May be given several times."
        ),
    ] = None,
) -> None:
    """Write GrowthBook's features as flags that give every user the same bucket and value."""
    import json

    from services.common.assign.definitions import load_experiments
    from services.common.assign.growthbook import imported
    from services.common.errors import ConfigError
    from services.common.yaml_config import yaml_text

    if out.exists() and not replace:
        raise typer.BadParameter(
            f"{out} is there: name another file, or --replace all that it holds", param_hint="OUT"
        )
    try:
        read = json.loads(payload.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(str(payload), 0, "", f"is no JSON: {error}") from error
    found = imported(read, dict(_pair(text) for text in unit or ()))
    out.parent.mkdir(parents=True, exist_ok=True)
    checked = out.with_name(out.name + ".partial")
    checked.write_text(yaml_text(found.file), encoding="utf-8")
    try:
        definitions = load_experiments(checked, None)
    except ConfigError as error:
        # What is wrong is in the payload: the file with these lines is not left behind.
        checked.unlink()
        raise ConfigError(str(payload), 0, error.field, error.description) from error
    checked.replace(out)
    _show(definitions, found.left_out, out)


def _pair(text: str) -> tuple[str, str]:
    attribute, separator, kind = text.partition("=")
    if not (attribute and separator and kind):
        raise typer.BadParameter(f"{text!r} is not ATTRIBUTE=TYPE", param_hint="--unit")
    return attribute, kind


def _show(definitions: Definitions, left_out: list[str], out: Path) -> None:
    from rich.table import Table

    from cli.console import wide_console

    console = wide_console()
    table = Table(title=f"{len(definitions.flags)} flags in {out}")
    for column in ("flag", "rules", "experiments", "hashed by"):
        table.add_column(column)
    for key, flag in definitions.flags.items():
        run = [rule.experiment for rule in flag.rules if rule.experiment is not None]
        table.add_row(
            key,
            str(len(flag.rules)),
            ", ".join(dict.fromkeys(experiment.key for experiment in run)),
            ", ".join(dict.fromkeys(f"{e.unit} ({e.hash})" for e in run)),
        )
    console.print(table)
    for reason in left_out:
        console.print(f"left out: {reason}", markup=False, highlight=False)
