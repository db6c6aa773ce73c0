"""Options that the commands over the registry share."""

from __future__ import annotations

import getpass
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cli.experiments.client import RegistryClient

Target = Annotated[str, typer.Option(help="Where the experiment service listens, HOST:PORT.")]
DEFAULT_TARGET = "localhost:50053"
Caller = Annotated[
    str | None,
    typer.Option("--as", help="Name to call by, in development; that of the login by default."),
]
TokenFile = Annotated[Path | None, typer.Option(help="File with the token to call by.")]
Key = Annotated[str, typer.Argument(help="Key of the experiment.")]
Version = Annotated[
    int | None,
    typer.Option(
        "--version",
        help="Version that the change is made for; that in force by default. Give the one that you "
        "looked at, and nobody else's change is overwritten.",
    ),
]


@contextmanager
def registry(target: str, caller: str | None, token_file: Path | None) -> Iterator[RegistryClient]:
    """A client as the options say."""
    from cli.experiments.client import registry_at

    token = token_file.read_text(encoding="utf-8").strip() if token_file is not None else ""
    with registry_at(target, caller if caller is not None else getpass.getuser(), token) as client:
        yield client
