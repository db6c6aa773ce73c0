"""``podium evaluate`` ranks a split; ``podium evaluate off-policy`` estimates from a log."""

from __future__ import annotations

from typing import Any

import typer
from typer.core import TyperGroup

from cli.evaluate.off_policy import off_policy
from cli.evaluate.ranking import ranking

_DEFAULT = "ranking"


class RankingByDefault(TyperGroup):
    """A group whose options alone, without the name of a command, mean ``ranking``."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Puts ``ranking`` before options that are not the group's own."""
        if args and args[0].startswith("-") and args[0] not in ctx.help_option_names:
            args = [_DEFAULT, *args]
        parsed: list[str] = super().parse_args(ctx, args)
        return parsed


def register(app: typer.Typer) -> None:
    """Adds ``podium evaluate`` with its sub-commands."""
    evaluate = typer.Typer(
        cls=RankingByDefault,
        no_args_is_help=True,
        help="How well a bundle ranks (ranking, the default), or what another policy would have"
        " earned (off-policy).",
    )
    evaluate.command(_DEFAULT)(ranking)
    evaluate.command("off-policy")(off_policy)
    app.add_typer(evaluate, name="evaluate")
