"""JSON logs on standard error and Prometheus metrics on a port."""

from __future__ import annotations

import json
import logging
import sys
import time
from types import TracebackType
from typing import Self, TextIO

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    start_http_server,
)

from services.common.call import current_call
from services.common.errors import Unavailable

_logger = logging.getLogger(__name__)

_STANDARD_FIELDS = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime"}
_DURATION_BUCKETS_S = (
    *(0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032),
    *(0.064, 0.128, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time (UTC), level, service, logger, message, request_id, extras."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service

    def format(self, record: logging.LogRecord) -> str:
        """The record as one line."""
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        entry: dict[str, object] = {
            "time": f"{stamp}.{int(record.msecs):03d}Z",
            "level": record.levelname,
            "service": self._service,
            "logger": record.name,
            "message": record.getMessage(),
        }
        call = current_call()
        if call is not None:
            entry["request_id"] = call.request_id
        entry |= {k: v for k, v in vars(record).items() if k not in _STANDARD_FIELDS}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, default=str)


def _is_news(record: logging.LogRecord) -> bool:
    """Not that a caller had gone when its stream's next message was sent: gRPC says so with a
    traceback, a call; the metrics count them as CANCELLED."""
    return not (
        record.name == "grpc._cython.cygrpc" and record.getMessage().startswith("ExecuteBatchError")
    )


def configure_logging(service: str, level: str, stream: TextIO | None = None) -> None:
    """Sends every logger's records from ``level`` up to ``stream`` (standard error) as JSON."""
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.addFilter(_is_news)
    handler.setFormatter(JsonFormatter(service))
    logging.basicConfig(level=level, handlers=[handler], force=True)


def new_registry() -> CollectorRegistry:
    """A registry with the process's own metrics."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    GCCollector(registry=registry)
    return registry


class RpcMetrics:
    """Counts and times of calls, by method and status."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.handled = Counter(
            "podium_rpc_handled", "Calls answered.", ["method", "code"], registry=registry
        )
        self.in_flight = Gauge(
            "podium_rpc_in_flight", "Calls being worked on, without streams.", registry=registry
        )
        self.streams = Gauge("podium_rpc_streams", "Open streams.", ["method"], registry=registry)
        self.duration_s = Histogram(
            "podium_rpc_duration_seconds",
            "Time from the call's arrival in a handler to its answer.",
            ["method"],
            registry=registry,
            buckets=_DURATION_BUCKETS_S,
        )


class MetricsEndpoint:
    """Serves a registry over HTTP at ``/metrics`` until closed. ``port`` is the bound one."""

    def __init__(self, registry: CollectorRegistry, address: str, port: int) -> None:
        """Raises ``Unavailable`` (PORT_TAKEN) when it can't listen there."""
        try:
            self._server, self._thread = start_http_server(
                port, addr=address.strip("[]"), registry=registry
            )
        except OSError as error:
            raise Unavailable(
                f"cannot serve metrics on {address}:{port}: {error.strerror}", reason="PORT_TAKEN"
            ) from error
        self.port: int = self._server.server_port
        _logger.info("metrics on %s:%d", address, self.port)

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()
