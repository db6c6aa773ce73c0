"""Options and settings that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from services.common.pseudonym import Pseudonymiser

DEFAULT_DOMAIN = Path("config/live_courses.yaml")
DomainFile = Annotated[Path, typer.Option("--domain", help="Domain file, config/*.yaml.")]


def pseudonymiser() -> Pseudonymiser:
    """The pseudonymiser under the keys that the services read from the environment."""
    from services.common.pseudonym import Pseudonymiser
    from services.common.settings import CommonSettings, load_settings

    return Pseudonymiser.from_text(load_settings(CommonSettings).pseudonym_keys.get_secret_value())
