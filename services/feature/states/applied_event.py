"""What folding needs of a logged event. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.feature.definitions import (
    USER_ENTITY,
    Scalar,
)


@dataclass(slots=True, frozen=True)
class RefundFacts:
    """A refund as its purchase's features see it; amounts in minor units, time in epoch ms."""

    purchase_event_id: str
    purchase_ms: int
    purchase_amount_minor: int
    amount_minor: int


@dataclass(slots=True)
class AppliedEvent:
    """What folding needs of a logged event. Times are epoch ms; ids are pseudonyms.

    ``clock_ms``: arrival time, what the log's clock said. ``attributes``: those that features read.
    ``upserted``: attributes the event sets on its subject, its first entity or for want of one its
    actor; ``withdrawn``: whether it takes that entity out of the catalogue, None when it says
    nothing about that. ``takes_over``: key of the device whose history becomes the actor's.
    ``erases``: keys of the actors that are to be forgotten. ``sticky``: variants that the actor
    keeps, by entry.
    """

    arrival: int
    clock_ms: int
    time_ms: int
    type: str
    actor: str
    entities: list[tuple[str, str]]
    attributes: dict[str, Scalar]
    refund: RefundFacts | None = None
    upserted: Mapping[str, Any] | None = None
    withdrawn: bool | None = None
    takes_over: str = ""
    erases: tuple[str, ...] = ()
    sticky: Mapping[str, str] | None = None

    @property
    def subject(self) -> tuple[str, str] | None:
        """What the event describes, if it describes anything."""
        if self.entities:
            return self.entities[0]
        return (USER_ENTITY, self.actor) if self.actor else None
