"""Writes captures from a thread of its own, so that no request waits for one."""

from __future__ import annotations

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

from prometheus_client import CollectorRegistry, Counter

from services.common.errors import InvalidArgument
from services.ranker.explain.capture import Capture
from services.ranker.explain.trace import Trace

WAITING: Final = 16
"""Traces that may wait to be written. Each keeps its version of the catalogue in memory."""

EXPIRE_EVERY_S: Final = 600.0
"""How long captures may stay beyond their time where none is written."""

_logger = logging.getLogger(__name__)


class CaptureMetrics:
    """What became of captures."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.written = Counter(
            "podium_ranker_captures_written", "Captures written.", registry=registry
        )
        self.removed = Counter(
            "podium_ranker_captures_removed",
            "Captures removed: of their age, or to make room for later ones.",
            registry=registry,
        )
        self.dropped = Counter(
            "podium_ranker_captures_dropped",
            "Captures not written: busy, too many waited; failed, they could not be written.",
            ["reason"],
            registry=registry,
        )


class CaptureWriter:
    """``write`` keeps a capture and returns how many it removed for it; ``expire`` removes those
    whose time is over, and returns how many."""

    def __init__(
        self,
        make: Callable[[Trace], Capture],
        write: Callable[[Capture], int],
        expire: Callable[[], int],
        metrics: CaptureMetrics,
        *,
        expire_every_s: float = EXPIRE_EVERY_S,
    ) -> None:
        self._make = make
        self._write = write
        self._expire = expire
        self._expire_every_s = expire_every_s
        self._metrics = metrics
        self._waiting: queue.Queue[Trace | None] = queue.Queue(WAITING)
        self._thread = threading.Thread(target=self._run, name="captures", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def offer(self, trace: Trace) -> None:
        """Has a capture written, or drops it where too many wait. Never raises."""
        try:
            self._waiting.put_nowait(trace)
        except queue.Full:
            self._metrics.dropped.labels("busy").inc()

    def close(self) -> None:
        """Writes what waits and ends the thread."""
        if self._thread.is_alive():
            self._waiting.put(None)
            self._thread.join()

    def _run(self) -> None:
        self._remove_expired()
        while True:
            try:
                trace = self._waiting.get(timeout=self._expire_every_s)
            except queue.Empty:
                self._remove_expired()
                continue
            if trace is None:
                return
            try:
                self._metrics.removed.inc(self._write(self._make(trace)))
                self._metrics.written.inc()
            except (OSError, InvalidArgument) as error:
                self._metrics.dropped.labels("failed").inc()
                _logger.error("a capture could not be written: %s", error)
            except Exception:
                self._metrics.dropped.labels("failed").inc()
                _logger.exception("a capture could not be made")

    def _remove_expired(self) -> None:
        try:
            self._metrics.removed.inc(self._expire())
        except OSError as error:
            _logger.error("captures could not be removed: %s", error)
