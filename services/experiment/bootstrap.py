"""Puts the experiment service together and runs it."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from podium.experiment.v1 import experiment_pb2_grpc
from services.common.assign.definitions import load_experiments
from services.common.clock import system_clock_ms
from services.common.domain import load_domain
from services.common.server import AioServer, ServerOptions, build_aio_server, serve_aio
from services.common.settings import ExperimentSettings
from services.common.start import server_options
from services.common.telemetry import MetricsEndpoint, configure_logging, new_registry
from services.experiment.convert import WatchEncoder
from services.experiment.servicer import POLICIES, SERVICE_NAME, ExperimentServicer
from services.experiment.source import DefinitionsSource, FileDefinitions
from services.experiment.watch.stream import DefinitionsWatch


def build_server(
    source: DefinitionsSource,
    watch: DefinitionsWatch,
    options: ServerOptions,
    registry: CollectorRegistry,
) -> AioServer:
    """The service's server on the running event loop."""
    servicer = ExperimentServicer(source, watch, system_clock_ms)
    return build_aio_server(
        options,
        registry,
        [SERVICE_NAME],
        lambda server: experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(
            servicer, server
        ),
    )


def file_source(settings: ExperimentSettings) -> FileDefinitions:
    """The definitions of the experiments file. Raises ``ConfigError``."""
    domain = load_domain(settings.domain_file)
    return FileDefinitions(settings.experiments_file, lambda path: load_experiments(path, domain))


def run(settings: ExperimentSettings) -> None:
    """Serves until SIGTERM or SIGINT. Raises ``ConfigError`` for a wrong configuration."""
    configure_logging("experiment", settings.log_level)
    source = file_source(settings)
    registry = new_registry()
    options = server_options(settings, settings.experiment_port, POLICIES)
    with MetricsEndpoint(registry, settings.bind_address, settings.experiment_metrics_port):
        asyncio.run(_serve(source, options, registry))


async def _serve(
    source: DefinitionsSource, options: ServerOptions, registry: CollectorRegistry
) -> None:
    watch = DefinitionsWatch(source, WatchEncoder())
    server = build_server(source, watch, options, registry)
    watch.start()
    try:
        await serve_aio(server, _nothing_to_warm)
    finally:
        await watch.close()


async def _nothing_to_warm() -> None:
    """The definitions are in memory before the server exists."""
