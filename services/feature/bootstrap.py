"""Puts the feature service together and runs it.

Starting: take the log, start the applying process, listen (NOT_SERVING), wait until the store has
caught up with the log, read the catalogue, serve. Stopping goes the other way round.
"""

from __future__ import annotations

import asyncio
import logging
import time

from prometheus_client import CollectorRegistry

from podium.feature.v1 import feature_pb2_grpc
from services.common.domain import Domain, load_domain
from services.common.errors import Unavailable
from services.common.event_log import DamageReport, LogWriter
from services.common.files import LOCAL_FILES, Files
from services.common.pseudonym import Pseudonymiser
from services.common.server import AioServer, ServerOptions, build_aio_server, serve_aio
from services.common.settings import FeatureSettings
from services.common.start import make_pseudonymiser, server_options
from services.common.telemetry import MetricsEndpoint, configure_logging, new_registry
from services.feature.acknowledged import Acknowledgements
from services.feature.convert.ingest import EventConverter
from services.feature.convert.watch import WatchEncoder
from services.feature.definitions import catalogue_entities
from services.feature.feed import CatalogueFeed
from services.feature.log import IngestLimits, Ingestor, system_clock_ms
from services.feature.lookup import FeatureLookup
from services.feature.metrics import FeatureMetrics
from services.feature.process import ApplyFiles, ApplyProcess, log_salvage
from services.feature.rows import row_readers
from services.feature.servicer import POLICIES, SERVICE_NAME, FeatureServicer
from services.feature.store.embedded import EmbeddedStore
from services.feature.watch import EntityHub
from services.feature.watch_stream import WatchStreams

START_POLL_S = 0.05
PROGRESS_S = 2.0

_logger = logging.getLogger(__name__)


class FeatureService:
    """The parts of a running service; ``apply`` is its child process.

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
        limits: IngestLimits = IngestLimits(),  # noqa: B008 - it is frozen
        log_files: Files = LOCAL_FILES,
    ) -> None:
        salvage = log_salvage(files.log_dir)
        self._log = LogWriter(files.log_dir, salvage=salvage, files=log_files)
        # The tables have to be there before the first reader comes.
        EmbeddedStore(files.store_dir).close()
        self._store = EmbeddedStore(files.store_dir, read_only=True)
        metrics = FeatureMetrics(registry)
        self.apply = ApplyProcess(files, log_level=log_level, restarted=metrics.apply_restarts.inc)
        self.apply.synced_through(self._log.next_arrival)
        self._ingestor = Ingestor(
            self._log,
            self._store,
            system_clock_ms,
            gaps=metrics.gap,
            on_synced=self._synced,
            limits=limits,
        )
        metrics.watch(lambda: self._ingestor.unapplied, DamageReport(files.log_dir).all)
        readers = row_readers(domain)
        acknowledgements = Acknowledgements()
        hub = EntityHub(
            self._store,
            {e: reader for e, reader in readers.items() if e in catalogue_entities(domain)},
            system_clock_ms,
            acknowledgements=acknowledgements,
        )
        self._feed = CatalogueFeed(
            hub,
            acknowledgements,
            synced_position=lambda: self._ingestor.synced,
            applied=self._ingestor.applied_through,
            clock_ms=system_clock_ms,
        )
        self._streams = WatchStreams(self._feed, WatchEncoder(), metrics)
        servicer = FeatureServicer(
            converter=EventConverter(domain, pseudonymiser.encrypt),
            ingestor=self._ingestor,
            lookup=FeatureLookup(self._store, readers, system_clock_ms),
            streams=self._streams,
            watchable=hub.entities,
            encrypt=pseudonymiser.encrypt,
            clock_ms=system_clock_ms,
            metrics=metrics,
            pairs=frozenset(n for n, e in domain.entities.items() if e.pair),
        )
        self.server: AioServer = build_aio_server(
            options,
            registry,
            [SERVICE_NAME],
            lambda server: feature_pb2_grpc.add_FeatureServiceServicer_to_server(servicer, server),
        )

    async def warm(self) -> None:
        """Returns when the store has caught up with the log and the catalogue is read."""
        self.apply.start()
        end, told_s = self._log.next_arrival, time.monotonic()
        while (position := self._position()) < end:
            if time.monotonic() - told_s > PROGRESS_S:
                told_s = time.monotonic()
                _logger.info("applied %d of %d logged events", position, end)
            await asyncio.sleep(START_POLL_S)
        _logger.info("the store holds all %d logged events", end)
        self._ingestor.start()
        await self._feed.load()
        self._feed.start()
        self._streams.start()

    async def failed(self) -> None:
        """Returns when the service can't go on and has to be started anew."""
        await self._ingestor.broken.wait()

    async def close(self) -> None:
        """Stops the parts, the last made first; what Ingest acknowledged is on disk already."""
        await self._streams.close()
        await self._feed.close()
        await self._ingestor.close()
        await self.apply.close()
        self._store.close()
        self._log.close()

    def _synced(self, position: int) -> None:
        self.apply.synced_through(position)
        self._feed.synced(position)

    def _position(self) -> int:
        """Log position the store is at; -1 until it is known to belong to this log."""
        if not self.apply.prepared:
            return -1
        with self._store.read() as view:
            return view.position()


def run(settings: FeatureSettings) -> None:
    """Serves until SIGTERM or SIGINT. Raises ``ConfigError`` for a wrong configuration,
    ``FailedPrecondition`` while another process writes the log, and ``Unavailable`` after the log
    could not be synced: a new start finds out what is on disk."""
    configure_logging("feature", settings.log_level)
    domain = load_domain(settings.domain_file)
    registry = new_registry()
    with MetricsEndpoint(registry, settings.bind_address, settings.feature_metrics_port):
        asyncio.run(_serve(settings, domain, registry))


async def _serve(settings: FeatureSettings, domain: Domain, registry: CollectorRegistry) -> None:
    service = FeatureService(
        domain,
        ApplyFiles(settings.domain_file, settings.log_dir, settings.store_dir),
        make_pseudonymiser(settings),
        options=server_options(settings, settings.feature_port, POLICIES),
        registry=registry,
        log_level=settings.log_level,
        limits=IngestLimits(max_unapplied_events=settings.max_unapplied_events),
    )
    await serve(service)


async def serve(service: FeatureService) -> None:
    """Serves until SIGTERM or SIGINT; raises ``Unavailable`` when the service can't go on."""
    try:
        stopped = await serve_aio(service.server, service.warm, service.failed)
    finally:
        await service.close()
    if not stopped:
        raise Unavailable("the event log could not be synced", reason="LOG_SYNC_FAILED")
