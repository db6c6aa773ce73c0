"""``podium experiments create|update|start|ramp|pause|resume|conclude|archive``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli.experiments.looking import print_one
from cli.experiments.options import (
    DEFAULT_TARGET,
    Caller,
    Key,
    Target,
    TokenFile,
    Version,
    registry,
)
from cli.options import epoch_ms

if TYPE_CHECKING:
    from cli.experiments.client import RegistryClient, Shown

Definition = Annotated[
    Path,
    typer.Argument(
        help="YAML of what an experiments file has under the key, without running, killed and "
        "revision.",
        exists=True,
        dir_okay=False,
    ),
]


def register(app: typer.Typer) -> None:
    """Adds the commands."""
    for command in (create, update, start, ramp, pause, resume, conclude, archive):
        app.command()(command)


def create(
    key: Key,
    definition: Definition,
    *,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Make an experiment, a draft."""
    read = _definition(definition)
    with registry(target, caller, token_file) as client:
        print_one(client.create(key, read))


def update(
    key: Key,
    definition: Definition,
    *,
    version: Version = None,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Change the definition of an experiment that is not concluded.

    Of a running one what would move its units is refused.
    """
    read = _definition(definition)
    with registry(target, caller, token_file) as client:
        _change(client, key, version, lambda seen: client.update(key, seen, read))


def start(
    key: Key,
    *,
    version: Version = None,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Start a draft."""
    with registry(target, caller, token_file) as client:
        _change(client, key, version, lambda seen: client.start(key, seen))


def ramp(
    key: Key,
    coverage: Annotated[
        float, typer.Argument(min=0, max=1, help="Share of units that take part from now on.")
    ],
    *,
    step: Annotated[
        list[str] | None,
        typer.Option(help="TIME=SHARE: another share from then on; may be repeated, in order."),
    ] = None,
    version: Version = None,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Set how many units take part, now and later; raising it moves none."""
    steps = [_step(text) for text in step or ()]
    with registry(target, caller, token_file) as client:
        _change(client, key, version, lambda seen: client.ramp(key, seen, coverage, steps))


def pause(
    key: Key,
    *,
    version: Version = None,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Take everybody out for now; the experiment keeps its place in its layer."""
    with registry(target, caller, token_file) as client:
        _change(client, key, version, lambda seen: client.pause(key, seen))


def resume(
    key: Key,
    *,
    version: Version = None,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Go on after a pause: every unit has the variant that it had."""
    with registry(target, caller, token_file) as client:
        _change(client, key, version, lambda seen: client.resume(key, seen))


def conclude(
    key: Key,
    *,
    winner: Annotated[str, typer.Option(help="Variant that won; none by default.")] = "",
    roll_out: Annotated[
        bool, typer.Option("--roll-out", help="Give everybody the winner, the holdout aside.")
    ] = False,
    version: Version = None,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """End an experiment. Without --roll-out nobody is in it any more."""
    with registry(target, caller, token_file) as client:
        _change(client, key, version, lambda seen: client.conclude(key, seen, winner, roll_out))


def archive(
    key: Key,
    *,
    version: Version = None,
    target: Target = DEFAULT_TARGET,
    caller: Caller = None,
    token_file: TokenFile = None,
) -> None:
    """Take a draft or a concluded experiment out of the definitions, for good."""
    with registry(target, caller, token_file) as client:
        _change(client, key, version, lambda seen: client.archive(key, seen))


def _change(
    client: RegistryClient, key: str, version: int | None, change: Callable[[int], Shown]
) -> None:
    print_one(change(version if version is not None else client.get(key).version))


def _definition(path: Path) -> dict[str, Any]:
    from services.common.assign.definitions import DraftDefinition
    from services.common.yaml_config import load_yaml

    return load_yaml(path, DraftDefinition).model_dump(mode="json", exclude_unset=True)


def _step(text: str) -> tuple[int, float]:
    moment, separator, share = text.rpartition("=")
    try:
        if separator:
            return epoch_ms("--step", moment), float(share)
    except ValueError as error:
        raise typer.BadParameter(f"{share!r} is no share", param_hint="--step") from error
    raise typer.BadParameter(f"{text!r} is not TIME=SHARE", param_hint="--step")
