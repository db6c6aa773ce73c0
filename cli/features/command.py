"""The sub-commands of ``podium features``."""

from __future__ import annotations

import json
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from cli.features.waiting import wait_for
from cli.options import DEFAULT_DOMAIN, DomainFile

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cli.features.client import Served
    from offline.dataset.skew import FeatureSkew
    from services.feature.views.documents import ViewDocument
    from services.feature.views.registry import ViewRegistry

SHORT_HASH = 16

Log = Annotated[Path, typer.Option(help="Folder of the event log; views are kept in it.")]
Bundles = Annotated[Path, typer.Option(help="Directory of bundles.")]
Target = Annotated[str, typer.Option(help="Where the feature service listens, HOST:PORT.")]
DEFAULT_LOG = Path("data/log")
DEFAULT_BUNDLES = Path("data/bundles")
DEFAULT_TARGET = "localhost:50051"


def register(app: typer.Typer) -> None:
    """Adds ``podium features`` with its sub-commands."""
    features = typer.Typer(
        no_args_is_help=True, help="Views of features: list, backfill, rebuild, retire, diff."
    )
    features.command()(views)
    features.command()(backfill)
    features.command()(rebuild)
    features.command()(retire)
    features.command()(diff)
    app.add_typer(features, name="features")


def views(
    *,
    log: Log = DEFAULT_LOG,
    bundles: Bundles = DEFAULT_BUNDLES,
    target: Annotated[
        str, typer.Option(help="Ask this feature service, HOST:PORT, what it serves.")
    ] = "",
) -> None:
    """List the registered views and the bundles that name them."""
    from rich.table import Column, Table

    from cli.console import wide_console
    from cli.features.client import feature_views
    from cli.features.named import named_by_bundles
    from services.feature.views.registry import registry_of

    named = named_by_bundles(bundles)
    served: Served | None = None
    if target:
        with feature_views(target) as client:
            served = client.served()
    documents = registry_of(log).documents()
    table = Table("view", Column("hash", no_wrap=True), "features", "named by")
    if served is not None:
        table.add_column("state")
    for document in documents:
        cells = [
            document.name,
            document.hash[:SHORT_HASH],
            str(len(document.feature_names())),
            ", ".join(named.get(document.hash, [])),
        ]
        if served is not None:
            cells.append(_state(document.hash, served))
        table.add_row(*cells)
    wide_console().print(table)


def backfill(
    name: Annotated[str, typer.Argument(help="A feature of the domain file.")],
    *,
    domain: DomainFile = DEFAULT_DOMAIN,
    log: Log = DEFAULT_LOG,
    target: Target = DEFAULT_TARGET,
) -> None:
    """Fill a new feature from the log while serving; ends when its views are served.

    Views that were served before stay. When it is interrupted, the service goes on.
    """
    from services.common.domain import load_domain
    from services.common.errors import NotFound
    from services.feature.views.documents import documents_of, merged

    declared = load_domain(domain)
    if name not in declared.features:
        raise NotFound(f"{domain} declares no feature {name!r}", reason="UNKNOWN_FEATURE")
    wanted = [d for d in documents_of(declared) if name in d.feature_names()]
    registry = _registry_of(log)
    merged(declared.name, [declared, *registry.documents()])
    added = registry.register(wanted)
    typer.echo(f"{len(added)} of {len(wanted)} views are new to the registry")
    hashes = {document.hash for document in wanted}
    took_s, served = wait_for(target, lambda found: hashes <= found.hashes)
    for document in wanted:
        typer.echo(f"{document.name} is served with {name}, hash {document.hash}")
    typer.echo(f"backfilled in {took_s:.1f} s, {served.position:,} logged events")


def rebuild(*, log: Log = DEFAULT_LOG, target: Target = DEFAULT_TARGET) -> None:
    """Make a lost or damaged store anew from the log; ends when it is in force.

    A running service serves from the old store meanwhile, as long as that can be read.
    """
    build = _registry_of(log).ask_for_new_store()
    took_s, served = wait_for(target, lambda found: found.build >= build)
    typer.echo(f"rebuilt in {took_s:.1f} s, {served.position:,} logged events")


def retire(
    hash_prefix: Annotated[
        str, typer.Argument(metavar="[HASH]", help="Beginning of the view's hash.")
    ] = "",
    *,
    unused: Annotated[
        bool, typer.Option("--unused", help="Retire all that neither file nor bundles name.")
    ] = False,
    domain: DomainFile = DEFAULT_DOMAIN,
    log: Log = DEFAULT_LOG,
    bundles: Bundles = DEFAULT_BUNDLES,
) -> None:
    """Stop serving a view. Refused while the domain file or a bundle of the store names it.

    Its states go with the next store that is built.
    """
    from cli.features.named import named_by_bundles
    from services.common.domain import load_domain
    from services.common.errors import FailedPrecondition, InvalidArgument
    from services.feature.definitions import compile_views

    if bool(hash_prefix) == unused:
        raise InvalidArgument.field("hash", "name a view's hash, or give --unused")
    if not bundles.is_dir():
        # What a wrong folder does not name, a bundle may still need.
        raise InvalidArgument.field(
            "bundles", f"there is no folder {bundles}: what bundles name is not known"
        )
    named = named_by_bundles(bundles)
    for view in compile_views(load_domain(domain)).values():
        named.setdefault(view.hash, []).append(str(domain))
    registry = _registry_of(log)
    chosen: Sequence[ViewDocument]
    if unused:
        chosen = [document for document in registry.documents() if document.hash not in named]
    else:
        document = registry.find(hash_prefix)
        if document.hash in named:
            raise FailedPrecondition(
                f"{document.name} {document.hash[:SHORT_HASH]} is named by "
                f"{', '.join(named[document.hash])}",
                reason="VIEW_IN_USE",
            )
        chosen = [document]
    for document in chosen:
        registry.retire(document)
        typer.echo(f"retired {document.name} {document.hash}")
    if not chosen:
        typer.echo("every registered view is named")


def diff(
    *,
    domain: DomainFile = DEFAULT_DOMAIN,
    log: Log = DEFAULT_LOG,
    limit: Annotated[int, typer.Option(min=1, help="At most so many slates, the latest.")] = 10_000,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON in place of tables.")] = False,
) -> None:
    """Compare users' features as they were served with the offline tables; exit code 1 if any
    differs.

    Rankers log them for a share of slates (PODIUM_LOGGED_FEATURE_SHARE).
    """
    from offline.dataset.served import served_rows
    from offline.dataset.skew import skew_of_users
    from services.common.domain import load_domain
    from services.feature.definitions import USER_ENTITY, compile_views
    from services.feature.views.registry import registry_of

    declared = load_domain(domain)
    domains = {d.hash: d.as_domain() for d in registry_of(log).documents()}
    own = compile_views(declared).get(USER_ENTITY)
    if own is not None:
        domains[own.hash] = declared
    rows = list(deque(served_rows(log), maxlen=limit))
    unknown = sum(row.view_hash not in domains for row in rows)
    skews = skew_of_users(log, domains, rows)
    differing = sum(skew.differing for skew in skews)
    compared = sum(skew.compared for skew in skews)
    if as_json:
        report = {
            "slates": len(rows),
            "slates_of_unknown_views": unknown,
            "compared": compared,
            "differing": differing,
            "features": [skew.as_json() for skew in skews],
        }
        typer.echo(json.dumps(report, indent=1))
    else:
        _show_skews(skews)
        typer.echo(
            f"{len(rows):,} slates, {compared:,} values compared, {differing:,} differ"
            + (f"; {unknown:,} slates of views that are not registered" if unknown else "")
        )
    if differing:
        raise typer.Exit(1)


def _registry_of(log: Path) -> ViewRegistry:
    """The registry of a log that is there: nobody would look at another one.

    Raises ``NotFound`` without a log.
    """
    from services.common.errors import NotFound
    from services.feature.views.registry import registry_of

    if not log.is_dir():
        raise NotFound(f"there is no event log at {log}", reason="LOG_NOT_FOUND")
    return registry_of(log)


def _show_skews(skews: Sequence[FeatureSkew]) -> None:
    from rich.table import Column, Table

    from cli.console import wide_console

    right = [Column(name, justify="right") for name in ("compared", "differ", "largest")]
    table = Table("feature", "view", *right, "first", "served", "offline")
    for skew in skews:
        found = [skew.first_rank_id, str(skew.served), str(skew.offline)] if skew.differing else []
        table.add_row(
            skew.feature,
            skew.view_hash[:SHORT_HASH],
            f"{skew.compared:,}",
            f"{skew.differing:,}",
            f"{skew.largest_difference:g}",
            *found,
        )
    wide_console().print(table)


def _state(view_hash: str, served: Served) -> str:
    if view_hash in served.hashes:
        return "served"
    return "being filled" if view_hash in served.coming else "not served"
