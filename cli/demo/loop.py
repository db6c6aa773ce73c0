"""Builds everything the services need in one directory, and runs them."""

from __future__ import annotations

import shutil
import signal
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cli.console import wide_console
from cli.demo.client import Client, Targets
from cli.demo.processes import Services, demo_environment, run
from cli.demo.view import print_parts
from cli.options import DEFAULT_DOMAIN, pseudonymiser
from cli.progress import stage_progress
from offline.simulator.live import LiveWorld
from offline.simulator.parameters import WorldParameters
from offline.simulator.simulate import simulate
from services.common.domain import load_domain
from services.common.errors import FailedPrecondition, Unavailable

MARKER = ".podium"
READY_TIMEOUT_SECONDS = 180.0


_EVALUATED_REQUESTS = 150
"""Enough to see whether the loop closes; each is asked over a catalogue of its own moment."""


@dataclass(frozen=True)
class World:
    """Size and seed of the simulated world."""

    users: int
    weeks: int
    courses: int
    seed: int


class Loop:
    """One run of the loop. As a context manager it stops what it started."""

    def __init__(self, directory: Path, world: World, ports: Mapping[str, int]) -> None:
        self.console = wide_console()
        self.directory = directory
        self.parts: dict[str, float] = {}
        self.domain = load_domain(DEFAULT_DOMAIN)
        self._world = world
        self._ports = dict(ports)
        self._environment = demo_environment(directory, ports)
        self._services = Services(self._environment, directory / "output")
        self._live: LiveWorld | None = None

    def __enter__(self) -> Loop:
        signal.signal(signal.SIGTERM, _interrupt)
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        with self.part("stop"):
            failed = self._services.stop()
        if failed and kind is None:
            raise Unavailable(failed)

    @property
    def live(self) -> LiveWorld:
        """The simulated world, going on from where its log ends."""
        if self._live is None:
            raise FailedPrecondition("the world has not been simulated yet")
        return self._live

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Measures one part."""
        self.console.rule(name)
        started = time.monotonic()
        try:
            yield
        finally:
            self.parts[name] = self.parts.get(name, 0.0) + time.monotonic() - started

    def build(self) -> None:
        """Simulates, then builds the dataset and trains while the feature service catches up."""
        _make_empty(self.directory)
        with self.part("simulate"):
            self._simulate()
        self._services.start("feature")
        self._services.start("experiment")
        log, dataset = str(self.directory / "log"), str(self.directory / "dataset")
        with self.part("dataset"):
            run(["dataset", "--log", log, "--out", dataset], self._environment)
        bundles = str(self.directory / "bundles")
        with self.part("train and publish"):
            run(
                ["train", "--dataset", dataset, "--bundles", bundles, "--promote"],
                self._environment,
            )

    def evaluate(self) -> None:
        """Prints the offline metrics of the bundle."""
        options = {"--log": "log", "--dataset": "dataset", "--bundles": "bundles"}
        arguments = [
            part for name, at in options.items() for part in (name, str(self.directory / at))
        ]
        run(["evaluate", *arguments, "--requests", str(_EVALUATED_REQUESTS)], self._environment)

    def compare_served(self) -> None:
        """Prints how features as they were served differ from the offline tables.

        Raises ``Unavailable`` when any does.
        """
        run(["features", "diff", "--log", str(self.directory / "log")], self._environment)

    def serve(self) -> None:
        """Starts the services that are not running yet and waits until all are SERVING."""
        with self.part("start the services"):
            self._services.start("ranker")
            for name in self._ports:
                self._services.wait_ready(name, self.target(name), READY_TIMEOUT_SECONDS)
                self.console.print(f"{name} serves on {self.target(name)}")

    def stay(self) -> None:
        """Says how to call the services, and waits for Ctrl-C, SIGTERM or the end of one."""
        ranker = self.target("ranker")
        user = self.live.users[0]
        self.console.print(
            f"\nRunning until Ctrl-C. Output: {self.directory / 'output'}. Try:\n"
            f'  grpcurl -plaintext -d \'{{"actor": {{"user_id": "{user}"}}, "surface": "courses", '
            f'"k": 5}}\' {ranker} podium.ranker.v1.RankerService/Rank',
            soft_wrap=True,
            markup=False,
            highlight=False,
        )
        try:
            self.console.print(f"{self._services.wait_any()} ended", style="red")
        except KeyboardInterrupt:
            self.console.print("stopping")

    def target(self, name: str) -> str:
        """host:port of a service."""
        return f"localhost:{self._ports[name]}"

    def client(self) -> Client:
        """A client of the three services."""
        targets = Targets(*(self.target(name) for name in ("feature", "ranker", "experiment")))
        return Client(self.domain, targets)

    def print_parts(self) -> None:
        """Prints how long each part took."""
        print_parts(self.console, self.parts)

    def _simulate(self) -> None:
        parameters = WorldParameters(
            end_ms=int(time.time() * 1_000),
            weeks=self._world.weeks,
            users=self._world.users,
            courses=self._world.courses,
            seed=self._world.seed,
            currency=self.domain.currency,
        )
        names = pseudonymiser()
        with stage_progress(self.console) as progress:
            summary = simulate(
                parameters,
                self.directory / "log",
                name_ids=names.encrypt,
                config_hash=self.domain.config_hash,
                truth_directory=self.directory / "truth",
                progress=progress,
            )
        self._live = LiveWorld(summary.world, run=f"live-{parameters.end_ms}")
        self.console.print(
            f"{summary.events:,} events of {len(summary.by_type)} kinds over {parameters.weeks} "
            f"weeks; {summary.live_rooms} rooms are on air"
        )


def _make_empty(directory: Path) -> None:
    """Empties a directory of an earlier run; refuses one that holds anything else.

    Raises ``FailedPrecondition`` naming it.
    """
    if directory.exists() and any(directory.iterdir()):
        if not (directory / MARKER).exists():
            raise FailedPrecondition(f"{directory} is not empty and was not made by this command")
        shutil.rmtree(directory)
    directory.mkdir(parents=True, exist_ok=True)
    (directory / MARKER).touch()


def _interrupt(_signal: int, _frame: FrameType | None) -> Any:
    raise KeyboardInterrupt
