"""Puts the feature service together and runs it.

Starting: take the log, start the applying process, listen (NOT_SERVING), wait until the store has
caught up with the log, read the catalogue, serve. Stopping goes the other way round.
"""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from podium.feature.v1 import feature_pb2_grpc
from services.common.clock import system_clock_ms
from services.common.courtesy import Courtesy
from services.common.domain import Domain, load_domain
from services.common.errors import Unavailable
from services.common.event_log import DamageReport, LogWriter
from services.common.files import LOCAL_FILES, Files
from services.common.log_identity import log_identity
from services.common.pseudonym import Pseudonymiser
from services.common.server import AioServer, ServerOptions, build_aio_server, serve_aio
from services.common.settings import FeatureSettings
from services.common.start import make_pseudonymiser, server_options
from services.common.telemetry import MetricsEndpoint, configure_logging, new_registry
from services.common.threads import take_short_turns
from services.feature.applying.process import ApplyFiles, ApplyProcess, log_salvage
from services.feature.convert.ingest import EventConverter
from services.feature.convert.watch import WatchEncoder
from services.feature.ingest.log import Ingestor
from services.feature.ingest.types import DEFAULT_LIMITS, IngestLimits
from services.feature.metrics import FeatureMetrics
from services.feature.servicer import POLICIES, SERVICE_NAME, FeatureServicer
from services.feature.store.opening import StoreOptions
from services.feature.views.generation import Surroundings
from services.feature.views.generations import Generations
from services.feature.views.registry import registry_of


class FeatureService:
    """The parts of a running service.

    To be made on a running event loop. ``server`` is served with ``warm``; ``close`` comes after
    it has drained.
    """

    def __init__(
        self,
        domain: Domain,
        files: ApplyFiles,
        pseudonymiser: Pseudonymiser,
        *,
        options: ServerOptions,
        registry: CollectorRegistry,
        log_level: str = "INFO",
        limits: IngestLimits = DEFAULT_LIMITS,
        log_files: Files = LOCAL_FILES,
    ) -> None:
        salvage = log_salvage(files.log_dir)
        # While keys rotate, what came before this start is in segments that nobody writes to.
        rotating = len(pseudonymiser.versions) > 1
        self._log = LogWriter(files.log_dir, salvage=salvage, files=log_files, new_segment=rotating)
        metrics = FeatureMetrics(registry)
        courtesy = Courtesy()
        around = Surroundings(
            log_dir=files.log_dir,
            clock_ms=system_clock_ms,
            synced_position=lambda: self._ingestor.synced,
            applied=self._applied,
            restarted=metrics.apply_restarts.inc,
            encoder=WatchEncoder(),
            observer=metrics,
            courtesy=courtesy,
            log_level=log_level,
            pseudonymiser=pseudonymiser,
            store=files.store,
            log_id=log_identity(files.log_dir) if files.store.shared else "",
        )
        try:
            self._generations = Generations(
                domain, registry_of(files.log_dir), files.store_dir, around
            )
        except BaseException:
            self._log.close()
            raise
        self._generations.synced_through(self._log.next_arrival)
        self._ingestor = Ingestor(
            self._log,
            self._generations,
            system_clock_ms,
            gaps=metrics.gap,
            on_synced=self._generations.synced_through,
            courtesy=courtesy,
            limits=limits,
        )
        metrics.watch(
            lambda: self._ingestor.unapplied,
            DamageReport(files.log_dir).all,
            lambda: self.apply.pause_reason,
        )
        servicer = FeatureServicer(
            converter=EventConverter(
                domain,
                pseudonymiser.encrypt,
                [
                    pseudonymiser.under(version).translate
                    for version in pseudonymiser.versions
                    if version != pseudonymiser.version
                ],
            ),
            ingestor=self._ingestor,
            generations=self._generations,
            key_version=pseudonymiser.version,
            clock_ms=system_clock_ms,
            metrics=metrics,
            courtesy=courtesy,
        )
        self.server: AioServer = build_aio_server(
            options,
            registry,
            [SERVICE_NAME],
            lambda server: feature_pb2_grpc.add_FeatureServiceServicer_to_server(servicer, server),
        )

    @property
    def apply(self) -> ApplyProcess:
        """The child process that fills the store in force."""
        return self._generations.current.apply

    async def warm(self) -> None:
        """Returns when the store has caught up with the log and the catalogue is read."""
        await self._generations.warm(self._log.next_arrival)
        self._ingestor.start()
        await self._generations.load()
        self._generations.start()

    async def failed(self) -> None:
        """Returns when the service can't go on and has to be started anew."""
        await self._ingestor.broken.wait()

    async def close(self) -> None:
        """Stops the parts, the last made first; what Ingest acknowledged is on disk already."""
        await self._generations.stop()
        await self._ingestor.close()
        await self._generations.close()
        self._log.close()

    def _applied(self, position: int) -> None:
        self._ingestor.applied_through(position)


def run(settings: FeatureSettings) -> None:
    """Serves until SIGTERM or SIGINT. Raises ``ConfigError`` for a wrong configuration,
    ``FailedPrecondition`` while another process writes the log, and ``Unavailable`` after the log
    could not be synced: a new start finds out what is on disk."""
    configure_logging("feature", settings.log_level)
    take_short_turns()
    domain = load_domain(settings.domain_file)
    registry = new_registry()
    with MetricsEndpoint(registry, settings.bind_address, settings.feature_metrics_port):
        asyncio.run(_serve(settings, domain, registry))


async def _serve(settings: FeatureSettings, domain: Domain, registry: CollectorRegistry) -> None:
    service = FeatureService(
        domain,
        ApplyFiles(
            settings.domain_file, settings.log_dir, settings.store_dir, store_options(settings)
        ),
        make_pseudonymiser(settings),
        options=server_options(settings, settings.feature_port, POLICIES),
        registry=registry,
        log_level=settings.log_level,
        limits=IngestLimits(max_unapplied_events=settings.max_unapplied_events),
    )
    await serve(service)


def store_options(settings: FeatureSettings) -> StoreOptions:
    """Which store the settings name."""
    return StoreOptions(
        kind=settings.store,
        max_bytes=settings.store_max_bytes,
        redis_url=settings.redis_url.get_secret_value(),
        redis_timeout_s=settings.redis_timeout_ms / 1000,
    )


async def serve(service: FeatureService) -> None:
    """Serves until SIGTERM or SIGINT; raises ``Unavailable`` when the service can't go on."""
    try:
        stopped = await serve_aio(service.server, service.warm, service.failed)
    finally:
        await service.close()
    if not stopped:
        raise Unavailable("the event log could not be synced", reason="LOG_SYNC_FAILED")
