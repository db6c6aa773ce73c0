"""Puts the experiment service together and runs it."""

from __future__ import annotations

import asyncio

from prometheus_client import CollectorRegistry

from podium.experiment.v1 import experiment_pb2_grpc
from services.common.assign.assign import Definitions
from services.common.assign.definitions import load_experiments
from services.common.domain import load_domain
from services.common.server import AioServer, ServerOptions, build_aio_server, serve_aio
from services.common.settings import ExperimentSettings
from services.common.start import server_options
from services.common.telemetry import MetricsEndpoint, configure_logging, new_registry
from services.experiment.servicer import POLICIES, SERVICE_NAME, ExperimentServicer


def build_server(
    definitions: Definitions, options: ServerOptions, registry: CollectorRegistry
) -> AioServer:
    """The service's server on the running event loop."""
    servicer = ExperimentServicer(definitions)
    return build_aio_server(
        options,
        registry,
        [SERVICE_NAME],
        lambda server: experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(
            servicer, server
        ),
    )


def run(settings: ExperimentSettings) -> None:
    """Serves until SIGTERM or SIGINT. Raises ``ConfigError`` for a wrong configuration."""
    configure_logging("experiment", settings.log_level)
    definitions = load_experiments(settings.experiments_file, load_domain(settings.domain_file))
    registry = new_registry()
    options = server_options(settings, settings.experiment_port, POLICIES)
    with MetricsEndpoint(registry, settings.bind_address, settings.experiment_metrics_port):
        asyncio.run(_serve(definitions, options, registry))


async def _serve(
    definitions: Definitions, options: ServerOptions, registry: CollectorRegistry
) -> None:
    await serve_aio(build_server(definitions, options, registry), _nothing_to_warm)


async def _nothing_to_warm() -> None:
    """The definitions are in memory before the server exists."""
