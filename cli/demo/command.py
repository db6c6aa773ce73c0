"""``podium demo`` runs the whole loop once and ends; ``podium up`` leaves the services running."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

PORTS = {"feature": 50051, "ranker": 50052, "experiment": 50053}
Users = Annotated[int, typer.Option(help="Users of the simulated world.")]
Weeks = Annotated[int, typer.Option(help="Length of its past, in weeks.")]
Courses = Annotated[int, typer.Option(help="Courses at its start.")]
Seed = Annotated[int, typer.Option(help="Seed of all chance.")]
Directory = Annotated[Path, typer.Option("--dir", help="Where it all lies; emptied first.")]
SetupSeconds = Annotated[
    float, typer.Option(help="Time the set-up took, for the table of times.", hidden=True)
]


def register(app: typer.Typer) -> None:
    """Adds ``demo`` and ``up`` to the command."""

    @app.command()
    def demo(
        directory: Directory = Path("data/demo"),
        users: Users = 1_200,
        weeks: Weeks = 5,
        courses: Courses = 400,
        seed: Seed = 1,
        setup_seconds: SetupSeconds = 0.0,
    ) -> None:
        """The whole loop in one run: simulate, train, serve, rank, feed back, rank again."""
        from cli.demo.loop import Loop, World
        from cli.demo.processes import free_port
        from cli.demo.show import show

        ports = {name: free_port() for name in PORTS}
        with Loop(directory, World(users, weeks, courses, seed), ports) as loop:
            if setup_seconds:
                loop.parts["set-up"] = setup_seconds
            loop.build()
            loop.serve()
            show(loop)
        loop.print_parts()

    @app.command()
    def up(
        directory: Directory = Path("data/up"),
        users: Users = 1_200,
        weeks: Weeks = 5,
        courses: Courses = 400,
        seed: Seed = 1,
        feature_port: Annotated[int, typer.Option(help="Of the feature service.")] = PORTS[
            "feature"
        ],
        ranker_port: Annotated[int, typer.Option(help="Of the ranker.")] = PORTS["ranker"],
        experiment_port: Annotated[int, typer.Option(help="Of the experiment service.")] = PORTS[
            "experiment"
        ],
    ) -> None:
        """Simulate, train and serve; the services stay until Ctrl-C or SIGTERM."""
        from cli.demo.loop import Loop, World

        ports = {"feature": feature_port, "ranker": ranker_port, "experiment": experiment_port}
        with Loop(directory, World(users, weeks, courses, seed), ports) as loop:
            loop.build()
            loop.serve()
            loop.stay()
