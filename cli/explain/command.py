"""``podium explain``: the command."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import (
    DEFAULT_BUNDLES,
    DEFAULT_DOMAIN,
    ArchiveOption,
    BundlesOption,
    CapturesOption,
    DomainFile,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.explain.log import Records, Story
    from services.ranker.explain.capture import Capture

DIFFERS = 1
DEFAULT_LOG = Path("data/log")
DEFAULT_CAPTURES = Path("data/captures")
_WIDTH = 180


def register(app: typer.Typer) -> None:
    """Adds ``explain`` to the command."""
    app.command()(explain)


def explain(
    rank_id: Annotated[str, typer.Argument(metavar="RANK_ID", help="The answer's rank_id.")],
    *,
    log: Annotated[Path, typer.Option(help="Folder of the event log.")] = DEFAULT_LOG,
    archive: ArchiveOption = None,
    captures: CapturesOption = None,
    bundles: BundlesOption = DEFAULT_BUNDLES,
    domain: DomainFile = DEFAULT_DOMAIN,
) -> None:
    """Show a slate as it was served, and what followed; of a captured request, why it was so.

    The log says what was shown, by which variants and bundle, and what came of it. Where the
    request was captured (a share of all, and every debug one), it is ranked again, and each item
    explained. Exit code 1 where that can't be done, or comes to another slate.
    """
    from cli.console import wide_console
    from cli.explain.show import show_explanation, show_story
    from cli.replay import Replays
    from cli.replay import show as show_replay
    from services.common.errors import BundleError, FailedPrecondition, NotFound
    from services.ranker.explain.explanation import explain as explain_trace
    from services.ranker.explain.replay import differences

    story = _story(rank_id, log, archive)
    capture = _capture(rank_id, captures or [DEFAULT_CAPTURES])
    if story.slate is None and capture is None:
        raise NotFound(
            f"neither the log at {log} nor a capture holds {rank_id}", reason="UNKNOWN_RANK_ID"
        )
    console = wide_console(_WIDTH)
    show_story(console, rank_id, story)
    if capture is None:
        console.print("The request was not captured: nothing more is known of it.")
        return
    try:
        replays = Replays(bundles, domain)
        trace = replays.traced(capture)
    except (NotFound, BundleError, FailedPrecondition) as error:
        console.print(f"It was captured, but can't be ranked again: {error.message}", markup=False)
        raise typer.Exit(DIFFERS) from error
    show_explanation(console, explain_trace(trace, capture.versions.origin), capture)
    found = differences(capture.slate, trace.result)
    show_replay(console, [(capture, found)], replays)
    if found:
        raise typer.Exit(DIFFERS)


def _story(rank_id: str, log: Path, archive: str | None) -> Story:
    from rich.console import Console

    from cli.explain.log import Story, story_of
    from cli.progress import stage_progress
    from offline.archive.read import read_history
    from offline.archive.target import open_target
    from services.common.event_log import list_segments
    from services.common.log_marks import read_duplicate_marks

    target = open_target(archive) if archive is not None else None
    if target is None and not (log.is_dir() and list_segments(log)):
        return Story(None, 0, [], [])
    with stage_progress(Console(stderr=True)) as progress:

        def records() -> Records:
            number = -1
            for number, record in enumerate(read_history(log, target)):
                if number % 10_000 == 0:
                    progress("read the log", number, number + 1)
                yield record
            progress("read the log", number + 1, number + 1)

        return story_of(rank_id, records, frozenset(read_duplicate_marks(log)))


def _capture(rank_id: str, directories: Sequence[Path]) -> Capture | None:
    from services.common.errors import NotFound
    from services.ranker.explain.directory import path_of, read_capture

    for directory in directories:
        try:
            return read_capture(path_of(directory, rank_id))
        except NotFound:
            continue
    return None
