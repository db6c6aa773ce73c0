"""``podium experiments``: what is defined, what becomes of it, and what is brought in."""

from __future__ import annotations

import typer

from cli.experiments import bulk, growthbook, lifecycle, looking


def register(app: typer.Typer) -> None:
    """Adds ``podium experiments`` with its sub-commands."""
    experiments = typer.Typer(
        no_args_is_help=True, help="Experiments: their definitions and their life in the registry."
    )
    for command in (looking, lifecycle, bulk):
        command.register(experiments)
    brought = typer.Typer(no_args_is_help=True, help="Bring in definitions of another system.")
    brought.command()(growthbook.growthbook)
    experiments.add_typer(brought, name="import")
    app.add_typer(experiments, name="experiments")
