"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DEFAULT_DOMAIN = Path("config/live_courses.yaml")
DomainFile = Annotated[Path, typer.Option("--domain", help="Domain file, config/*.yaml.")]
