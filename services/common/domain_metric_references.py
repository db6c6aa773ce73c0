"""Checks that metrics refer to events and attributes that there are."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from services.common.domain_feature_references import one_of
from services.common.domain_metrics import Counted, counted_by
from services.common.yaml_config import Location

if TYPE_CHECKING:
    from services.common.domain import Domain

_PURCHASE, _REFUND = "purchase", "refund"


def metric_errors(domain: Domain) -> Iterator[tuple[Location, str]]:
    """What is wrong with the metrics."""
    for name, metric in domain.metrics.items():
        at: Location = ("metrics", name)
        parts = counted_by(metric)
        for part, counted in zip(("numerator", "denominator"), parts, strict=False):
            here: Location = (*at, part) if len(parts) > 1 else at
            yield from _event_errors(domain, here, counted)
        counts = {event for counted in parts for event in counted.events}
        if metric.refund_delay is not None and _PURCHASE not in counts:
            yield (*at, "refund_delay"), "is for metrics of purchases"
        elif _PURCHASE in counts and _REFUND not in domain.events:
            yield at, f"counts purchases: the event {_REFUND!r} must be declared"


def _event_errors(domain: Domain, at: Location, counted: Counted) -> Iterator[tuple[Location, str]]:
    for index, event in enumerate(counted.events):
        declared = domain.events.get(event)
        if declared is None:
            yield (*at, "events", index), f"{event!r} is not {one_of(domain.events)}"
            continue
        read: Iterable[tuple[Location, str]] = [
            *(((*at, "at_least", attribute), attribute) for attribute in counted.at_least),
            *([((*at, "value"), counted.value)] if counted.value is not None else []),
        ]
        for where, attribute in read:
            if declared.attributes.get(attribute) != "int":
                yield where, f"{attribute!r} is not an int attribute of {event}"
