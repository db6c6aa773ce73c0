"""Prometheus metrics of the feature service."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.common.event_log import Damage
from services.feature.watch.feed import Waited

_LAG_BUCKETS_S = (
    *(0.01, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.75),
    *(1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 10.0, 30.0),
)

PAUSE_REASONS = (
    *("STORE_FULL", "STORE_UNAVAILABLE", "STORE_BUSY", "STORE_DAMAGED"),
    "PSEUDONYM_KEY_MISSING",
)
"""Reasons of the ``Unavailable`` that applying is paused by; others count as ``OTHER_PAUSE``."""

OTHER_PAUSE = "OTHER"


class FeatureMetrics:
    """What Ingest took in, how far applying is behind, what the log lost, and how long watchers
    wait for changes."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._events = Counter(
            "podium_feature_events", "Events handed in, by outcome.", ["outcome"], registry=registry
        )
        self._rejected = Counter(
            "podium_feature_rejections",
            "Events rejected, by reason.",
            ["reason"],
            registry=registry,
        )
        self._unknown = Counter(
            "podium_feature_unknown_types",
            "Events of types that the domain does not declare; kept, not applied.",
            registry=registry,
        )
        self._gaps = Counter(
            "podium_feature_missing_events",
            "Events missing in producers' numbering.",
            registry=registry,
        )
        self.apply_restarts = Counter(
            "podium_feature_apply_restarts",
            "Times the applying process had to be started again.",
            registry=registry,
        )
        self._unapplied = Gauge(
            "podium_feature_unapplied_records",
            "Records in the log that the store does not hold yet.",
            registry=registry,
        )
        self._paused = Gauge(
            "podium_feature_apply_paused",
            "1 while nothing can be applied, by reason.",
            ["reason"],
            registry=registry,
        )
        self._damaged_bytes = Gauge(
            "podium_feature_log_damaged_bytes",
            "Bytes of the log that can't be read, or were cut off its end.",
            registry=registry,
        )
        self._lost_records = Gauge(
            "podium_feature_log_lost_records",
            "Records of the log that are known to be lost.",
            registry=registry,
        )

        lag_s = Histogram(
            "podium_feature_watch_lag_seconds",
            "Time from the acknowledgement of the oldest change in a watcher's step to that step; "
            "urgent changes are told at once, moving ones are gathered.",
            ["kind"],
            registry=registry,
            buckets=_LAG_BUCKETS_S,
        )
        self._urgent_lag_s = lag_s.labels("urgent")
        self._moving_lag_s = lag_s.labels("moving")

    def told(self, waited: Waited, now_s: float) -> None:
        """Notes how long the changes of a watcher's step took."""
        if waited.urgent_s is not None:
            self._urgent_lag_s.observe(max(0.0, now_s - waited.urgent_s))
        if waited.moving_s is not None:
            self._moving_lag_s.observe(max(0.0, now_s - waited.moving_s))

    def watch(
        self,
        unapplied: Callable[[], int],
        damage: Callable[[], Sequence[Damage]],
        pause_reason: Callable[[], str],
    ) -> None:
        """Says where to look when metrics are read."""
        for reason in PAUSE_REASONS:
            self._paused.labels(reason).set_function(partial(_is_one, pause_reason, reason))
        self._paused.labels(OTHER_PAUSE).set_function(
            lambda: float(pause_reason() not in ("", *PAUSE_REASONS))
        )
        self._unapplied.set_function(unapplied)
        self._damaged_bytes.set_function(lambda: sum(found.bytes for found in damage()))
        self._lost_records.set_function(lambda: sum(found.records or 0 for found in damage()))

    def ingested(
        self, accepted: int, duplicates: int, too_late: int, rejections: Sequence[str]
    ) -> None:
        """Counts a request's events; ``too_late`` of the accepted ones are kept only."""
        self._events.labels("accepted").inc(accepted - too_late)
        self._events.labels("too_late").inc(too_late)
        self._events.labels("duplicate").inc(duplicates)
        self._events.labels("rejected").inc(len(rejections))
        for reason in rejections:
            self._rejected.labels(reason).inc()

    def unknown_types(self, count: int) -> None:
        """Counts events of undeclared types."""
        self._unknown.inc(count)

    def gap(self, producer: str, missing: int) -> None:  # noqa: ARG002 - producers are unbounded
        """Counts events missing in a producer's numbering."""
        self._gaps.inc(missing)


def _is_one(text: Callable[[], str], wanted: str) -> float:
    return float(text() == wanted)
