"""The ``podium`` command: one module of this package a sub-command."""

from __future__ import annotations

import sys
from typing import NoReturn

import typer
from rich.console import Console

from cli import (
    analyse,
    bundle,
    dataset,
    demo,
    evaluate,
    events,
    experiments,
    explain,
    features,
    import_,
    keys,
    power,
    replay,
    serve,
    simulate,
    train,
)
from services.common.errors import PodiumError

USAGE_ERROR = 2


def build() -> typer.Typer:
    """The command with all its sub-commands."""
    app = typer.Typer(
        name="podium",
        help="Ranking, features and experiments for a live-streaming app that sells courses.",
        no_args_is_help=True,
        pretty_exceptions_show_locals=False,
        rich_markup_mode=None,
    )
    for command in (
        simulate,
        import_,
        events,
        features,
        keys,
        dataset,
        train,
        bundle,
        evaluate,
        experiments,
        power,
        analyse,
        explain,
        replay,
        serve,
        demo,
    ):
        command.register(app)
    return app


def app() -> None:
    """Runs the command; a known error ends as one line on standard error and exit code 2.

    So does a file or directory that can't be read or written.
    """
    try:
        build()()
    except PodiumError as error:
        _end(error.message)
    except OSError as error:
        if error.filename is None:
            raise
        _end(f"{error.filename}: {error.strerror}")


def _end(message: str) -> NoReturn:
    Console(stderr=True, soft_wrap=True).print(
        f"error: {message}", style="red", markup=False, highlight=False
    )
    sys.exit(USAGE_ERROR)


if __name__ == "__main__":
    app()
