"""``podium dataset``: the event log becomes tables to train and evaluate on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.options import DEFAULT_DOMAIN, DomainFile, LogOption

if TYPE_CHECKING:
    from rich.console import Console

    from offline.dataset.log_tables import OpenTables
    from offline.dataset.tables import DatasetMeta


class Engine(StrEnum):
    """What computes the tables."""

    DUCKDB = "duckdb"
    SPARK = "spark"


def register(app: typer.Typer) -> None:
    """Adds ``podium dataset``."""

    @app.command()
    def dataset(
        *,
        domain: DomainFile = DEFAULT_DOMAIN,
        log: LogOption,
        archive: Annotated[
            str | None,
            typer.Option(
                "--archive",
                help="Archive of the log, where segments were removed: a folder or s3://bucket/path.",
            ),
        ] = None,
        out: Annotated[Path, typer.Option("--out", help="Folder of the dataset.")],
        engine: Annotated[
            Engine,
            typer.Option(
                "--engine",
                help="What computes the tables: duckdb, in this process, or spark, for logs that"
                " outgrow one machine (needs podium[spark] and Java 17 or 21).",
            ),
        ] = Engine.DUCKDB,
        spark_setting: Annotated[
            list[str] | None,
            typer.Option(
                "--spark-setting",
                metavar="NAME=VALUE",
                help="Setting of Spark, over its own configuration, such as spark.master=local[4];"
                " may be repeated.",
            ),
        ] = None,
    ) -> None:
        """Point-in-time examples, interactions and the catalogue, from the event log."""
        from rich.console import Console

        from cli.progress import stage_progress
        from offline.archive.target import open_target
        from offline.dataset.build import build_dataset
        from services.common.domain import load_domain

        console = Console()
        loaded = load_domain(domain)
        target = None if archive is None else open_target(archive)
        with _opener(engine, spark_setting or ()) as open_log, stage_progress(console) as progress:
            meta = build_dataset(
                loaded, log, out, archive=target, open_log=open_log, progress=progress
            )
        _show(console, meta, out)


@contextmanager
def _opener(engine: Engine, spark_settings: Sequence[str]) -> Iterator[OpenTables]:
    from services.common.errors import InvalidArgument

    settings = [text.partition("=") for text in spark_settings]
    for name, equals, _ in settings:
        if not name or not equals:
            raise InvalidArgument.field("spark-setting", f"{name!r} is not NAME=VALUE")
    if engine == Engine.DUCKDB:
        if settings:
            raise InvalidArgument.field("spark-setting", "goes with --engine spark only")
        from offline.dataset.log_tables import open_tables

        yield open_tables
        return
    from offline.dataset.spark import open_on_spark, spark_session

    with spark_session({name: value for name, _, value in settings}) as session:
        yield partial(open_on_spark, session)


def _show(console: Console, meta: DatasetMeta, out: Path) -> None:
    from rich.table import Table

    table = Table(title=f"Dataset of {meta.domain} in {out}")
    table.add_column("table")
    table.add_column("rows", justify="right")
    for name, rows in meta.rows.items():
        table.add_row(name, f"{rows:,}")
    console.print(table)
    leaks = meta.leak_check
    console.print(
        f"leak check: {leaks.sampled} examples, {leaks.compared_values:,} values recomputed from"
        f" the log up to their time, {leaks.differing_values} differ"
    )
