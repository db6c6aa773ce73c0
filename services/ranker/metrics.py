"""The ranker's Prometheus metrics."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from services.ranker.bundles.comparison import Comparison
from services.ranker.bundles.routing import Routes
from services.ranker.types import Degradation, Part

_STAGE_BUCKETS_S = (0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 1)
_LAG_BUCKETS_S = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 10.0, 30.0)
_SHARE_BUCKETS = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 1.0)
_SIGNED_BUCKETS = (-1.0, -0.5, -0.2, -0.1, -0.05, -0.02, 0.0, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
_BATCH_BUCKETS = (1, 2, 3, 4, 6, 8, 12, 16, 32, 64)


class RankerMetrics:
    """Counts what the pipeline and the bundle watcher tell; see ``types.Observer``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._batches = Histogram(
            "podium_ranker_batch_requests",
            "Requests ranked together.",
            registry=registry,
            buckets=_BATCH_BUCKETS,
        )
        self._degraded = Counter(
            "podium_ranker_degraded",
            "Answers in which a part was left out or replaced; name is a source's.",
            ["part", "reason", "name"],
            registry=registry,
        )
        self._removed = Counter(
            "podium_ranker_filtered",
            "Candidates that a filter removed.",
            ["surface", "reason"],
            registry=registry,
        )
        self._non_finite = Counter(
            "podium_ranker_non_finite",
            "Values that were not finite.",
            ["part"],
            registry=registry,
        )
        self._stages = Histogram(
            "podium_ranker_stage_seconds",
            "Time of a stage for one micro-batch.",
            ["stage"],
            registry=registry,
            buckets=_STAGE_BUCKETS_S,
        )
        self._sources = Histogram(
            "podium_ranker_source_seconds",
            "Time of a source for the requests of one surface of a micro-batch.",
            ["source"],
            registry=registry,
            buckets=_STAGE_BUCKETS_S,
        )
        self._stage = cache(self._stages.labels)
        self._source = cache(self._sources.labels)
        self._unknown = Counter(
            "podium_ranker_unknown_candidates",
            "Candidates named by requests that no item answers to.",
            ["surface"],
            registry=registry,
        )
        self._dropped = Counter(
            "podium_ranker_dropped",
            "Requests that left before work was done for them.",
            ["reason"],
            registry=registry,
        )
        self._lost = Counter(
            "podium_ranker_events_lost",
            "Slates, exposures and variants to keep that could not be written to the spool.",
            ["type"],
            registry=registry,
        )
        self._swaps = Counter(
            "podium_ranker_bundle_swaps", "Bundles taken into force.", registry=registry
        )
        self._refused = Counter(
            "podium_ranker_bundles_refused",
            "Promoted bundles that were not taken.",
            ["reason"],
            registry=registry,
        )
        self._serving = Gauge(
            "podium_ranker_bundles",
            "Share of users, or requests, that each bundle gets by its role; 1 for the live one "
            "and those of experiments.",
            ["version", "role"],
            registry=registry,
        )
        self._set_aside = Gauge(
            "podium_ranker_bundles_set_aside",
            "1 for every bundle that this replica has set aside.",
            ["version"],
            registry=registry,
        )
        self._bundle_answers = Counter(
            "podium_ranker_bundle_answers",
            "Answers by the role of the bundle; faulty ones were degraded by a fault of it.",
            ["role", "faulty"],
            registry=registry,
        )
        self._shadow_dropped = Counter(
            "podium_ranker_shadow_dropped",
            "Requests of the shadow's share that it did not rank.",
            ["reason"],
            registry=registry,
        )
        self._shadow_overlap = Histogram(
            "podium_ranker_shadow_overlap",
            "Share of the slate that the shadow's has, too.",
            registry=registry,
            buckets=_SHARE_BUCKETS,
        )
        self._shadow_correlation = Histogram(
            "podium_ranker_shadow_rank_correlation",
            "Kendall's tau over the items of both slates.",
            registry=registry,
            buckets=_SIGNED_BUCKETS,
        )
        self._shadow_value_difference = Histogram(
            "podium_ranker_shadow_value_difference",
            "Mean value of the shadow's slate less that of the answer, over the larger one's size.",
            registry=registry,
            buckets=_SIGNED_BUCKETS,
        )
        self._shadow_s = Histogram(
            "podium_ranker_shadow_seconds",
            "Time that the shadow, and the live bundle, took for the same request.",
            ["bundle"],
            registry=registry,
            buckets=_STAGE_BUCKETS_S,
        )
        self._catalogue_age_s = Gauge(
            "podium_ranker_catalogue_age_seconds",
            "How far the catalogue is behind the clock.",
            registry=registry,
        )
        self._definitions_age_s = Gauge(
            "podium_ranker_definitions_age_seconds",
            "How long ago the experiments' definitions were last known to be in force.",
            registry=registry,
        )
        self._level = Gauge(
            "podium_ranker_candidates_level",
            "Share of the configured candidates that requests get: below 1 while answers take "
            "longer than they are to.",
            registry=registry,
        )
        self._catalogue_lag_s = Histogram(
            "podium_ranker_catalogue_lag_seconds",
            "Age of what a step of the catalogue's watch completes, when it is installed: all that "
            "the log held so long ago is in the rows.",
            registry=registry,
            buckets=_LAG_BUCKETS_S,
        )

    def batch(self, size: int) -> None:
        """A micro-batch was ranked."""
        self._batches.observe(size)

    def degraded(self, degradation: Degradation) -> None:
        """An answer was degraded."""
        part, reason = degradation.part.name, degradation.reason.name
        self._degraded.labels(part, reason, degradation.name).inc()

    def removed(self, surface: str, reason: str, count: int) -> None:
        """A filter removed candidates."""
        self._removed.labels(surface, reason).inc(count)

    def non_finite(self, part: Part, count: int) -> None:
        """Values were not finite."""
        self._non_finite.labels(part.name).inc(count)

    def stage(self, name: str, duration_us: int) -> None:
        """A stage of a micro-batch ended."""
        self._stage(name).observe(duration_us / 1_000_000)

    def source(self, name: str, duration_s: float) -> None:
        """A source was asked."""
        self._source(name).observe(duration_s)

    def unknown_candidates(self, surface: str, count: int) -> None:
        """A request named candidates that no item answers to."""
        self._unknown.labels(surface).inc(count)

    def dropped(self, reason: str) -> None:
        """A request left before work was done for it."""
        self._dropped.labels(reason).inc()

    def lost(self, kind: str, count: int) -> None:
        """Events of a type could not be written."""
        self._lost.labels(kind).inc(count)

    def swapped(self) -> None:
        """A bundle was taken into force."""
        self._swaps.inc()

    def refused(self, reason: str) -> None:
        """A promoted bundle was not taken."""
        self._refused.labels(reason).inc()

    def bundles(self, routes: Routes | None, set_aside: Iterable[str]) -> None:
        """Which bundles serve, and which were set aside."""
        self._serving.clear()
        self._set_aside.clear()
        for version in set_aside:
            self._set_aside.labels(version).set(1)
        if routes is None:
            return
        self._serving.labels(routes.live, "live").set(1)
        for role, share in (("canary", routes.canary), ("shadow", routes.shadow)):
            if share is not None:
                self._serving.labels(share.version, role).set(share.share)
        for version in routes.experiments:
            self._serving.labels(version, "experiment").set(1)

    def bundle_answers(self, role: str, sound: int, faulty: int) -> None:
        """A bundle of a role answered."""
        self._bundle_answers.labels(role, "no").inc(sound)
        if faulty:
            self._bundle_answers.labels(role, "yes").inc(faulty)

    def shadow_dropped(self, reason: str) -> None:
        """A request was not ranked by the shadow."""
        self._shadow_dropped.labels(reason).inc()

    def shadow_compared(self, comparison: Comparison, shadow_s: float, live_s: float) -> None:
        """The shadow ranked a request."""
        self._shadow_overlap.observe(comparison.overlap)
        if comparison.correlation is not None:
            self._shadow_correlation.observe(comparison.correlation)
        self._shadow_value_difference.observe(comparison.value_difference)
        self._shadow_s.labels("shadow").observe(shadow_s)
        self._shadow_s.labels("live").observe(live_s)

    def catalogue_aged(self, age_s: float) -> None:
        """A step of the catalogue's watch completed what was that old by then."""
        self._catalogue_lag_s.observe(age_s)

    def watch_level(self, level: Callable[[], float]) -> None:
        """Reads the governor's level whenever metrics are collected."""
        self._level.set_function(level)

    def watch_definitions_age(self, age_s: Callable[[], float]) -> None:
        """Reads the definitions' age from ``age_s`` whenever metrics are collected."""
        self._definitions_age_s.set_function(age_s)

    def watch_catalogue_age(self, age_s: Callable[[], float]) -> None:
        """Reads the catalogue's age from ``age_s`` whenever metrics are collected."""
        self._catalogue_age_s.set_function(age_s)
