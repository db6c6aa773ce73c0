"""What the pipeline asks of whoever has the definitions."""

from __future__ import annotations

from typing import Protocol

from services.common.assign.assign import Definitions
from services.ranker.types import Reason


class DefinitionsInForce(Protocol):
    """The definitions to decide by. Never waits, and may be asked from any thread."""

    def current(self) -> Definitions:
        """The definitions in force."""

    def stale(self) -> Reason | None:
        """Why they may be outdated; None while they may not."""

    def age_ms(self) -> int:
        """How long ago they were last known to be in force; 0 where nobody says."""


class FixedDefinitions:
    """Definitions that stay as they are: those of a file, where there is no experiment service."""

    def __init__(self, definitions: Definitions) -> None:
        self._definitions = definitions
        # Worked out here, not in a request.
        _ = definitions.compiled

    def current(self) -> Definitions:
        """The definitions."""
        return self._definitions

    def stale(self) -> Reason | None:
        """They never are."""
        return None

    def age_ms(self) -> int:
        """They have no age."""
        return 0
