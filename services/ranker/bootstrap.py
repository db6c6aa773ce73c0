"""The one place where the ranker is put together."""

from __future__ import annotations

import functools
import logging
import math
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import grpc
from prometheus_client import CollectorRegistry

from podium.ranker.v1 import ranker_pb2
from services.common.assign.assign import assign
from services.common.assign.definitions import load_experiments
from services.common.bundle.loaded import LoadedBundle, providers
from services.common.bundle.store import BundleStore
from services.common.callers import allowed
from services.common.channels import open_channel
from services.common.clock import system_clock_ms
from services.common.definitions_disk import DefinitionsDisk
from services.common.domain import load_domain
from services.common.domain_filter_references import filterable_fields
from services.common.ids import new_rank_id
from services.common.memory import collect_for_batches
from services.common.serving.server import LoopServer, build_loop_server, serve_loop
from services.common.settings import RankerSettings
from services.common.spool import Spool
from services.common.spool_shipping import SpoolMetrics, SpoolShipper, ingest_sender
from services.common.start import make_pseudonymiser, make_token_keys, server_options
from services.common.telemetry import MetricsEndpoint, configure_logging, new_registry
from services.common.threads import giving_way, take_short_turns
from services.ranker.batcher import Batcher
from services.ranker.bundle_spec import bundle_spec
from services.ranker.bundles.answers import BundleAnswers
from services.ranker.bundles.faults import BundleFaults, FaultLimits
from services.ranker.bundles.loading import BundleLoader
from services.ranker.bundles.mixed import Mixed, MixedPipeline
from services.ranker.bundles.quarantine import Quarantine
from services.ranker.bundles.recent import KEPT_REQUESTS, RecentRequests
from services.ranker.bundles.shadow import ShadowLimits, ShadowScoring
from services.ranker.bundles.warming import Warming
from services.ranker.bundles.watcher import BundleWatcher
from services.ranker.calls.answering import Answering
from services.ranker.catalogue.disk import ReplicaDisk
from services.ranker.catalogue.replica import Replica, ReplicaTimes
from services.ranker.definitions.in_force import DefinitionsInForce, FixedDefinitions
from services.ranker.definitions.replica import DefinitionsReplica
from services.ranker.experiment_client import ExperimentClient
from services.ranker.explain.capture import capture_of
from services.ranker.explain.directory import CaptureFiles, recorded_commands
from services.ranker.explain.tracing import Tracing
from services.ranker.explain.versions import Origin
from services.ranker.explain.writer import CaptureMetrics, CaptureWriter
from services.ranker.exposures import Exposures
from services.ranker.feature_client import FeatureClient
from services.ranker.feature_rows import View
from services.ranker.governor import Governor
from services.ranker.guarantee_metrics import GuaranteeMetrics, standings_of
from services.ranker.last_known import LastKnownRows
from services.ranker.metrics import RankerMetrics
from services.ranker.pipeline import Pipeline
from services.ranker.servicer import POLICIES, RankerServicer
from services.ranker.slate_log import AssignmentLog, SpooledSlates
from services.ranker.sources.aside import Aside
from services.ranker.sources.asking import Run, SourceAsking
from services.ranker.sources.breaker import SourceLimits
from services.ranker.state import Serving
from services.ranker.tokens.issuer import Tokens
from services.ranker.types import RankCommand, RankResult
from services.ranker.unobserved import Unobserved

_logger = logging.getLogger(__name__)

BUNDLES_PART = "podium.ranker.bundles"
"""Health of this name: SERVING while all bundles serve that the pointer names."""

_PROBE_TIMEOUT_S = 1.0
_READY_LOOK_S = 0.05
_GIVE_WAY_S = 0.1
_DEFINITIONS_WAIT_S = 2.0


@dataclass(frozen=True)
class WatchedDefinitions:
    """The definitions of the experiment service, and the channel to it."""

    replica: DefinitionsReplica
    channel: grpc.Channel

    def close(self) -> None:
        """Ends the watch, then the channel."""
        self.replica.close()
        self.channel.close()


@dataclass(frozen=True)
class RankerApp:
    """A ranker that is put together. ``start`` begins loading, ``close`` ends in reverse order."""

    server: LoopServer
    serving: Serving
    bundles: BundleWatcher
    shadow: ShadowScoring
    spool: Spool
    shipper: SpoolShipper
    captures: CaptureWriter
    channel: grpc.Channel
    registry: CollectorRegistry
    watched: WatchedDefinitions | None
    aside: Aside[Run]

    def start(self) -> None:
        """Starts the threads: definitions, captures, the shadow, shipping, bundles."""
        if self.watched is not None:
            self.watched.replica.start()
        self.captures.start()
        self.shadow.start()
        self.shipper.start()
        self.bundles.start()

    def warm(self, stop: threading.Event) -> None:
        """Waits until a bundle and a catalogue are in force and warm, or ``stop`` is set."""
        while not stop.is_set() and not self.serving.wait_ready(_READY_LOOK_S):
            continue
        if self.watched is not None and not stop.is_set():
            # Without the experiment service and a copy nobody is in an experiment, and answers say
            # so: that is better than no answers.
            self.watched.replica.wait_installed(_DEFINITIONS_WAIT_S)

    def close(self) -> None:
        """Ends everything but the server, which is drained before."""
        self.aside.close()
        self.shadow.close()
        self.captures.close()
        self.bundles.close()
        self.shipper.close()
        self.spool.close()
        self.channel.close()
        if self.watched is not None:
            self.watched.close()


def build(settings: RankerSettings) -> RankerApp:
    """Puts a ranker together. Raises ``ConfigError`` and what opening the spool raises."""
    domain = load_domain(settings.domain_file)
    watched = watched_definitions(settings)
    definitions: DefinitionsInForce = (
        FixedDefinitions(load_experiments(settings.experiments_file, domain))
        if watched is None
        else watched.replica
    )
    registry = new_registry()
    metrics = RankerMetrics(registry)
    channel = open_channel(settings.feature_target)
    client = FeatureClient(channel)
    names = make_pseudonymiser(settings)
    spool = Spool(settings.spool_dir, "ranker", names)
    spool_metrics = SpoolMetrics(registry)
    shipper = SpoolShipper(
        spool, ingest_sender(channel, spool.producer, spool_metrics), spool_metrics
    )
    origin = Origin(domain.config_hash, definitions.current().hash)
    files = CaptureFiles(
        settings.capture_dir,
        max_bytes=settings.capture_max_bytes,
        max_age_s=timedelta(days=settings.capture_max_age_days).total_seconds(),
    )
    captures = CaptureWriter(
        lambda trace: capture_of(trace, names, origin),
        files.write,
        files.expire,
        CaptureMetrics(registry),
    )
    serving = Serving(exact_rows=settings.exact_search_rows)
    governor = Governor(target_s=settings.rank_target_ms / 1000, floor=settings.candidates_floor)
    metrics.watch_level(lambda: governor.level)
    source_limits = SourceLimits(
        budget_s=settings.source_budget_ms / 1000, rest_s=settings.source_rest_seconds
    )
    aside = Aside[Run]()
    exposures = Exposures(
        window_ms=round(
            timedelta(hours=settings.exposure_window_hours) / timedelta(milliseconds=1)
        ),
        capacity=settings.exposure_memory,
    )
    pipeline = Pipeline(
        serving.current,
        client,
        definitions,
        SpooledSlates(
            spool,
            assignments=AssignmentLog(exposures, names.encrypt),
            feature_share=settings.logged_feature_share,
            lost=metrics.lost,
        ),
        metrics,
        governor=governor,
        last_known=LastKnownRows(
            capacity=settings.last_known_users,
            max_age_s=settings.last_known_seconds,
            monotonic_s=time.monotonic,
        ),
        sources=SourceAsking(source_limits, ran=metrics.source, log_error=_log_error, aside=aside),
        feature_timeout_s=settings.feature_timeout_ms / 1000,
        new_rank_id=new_rank_id,
        log_error=_log_error,
        tracing=Tracing(settings.capture_share, origin, captures.offer),
    )
    looking, closing, idle = threading.Event(), threading.Event(), threading.Event()
    limits = FaultLimits(settings.quarantine_requests, settings.quarantine_share)
    faults = BundleFaults(limits, judged=looking.set)
    recent = RecentRequests(lambda: recorded_commands(settings.capture_dir, KEPT_REQUESTS))
    unobserved = Unobserved()

    def unheard() -> Pipeline:
        """A pipeline whose work is no answer: it counts, and remembers, nothing."""
        return Pipeline(
            serving.current,
            client,
            definitions,
            SpooledSlates(spool),
            unobserved,
            governor=Governor(target_s=math.inf, floor=1.0),
            last_known=LastKnownRows(capacity=0, max_age_s=0.0, monotonic_s=time.monotonic),
            sources=SourceAsking(source_limits, ran=unobserved.source, log_error=_log_error),
            feature_timeout_s=settings.feature_timeout_ms / 1000,
            new_rank_id=new_rank_id,
            log_error=_log_error,
        )

    shadow = ShadowScoring(
        serving.in_force,
        unheard(),
        client,
        BundleAnswers(faults, recent, metrics, lambda _, __: None),
        metrics,
        idle=idle,
        log_error=_log_error,
        limits=ShadowLimits(settings.shadow_waiting, settings.shadow_wait_seconds),
    )
    mixed = MixedPipeline(
        serving.in_force,
        pipeline,
        client,
        definitions,
        BundleAnswers(faults, recent, metrics, shadow.offer),
        idle=idle,
        log_error=_log_error,
    )
    batcher: Batcher[RankCommand, Mixed, RankResult] = Batcher(
        mixed.begin,
        mixed.ready,
        mixed.finish,
        max_batch=settings.max_batch,
        queue_limit=settings.queue_limit,
        failed=functools.partial(_log_error, "a micro-batch failed"),
        dropped=metrics.dropped,
        answered=governor.answered,
        rested=idle.set,
        background_limit=settings.background_limit,
    )

    def make_replica(views: Mapping[str, View]) -> Replica:
        return Replica(
            views,
            client.watch,
            ReplicaDisk(settings.replica_dir, views),
            serving.install_tables,
            times=ReplicaTimes(
                stale_s=settings.catalogue_stale_seconds, save_s=settings.catalogue_save_seconds
            ),
            aged=metrics.catalogue_aged,
        )

    def load_bundle(path: Path) -> LoadedBundle:
        load = functools.partial(
            LoadedBundle.load, path, threads=settings.model_threads, device=settings.device
        )
        # Threads that a model keeps for its runs would give way for good, as their maker does.
        beside_calls = serving.version is not None and settings.model_threads == 1
        return giving_way(load) if beside_calls else load()

    store = BundleStore(settings.bundles_dir)
    loader = BundleLoader(
        store,
        serving,
        load=load_bundle,
        specify=lambda bundle: bundle_spec(bundle, domain),
        probe=lambda entity, view: client.probe(entity, view, _PROBE_TIMEOUT_S),
        make_replica=make_replica,
        warm=Warming(
            unheard(),
            recent.requests,
            share=settings.quarantine_share,
            give_way=lambda: idle.wait(_GIVE_WAY_S),
        ),
        closing=closing,
        look_s=settings.bundle_poll_seconds,
    )
    bundles = BundleWatcher(
        store,
        serving,
        loader,
        faults,
        Quarantine(settings.replica_dir / "quarantine.json"),
        metrics=metrics,
        poll_s=settings.bundle_poll_seconds,
        wake=looking,
        closing=closing,
        report=lambda all_serve: server.report(BUNDLES_PART, is_serving=all_serve),
    )
    metrics.watch_catalogue_age(loader.catalogue_age_s)
    metrics.watch_definitions_age(lambda: definitions.age_ms() / 1000)
    GuaranteeMetrics(registry, lambda: standings_of(serving.current, system_clock_ms()))
    keys = make_token_keys(settings)
    servicer = RankerServicer(
        Answering(batcher, Tokens(keys, lifetime_s=settings.token_seconds), keys),
        domain.surfaces,
        {
            name: filterable_fields(domain, surface.entity)
            for name, surface in domain.surfaces.items()
        },
        lambda forced: assign(definitions.current(), {}, forced),
        lambda surface, item_id: serving.current().plans[surface].table.has(item_id),
        trust_metadata=settings.environment == "dev",
        may_debug=may_debug(settings),
    )
    service = ranker_pb2.DESCRIPTOR.services_by_name["RankerService"]
    server = build_loop_server(
        server_options(settings, settings.ranker_port, POLICIES),
        registry,
        {service: servicer},
        batcher,
    )
    _logger.info("models run on %s", providers(settings.device)[0])
    return RankerApp(
        server,
        serving,
        bundles,
        shadow,
        spool,
        shipper,
        captures,
        channel,
        registry,
        watched,
        aside,
    )


def watched_definitions(settings: RankerSettings) -> WatchedDefinitions | None:
    """Those of the experiment service; None where there is none."""
    if not settings.experiment_target:
        return None
    channel = open_channel(settings.experiment_target)
    replica = DefinitionsReplica(
        ExperimentClient(channel).watch,
        DefinitionsDisk(settings.replica_dir),
        stale_s=settings.definitions_stale_seconds,
    )
    return WatchedDefinitions(replica, channel)


def may_debug(settings: RankerSettings) -> Callable[[str], bool]:
    """Which callers, by name, may ask for debug."""
    return allowed(settings.debug_callers, everybody=settings.environment == "dev")


def run(settings: RankerSettings) -> None:
    """Serves until SIGTERM or SIGINT. To be called in the main thread."""
    configure_logging("ranker", settings.log_level)
    take_short_turns()
    collect_for_batches()
    app = build(settings)
    with MetricsEndpoint(app.registry, settings.bind_address, settings.ranker_metrics_port):
        app.start()
        try:
            serve_loop(app.server, app.warm)
        finally:
            app.close()


def _log_error(what: str, error: BaseException) -> None:
    _logger.error("%s: %s", what, error, exc_info=error)
