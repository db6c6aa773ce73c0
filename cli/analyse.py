"""``podium analyse``: what an experiment did, from the event log."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.experiments.options import Caller, TokenFile
from cli.options import DEFAULT_DOMAIN, ArchiveOption, DomainFile, LogOption

if TYPE_CHECKING:
    from offline.analysis.plan import AnalysisPlan
    from offline.analysis.units.table import UnitTable
    from services.common.assign.model import Definitions
    from services.common.assign.registered import Analysis

DEFAULT_EXPERIMENTS = Path("config/experiments.yaml")
DEFAULT_COLUMNS = Path("data/analysis/columns")
DEFAULT_REPORTS = Path("data/analysis/reports")


def register(app: typer.Typer) -> None:
    """Adds ``podium analyse``."""
    app.command()(analyse)


def analyse(
    key: Annotated[str, typer.Argument(metavar="KEY", help="Key of the experiment.")],
    *,
    log: LogOption,
    domain: DomainFile = DEFAULT_DOMAIN,
    experiments: Annotated[
        Path,
        typer.Option("--experiments", help="Experiments file, config/*.yaml; without --target."),
    ] = DEFAULT_EXPERIMENTS,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="HOST:PORT",
            help="Experiment service with a registry: its definitions count; it keeps the report.",
        ),
    ] = None,
    caller: Caller = None,
    token_file: TokenFile = None,
    archive: ArchiveOption = None,
    columns: Annotated[
        Path,
        typer.Option(
            help="Folder where the log's columns are kept: the next run reads what is new."
        ),
    ] = DEFAULT_COLUMNS,
    out: Annotated[
        Path, typer.Option("--out", help="Folder for the report: KEY.json and KEY.html.")
    ] = DEFAULT_REPORTS,
    as_of: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Analyse as was known at this ISO 8601 time; when the log ends, by default.",
        ),
    ] = None,
    primary: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC",
            help="Primary metric instead of the registered analysis: what is found explores.",
        ),
    ] = None,
    lost_exposures: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Exposures that are known to be lost (podium_ranker_events_lost and "
            "podium_spool_gaps of the rankers): told in the report.",
        ),
    ] = None,
    burn_in: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION",
            help="Of slices of time: another burn-in than is registered (5m; 0s for none); "
            "explores, too.",
        ),
    ] = None,
    block_slices: Annotated[
        int | None,
        typer.Option(
            min=1, help="Of slices of time: so many neighbours are one cluster; explores, too."
        ),
    ] = None,
) -> None:
    """Compare the variants of an experiment by its registered metrics, and say what follows."""
    from cli.console import wide_console
    from cli.experiments.options import registry
    from cli.options import epoch_ms
    from cli.progress import stage_progress
    from offline.analysis.conclude.conclude import conclude
    from offline.analysis.plan import plan_of
    from offline.analysis.report.html import to_html
    from offline.analysis.report.json import to_json
    from offline.analysis.report.table import print_report
    from offline.analysis.units.build import unit_table
    from offline.archive.target import open_target
    from offline.dataset.columns import compact
    from offline.dataset.schema import ColumnSchema
    from services.common.assign.definitions import load_experiments
    from services.common.domain import load_domain

    as_of_ms = None if as_of is None else epoch_ms("as-of", as_of)
    loaded = load_domain(domain)
    concluded_ms, rolled_out = None, False
    if target is None:
        definitions = load_experiments(experiments, loaded)
    else:
        with registry(target, caller, token_file) as client:
            definitions = _read(client.definitions(), target)
            shown = client.get(key)
            concluded_ms = epoch_ms("concluded", shown.concluded) if shown.concluded else None
            rolled_out = shown.rolled_out
    if rolled_out and concluded_ms is not None:
        # From then on everybody has the winner: windows that went on say nothing of the arms.
        as_of_ms = concluded_ms if as_of_ms is None else min(as_of_ms, concluded_ms)
    explored = _explored(definitions, key, primary, burn_in, block_slices)
    plan = plan_of(definitions, key, loaded, explored, concluded_ms=concluded_ms)
    console = wide_console()
    with stage_progress(console) as progress:
        archived = None if archive is None else open_target(archive)
        schema = ColumnSchema.of(loaded)
        compacted = compact(log, columns, schema, archive=archived, progress=progress)
        table = unit_table(compacted, plan, as_of_ms=as_of_ms, progress=progress)
        _check_exposed(plan, table)
        report = conclude(
            plan, table, definitions_hash=definitions.hash, lost_exposures=lost_exposures
        )
    print_report(report, console)
    text, page = to_json(report), to_html(report)
    out.mkdir(parents=True, exist_ok=True)
    for path, content in ((out / f"{key}.json", text), (out / f"{key}.html", page)):
        path.write_text(content, encoding="utf-8")
        console.print(f"wrote {path}", markup=False, highlight=False)
    if target is not None:
        with registry(target, caller, token_file) as client:
            number = client.put_report(key, text, page)
        console.print(f"stored as report {number} of {key}", markup=False, highlight=False)


def _explored(
    definitions: Definitions,
    key: str,
    primary: str | None,
    burn_in: str | None,
    block_slices: int | None,
) -> Analysis | None:
    """An analysis that is none of the registered ones; None where nothing else is asked for.

    Raises ``InvalidArgument`` for a duration that is none.
    """
    from dataclasses import replace

    from services.common.assign.registered import Analysis

    experiment = definitions.experiments.get(key)
    registered = None if experiment is None else experiment.analysis
    if primary is not None:
        # What rows are, and how slices are cut, stays.
        how = registered or Analysis(primary)
        chosen = Analysis(primary, inside=how.inside, switchback=how.switchback)
    elif registered is None or (burn_in is None and block_slices is None):
        return None
    else:
        chosen = registered
    switchback = chosen.switchback
    burn_in_ms = switchback.burn_in_ms if burn_in is None else _burn_in_ms(burn_in)
    blocks = switchback.block_slices if block_slices is None else block_slices
    return replace(
        chosen, switchback=replace(switchback, burn_in_ms=burn_in_ms, block_slices=blocks)
    )


def _burn_in_ms(text: str) -> int:
    """A burn-in, ``0s`` for none. Raises ``InvalidArgument`` for what is no duration."""
    from services.common.durations import duration_ms
    from services.common.errors import InvalidArgument

    if text == "0s":
        return 0
    try:
        return duration_ms(text)
    except ValueError as error:
        raise InvalidArgument.field("burn-in", f"{error}, or 0s for none") from error


def _read(text: str, target: str) -> Definitions:
    """A registry's definitions. Raises ``FailedPrecondition`` for those of a newer service."""
    from pydantic import ValidationError

    from services.common.assign.canonical import hashed
    from services.common.assign.definitions import ExperimentsFile, definitions_in
    from services.common.errors import FailedPrecondition

    try:
        return hashed(definitions_in(ExperimentsFile.model_validate_json(text)))
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(map(str, first["loc"]))
        raise FailedPrecondition(
            f"the definitions at {target} can't be read here: {field}: {first['msg']}",
            reason="UNREADABLE_DEFINITIONS",
        ) from error


def _check_exposed(plan: AnalysisPlan, table: UnitTable) -> None:
    """Raises ``FailedPrecondition`` (NOTHING_EXPOSED) where nobody has met the experiment."""
    from datetime import UTC, datetime

    from services.common.errors import FailedPrecondition

    if not table.exposures:
        moment = datetime.fromtimestamp(table.as_of_ms / 1_000, UTC)
        raise FailedPrecondition(
            f"nobody was exposed to {plan.experiment} by {moment:%Y-%m-%d %H:%M} UTC"
            f" ({table.position:,} records): there is nothing to analyse",
            reason="NOTHING_EXPOSED",
        )
