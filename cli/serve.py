"""``podium serve``: runs one service, or all three as child processes."""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from queue import Empty, SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperCommand

if TYPE_CHECKING:
    from services.common.settings import CommonSettings

# In the order they stop: the ranker ships its last events to the feature service first.
SERVICES = ("ranker", "experiment", "feature")
_KILL_MARGIN_S = 10.0
_SIGNAL_LOOK_S = 0.2


def register(app: typer.Typer) -> None:
    """Adds ``serve`` to the command."""
    serve = typer.Typer(
        help="Run a service, or all of them; settings come from the environment.",
        no_args_is_help=True,
        rich_markup_mode=None,
    )
    serve.command("feature", cls=_ServiceCommand)(_feature)
    serve.command("ranker", cls=_ServiceCommand)(_ranker)
    serve.command("experiment", cls=_ServiceCommand)(_experiment)
    serve.command("all", cls=_ServiceCommand)(_all)
    app.add_typer(serve, name="serve")


class _ServiceCommand(TyperCommand):
    """A command whose help ends with every setting: variable, default, sentence."""

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """Writes the settings below the options."""
        from services.common.settings import describe_settings

        names = SERVICES if self.name == "all" else (self.name or "",)
        rows: dict[str, str] = {}
        for name in names:
            for setting in describe_settings(_settings_of(name)):
                rows[setting.variable] = f"{setting.sentence} [default: {setting.default}]"
        with formatter.section("Settings, from the environment"):
            formatter.write_dl(list(rows.items()))
        super().format_epilog(ctx, formatter)


def _feature() -> None:
    """Run the feature service until SIGTERM."""
    from services.common.settings import FeatureSettings, load_settings
    from services.feature.bootstrap import run

    run(load_settings(FeatureSettings))


def _ranker() -> None:
    """Run the ranker until SIGTERM."""
    from services.common.settings import RankerSettings, load_settings
    from services.ranker.bootstrap import run

    run(load_settings(RankerSettings))


def _experiment() -> None:
    """Run the experiment service until SIGTERM."""
    from services.common.settings import ExperimentSettings, load_settings
    from services.experiment.bootstrap import run

    run(load_settings(ExperimentSettings))


def _all() -> None:
    """Run the three services as child processes until SIGTERM, or until one of them ends."""
    from services.common.settings import CommonSettings, load_settings

    settings = load_settings(CommonSettings)
    patience_s = settings.drain_seconds + settings.lame_duck_seconds + _KILL_MARGIN_S
    group = ServiceProcesses(patience_s=patience_s)
    raise typer.Exit(group.run_until_signalled())


def _module_command(name: str) -> Sequence[str]:
    return [sys.executable, "-m", f"services.{name}"]


class ServiceProcesses:
    """The three services as child processes.

    Each has a process group of its own, so that an interrupt from the terminal reaches this
    process alone, which then stops them in order.
    """

    def __init__(
        self,
        *,
        patience_s: float = 30.0,
        environment: Mapping[str, str] | None = None,
        command_of: Callable[[str], Sequence[str]] = _module_command,
    ) -> None:
        """``environment`` replaces this process's; a child gets ``patience_s`` to stop."""
        self._patience_s = patience_s
        self._command_of = command_of
        self._environment = environment
        self._children: dict[str, subprocess.Popen[bytes]] = {}
        self._endings: SimpleQueue[str | None] = SimpleQueue()

    def start(self) -> None:
        """Starts the services, the feature service first."""
        for name in reversed(SERVICES):
            child = subprocess.Popen(
                self._command_of(name),
                env=self._environment,
                process_group=0,
            )
            self._children[name] = child
            threading.Thread(target=self._await, args=(name, child), daemon=True).start()

    def ended(self) -> dict[str, int]:
        """Exit status of the services that have ended, negative for a signal."""
        codes = {name: child.poll() for name, child in self._children.items()}
        return {name: code for name, code in codes.items() if code is not None}

    def stop(self) -> bool:
        """Stops the services one after the other; False when one had to be killed or failed."""
        for name in SERVICES:
            child = self._children.get(name)
            if child is None:
                continue
            if child.poll() is None:
                child.send_signal(signal.SIGTERM)
            try:
                child.wait(self._patience_s)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        return not any(self.ended().values())

    def run_until_signalled(self) -> int:
        """Runs the services until SIGTERM or SIGINT; returns an exit status.

        0 when all were stopped and ended well; 1 when one ended by itself or badly.
        """

        def handle(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - its signature
            self._endings.put(None)

        before = {n: signal.signal(n, handle) for n in (signal.SIGTERM, signal.SIGINT)}
        try:
            self.start()
            name = self._ending()
            if name is not None:
                print(f"error: the {name} service ended by itself", file=sys.stderr)
            stopped_well = self.stop()
            return 0 if name is None and stopped_well else 1
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _ending(self) -> str | None:
        """The service that ended first; None after a signal."""
        while True:
            # A signal that another thread was given wakes nobody who waits for good: handlers run
            # in the main thread, when it looks.
            with suppress(Empty):
                return self._endings.get(timeout=_SIGNAL_LOOK_S)

    def _await(self, name: str, child: subprocess.Popen[bytes]) -> None:
        child.wait()
        self._endings.put(name)


def _settings_of(name: str) -> type[CommonSettings]:
    from services.common.settings import ExperimentSettings, FeatureSettings, RankerSettings

    kinds: dict[str, type[CommonSettings]] = {
        "feature": FeatureSettings,
        "ranker": RankerSettings,
        "experiment": ExperimentSettings,
    }
    return kinds[name]
