"""Options and settings that several commands share."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.common.pseudonym import Pseudonymiser

DEFAULT_DOMAIN = Path("config/live_courses.yaml")
DomainFile = Annotated[Path, typer.Option("--domain", help="Domain file, config/*.yaml.")]

LogArgument = Annotated[Path, typer.Argument(help="Folder of the event log.")]
LogOption = Annotated[Path, typer.Option("--log", help="Folder of the event log.")]
ArchiveOption = Annotated[
    str | None, typer.Option(help="Archive of the log: a folder or s3://bucket/path.")
]
DEFAULT_BUNDLES = Path("data/bundles")
BundlesOption = Annotated[Path, typer.Option(help="Directory of bundles.")]
CapturesOption = Annotated[
    list[Path] | None,
    typer.Option(help="Folder of a ranker's captured requests; may be repeated."),
]
SpoolOption = Annotated[
    list[Path] | None, typer.Option(help="Spool that ships to the log; may be repeated.")
]
SearchOption = Annotated[
    list[Path] | None,
    typer.Option(help="Another folder that is searched, e.g. replicas; may be repeated."),
]


def epoch_ms(field: str, text: str) -> int:
    """Epoch milliseconds of an ISO 8601 time (without a zone: UTC).

    Raises ``InvalidArgument`` naming ``field`` for anything else.
    """
    from services.common.errors import InvalidArgument

    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise InvalidArgument.field(field, f"{text!r} is no ISO 8601 time") from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1_000)


def pseudonymiser() -> Pseudonymiser:
    """The pseudonymiser under the keys that the services read from the environment."""
    from services.common.pseudonym import Pseudonymiser
    from services.common.settings import CommonSettings, load_settings

    return Pseudonymiser.from_text(load_settings(CommonSettings).pseudonym_keys.get_secret_value())
