"""How the exposure guarantees of the surfaces stand, for Prometheus."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector, CollectorRegistry

from services.common.errors import Unavailable
from services.ranker.guarantee import Standing
from services.ranker.state import ServingState

_GAUGES: tuple[tuple[str, str, Callable[[Standing], float]], ...] = (
    ("new_items", "Items that are new by the surface's guarantee.", lambda s: s.items),
    ("new_items_due", "Impressions due to new items so far.", lambda s: s.due),
    ("new_items_behind", "Of the impressions due, those that are missing.", lambda s: s.behind),
    (
        "new_items_needed_per_second",
        "Impressions a second that keep the guarantee to every new item.",
        lambda s: s.needed_per_second,
    ),
)


class GuaranteeMetrics(Collector):
    """Reads ``standings``, by surface, whenever metrics are collected."""

    def __init__(
        self, registry: CollectorRegistry, standings: Callable[[], Mapping[str, Standing]]
    ) -> None:
        self._standings = standings
        registry.register(self)

    def describe(self) -> Iterator[GaugeMetricFamily]:
        """The gauges without values: nothing is in force yet when they are registered."""
        yield from _families({})

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """The gauges now."""
        yield from _families(self._standings())


def standings_of(state: Callable[[], ServingState], now_ms: int) -> dict[str, Standing]:
    """How each surface with a guarantee stands; none before anything is in force."""
    try:
        plans = state().plans
    except Unavailable:
        return {}
    return {
        name: plan.ground.guarantee.standing(plan.ground.eligible, now_ms)
        for name, plan in plans.items()
        if plan.ground.guarantee is not None
    }


def _families(standings: Mapping[str, Standing]) -> Iterator[GaugeMetricFamily]:
    for name, text, value in _GAUGES:
        family = GaugeMetricFamily(f"podium_ranker_{name}", text, labels=["surface"])
        for surface, standing in standings.items():
            family.add_metric([surface], value(standing))
        yield family
