"""``podium replay``: captured requests ranked again, and held to the slates they had."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_BUNDLES, DEFAULT_DOMAIN, BundlesOption, DomainFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from services.common.bundle.loaded import LoadedBundle
    from services.ranker.explain.capture import Capture
    from services.ranker.explain.replay import Difference
    from services.ranker.explain.trace import Trace
    from services.ranker.plan import BundleSpec

DIFFERS = 1
MAX_SHOWN = 50


def register(app: typer.Typer) -> None:
    """Adds ``replay`` to the command."""
    app.command()(replay)


def replay(
    captures: Annotated[
        list[Path], typer.Argument(help="Files of captured requests, or folders of them.")
    ],
    *,
    bundles: BundlesOption = DEFAULT_BUNDLES,
    domain: DomainFile = DEFAULT_DOMAIN,
) -> None:
    """Rank captured requests again, from what was captured and the bundle that ranked them.

    Exit code 1 where a slate comes out otherwise than it was (other items, another order, or a
    score that is off by more than 1e-6), or a request can't be ranked again.
    """
    from rich.console import Console

    from cli.console import wide_console
    from cli.progress import stage_progress
    from services.common.errors import (
        BundleError,
        FailedPrecondition,
        InvalidArgument,
        NotFound,
    )
    from services.ranker.explain.directory import read_capture

    paths = _paths(captures)
    if not paths:
        raise NotFound("there are no captures to replay", reason="NO_CAPTURE")
    replays = Replays(bundles, domain)
    found: list[tuple[Capture, list[Difference]]] = []
    impossible: list[tuple[Path, str]] = []
    with stage_progress(Console(stderr=True)) as progress:
        for number, path in enumerate(paths):
            progress("replay", number, len(paths))
            try:
                capture = read_capture(path)
            except NotFound:
                if path in captures:
                    raise
                # Of a folder: removed meanwhile, as a later one needed its room.
                continue
            except InvalidArgument as error:
                impossible.append((path, error.message))
                continue
            try:
                found.append((capture, replays.differences(capture)))
            except (NotFound, BundleError, FailedPrecondition) as error:
                impossible.append((path, error.message))
        progress("replay", len(paths), len(paths))
    console = wide_console()
    show(console, found, replays)
    for path, why in impossible:
        console.print(f"{path.name} can't be ranked again: {why}", style="red", markup=False)
    if impossible or any(differences for _, differences in found):
        raise typer.Exit(DIFFERS)


class Replays:
    """Replays captures under the bundles of a store and one domain; loads each bundle once."""

    def __init__(self, bundles: Path, domain: Path) -> None:
        """Raises ``ConfigError``."""
        from services.common.bundle.store import BundleStore
        from services.common.domain import load_domain

        self._store = BundleStore(bundles)
        self._domain = load_domain(domain)
        self._loaded: dict[str, tuple[LoadedBundle, BundleSpec]] = {}

    def is_of_another_domain(self, capture: Capture) -> bool:
        """Whether the domain file was another when the request was ranked."""
        return capture.versions.origin.domain_hash != self._domain.config_hash

    def differences(self, capture: Capture) -> list[Difference]:
        """What comes out otherwise.

        Raises ``NotFound`` and ``BundleError`` where its bundle is not there, or damaged, and
        ``FailedPrecondition`` where the domain has no such surface.
        """
        from services.ranker.explain.replay import differences

        return differences(capture.slate, self.traced(capture).result)

    def traced(self, capture: Capture) -> Trace:
        """The request ranked again, ready to be explained. Raises the same."""
        from services.ranker.explain.replay import replayed

        bundle, spec = self._bundle(capture.versions.bundle)
        return replayed(capture, bundle, spec)

    def _bundle(self, version: str) -> tuple[LoadedBundle, BundleSpec]:
        from services.common.bundle.loaded import LoadedBundle
        from services.ranker.bundle_spec import bundle_spec

        if version not in self._loaded:
            bundle = LoadedBundle.load(self._store.path(version))
            self._loaded[version] = bundle, bundle_spec(bundle, self._domain)
        return self._loaded[version]


def show(
    console: Console, found: Sequence[tuple[Capture, list[Difference]]], replays: Replays
) -> None:
    """Prints what was replayed, and the differences."""
    from rich.table import Table
    from rich.text import Text

    table = Table(title="Replayed", title_justify="left")
    for name in ("rank_id", "surface", "bundle", "policy"):
        table.add_column(name, no_wrap=name == "rank_id", overflow="fold")
    table.add_column("items", justify="right")
    table.add_column("outcome")
    for capture, differences in found:
        outcome = f"{len(differences):,} differences" if differences else "the same"
        if differences and replays.is_of_another_domain(capture):
            outcome += ", of another domain file"
        table.add_row(
            capture.rank_id,
            capture.command.surface,
            capture.versions.bundle,
            capture.slate.policy,
            str(len(capture.slate.ids)),
            Text(outcome, style="red" if differences else ""),
        )
    console.print(table)
    rows = [(capture, d) for capture, differences in found for d in differences]
    if not rows:
        return
    title = "Differences" if len(rows) <= MAX_SHOWN else f"The first {MAX_SHOWN} of {len(rows):,}"
    table = Table(title=title, title_justify="left")
    for name in ("rank_id", "position", "what", "captured", "replayed"):
        table.add_column(name, overflow="fold")
    for capture, d in rows[:MAX_SHOWN]:
        position = "" if d.position < 0 else str(d.position)
        table.add_row(capture.rank_id, position, Text(d.what), Text(d.captured), Text(d.replayed))
    console.print(table)


def _paths(given: Sequence[Path]) -> list[Path]:
    from services.ranker.explain.directory import capture_paths

    found: list[Path] = []
    for path in given:
        found += capture_paths(path) if path.is_dir() else [path]
    return found
