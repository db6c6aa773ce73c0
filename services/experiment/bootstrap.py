"""Puts the experiment service together and runs it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from prometheus_client import CollectorRegistry, Gauge

from podium.experiment.v1 import experiment_pb2_grpc
from podium.flagd.evaluation.v1 import evaluation_pb2_grpc as flagd_v1_grpc
from podium.flagd.evaluation.v2 import evaluation_pb2_grpc as flagd_v2_grpc
from services.common.assign.definitions import errors_within, load_experiments
from services.common.callers import Callers, allowed, tokens_of
from services.common.clock import system_clock_ms
from services.common.definitions_disk import DefinitionsDisk
from services.common.domain import load_domain
from services.common.server import AioServer, ServerOptions, build_aio_server, serve_aio
from services.common.settings import ExperimentSettings
from services.common.start import server_options
from services.common.telemetry import MetricsEndpoint, configure_logging, new_registry
from services.common.threads import take_short_turns
from services.experiment.calls import ThreadedCalls
from services.experiment.convert import WatchEncoder
from services.experiment.flagd import servicer as flagd
from services.experiment.flagd.convert import V1, V2, FlagEventEncoder
from services.experiment.flagd.events import FlagEvents
from services.experiment.registry.registry import Registry
from services.experiment.registry_source import RegistryDefinitions
from services.experiment.servicer import POLICIES, ExperimentServicer
from services.experiment.servicer_registry import SERVICE_NAME, OpenRegistry, Roles
from services.experiment.source import DefinitionsSource, FileDefinitions
from services.experiment.watch.stream import DefinitionsWatch

if TYPE_CHECKING:
    import grpc

    from services.common.domain import Domain
    from services.experiment.registry.ports import Store

TOKENS_SETTING = "PODIUM_EXPERIMENT_TOKENS"
REGISTRY_PART = "registry"
"""What health checks call the registry by: the service itself goes on without its database."""

REGISTRY_THREADS = 4


async def nothing_to_wait_for() -> None:
    """The definitions are in memory before the server exists."""


@dataclass(frozen=True)
class Definitions:
    """Where the definitions come from. ``opened``: the registry, where they are its; ``known``
    returns once there are any."""

    source: DefinitionsSource
    opened: OpenRegistry | None = None
    known: Callable[[], Coroutine[object, object, None]] = nothing_to_wait_for
    close: Callable[[], None] = lambda: None


def build_server(
    definitions: Definitions,
    watch: DefinitionsWatch,
    events: FlagEvents,
    options: ServerOptions,
    registry: CollectorRegistry,
) -> AioServer:
    """The service's server on the running event loop."""
    source = definitions.source
    servicer = ExperimentServicer(source, watch, system_clock_ms, definitions.opened)
    flagd_v1 = flagd.FlagdServicer(V1, source, events, system_clock_ms)
    flagd_v2 = flagd.FlagdServicer(V2, source, events, system_clock_ms)

    def register(server: grpc.aio.Server) -> None:
        experiment_pb2_grpc.add_ExperimentServiceServicer_to_server(servicer, server)
        flagd_v1_grpc.add_ServiceServicer_to_server(cast(Any, flagd_v1), server)
        flagd_v2_grpc.add_ServiceServicer_to_server(cast(Any, flagd_v2), server)

    return build_aio_server(options, registry, [SERVICE_NAME, *flagd.SERVICE_NAMES], register)


def roles_of(settings: ExperimentSettings) -> Roles:
    """Who may do what. Raises ``ConfigError``."""
    in_development = settings.environment == "dev"
    tokens = tokens_of(settings.experiment_tokens.get_secret_value(), TOKENS_SETTING)
    return Roles(
        Callers(tokens, trust_metadata=in_development),
        allowed(settings.experiment_editors, everybody=in_development),
        allowed(settings.experiment_reporters, everybody=False),
    )


def definitions_of(settings: ExperimentSettings) -> Definitions:
    """Those of the registry, or else of the experiments file. Raises ``ConfigError``."""
    domain = load_domain(settings.domain_file)
    url = settings.experiment_database_url.get_secret_value()
    if not url:
        load = partial(load_experiments, domain=domain)
        return Definitions(FileDefinitions(settings.experiments_file, load))
    # Needed with a registry alone: a service over a file does without SQLAlchemy.
    from services.experiment.store.engine import open_engine
    from services.experiment.store.sql import SqlStore

    store = SqlStore(open_engine(url))
    return registry_definitions(store, settings.experiment_dir, domain, roles_of(settings))


def registry_definitions(
    store: Store, directory: Path, domain: Domain | None, roles: Roles
) -> Definitions:
    """Those of a registry; its last copy lies in ``directory``."""
    executor = ThreadPoolExecutor(REGISTRY_THREADS, "registry")
    source = RegistryDefinitions(store, DefinitionsDisk(directory), executor)
    registry = Registry(store, partial(errors_within, domain=domain), system_clock_ms)

    def close() -> None:
        executor.shutdown(cancel_futures=True)
        store.close()

    opened = OpenRegistry(ThreadedCalls(registry, source, executor), roles)
    return Definitions(source, opened, source.known, close)


def run(settings: ExperimentSettings) -> None:
    """Serves until SIGTERM or SIGINT. Raises ``ConfigError`` for a wrong configuration."""
    configure_logging("experiment", settings.log_level)
    take_short_turns()
    definitions = definitions_of(settings)
    registry = new_registry()
    options = server_options(settings, settings.experiment_port, POLICIES | flagd.POLICIES)
    with MetricsEndpoint(registry, settings.bind_address, settings.experiment_metrics_port):
        try:
            asyncio.run(_serve(definitions, options, registry))
        finally:
            definitions.close()


async def _serve(
    definitions: Definitions, options: ServerOptions, registry: CollectorRegistry
) -> None:
    source = definitions.source
    events = FlagEvents(source, FlagEventEncoder())
    watch = DefinitionsWatch(source, WatchEncoder(), [events.told])
    server = build_server(definitions, watch, events, options, registry)
    if isinstance(source, RegistryDefinitions):
        observe(source, server, registry)
    events.start()
    watch.start()
    try:
        await serve_aio(server, definitions.known)
    finally:
        await watch.close()
        await events.close()


def observe(source: RegistryDefinitions, server: AioServer, registry: CollectorRegistry) -> None:
    """Tells of the registry in health checks, as ``REGISTRY_PART``, and in metrics."""
    source.on_health(partial(server.set_part, REGISTRY_PART))
    Gauge(
        "podium_experiment_registry_up",
        "1 while the registry's database answers, 0 while what is in force stays without it.",
        registry=registry,
    ).set_function(lambda: float(source.answers()))
    Gauge(
        "podium_experiment_definitions_age_seconds",
        "Time since the definitions were last known to be in force.",
        registry=registry,
    ).set_function(source.age_s)
