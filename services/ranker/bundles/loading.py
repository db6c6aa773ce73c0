"""Brings a bundle in beside those that serve: load, verify, watch its catalogue, encode, warm.

All of it happens off the request path.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.errors import (
    BundleError,
    PodiumError,
    Unavailable,
    UnknownFeatureView,
    Unreadable,
)
from services.common.threads import giving_way
from services.ranker.bundles.replicas import Replicas
from services.ranker.catalogue.replica import Replica
from services.ranker.feature_rows import View
from services.ranker.plan import BundleSpec
from services.ranker.state import Serving, ServingState

Result = TypeVar("Result")

_logger = logging.getLogger(__name__)

_CATALOGUE_WAIT_S = 30.0
_FRESH_WAIT_S = 5.0
_FRESH_LOOK_S = 0.01


class Unforeseen(BundleError):
    """A bundle made the code that loads or prepares it fail; the cause has the traceback."""

    reason = "UNFORESEEN"


class BundleLoader:
    """Loads bundles of a store into ``serving`` and drops them. Used by one thread.

    ``probe`` asks the feature service whether it serves a view of an entity type, and raises a
    PodiumError when not; ``closing`` ends what waits.
    """

    def __init__(
        self,
        store: BundleStore,
        serving: Serving,
        *,
        load: Callable[[Path], LoadedBundle],
        specify: Callable[[LoadedBundle], BundleSpec],
        probe: Callable[[str, View], None],
        make_replica: Callable[[Mapping[str, View]], Replica],
        warm: Callable[[ServingState], None],
        closing: threading.Event,
        look_s: float,
    ) -> None:
        self._store = store
        self._serving = serving
        self._load = load
        self._specify = specify
        self._probe = probe
        self._replicas = Replicas(make_replica)
        self._warm = warm
        self._closing = closing
        self._look_s = look_s

    def take(self, version: str, has_news: Callable[[], bool] = lambda: False) -> BundleSpec:
        """Loads a version, warm and over a fresh catalogue, which is not waited for any longer once
        ``has_news``.

        Raises ``BundleError`` when its files are at fault, or seem to be (``Unforeseen``), and
        ``Unreadable`` or any other ``PodiumError`` for what may pass by itself.
        """
        started_s = time.monotonic()
        try:
            bundle = self._load(self._store.path(version))
            if self._closing.is_set():
                raise Unavailable("the ranker ends", reason="CLOSING")
            spec = self._beside_calls(lambda: self._specify(bundle))
            replica = self._replicas.of(spec.catalogue_views())
            self._check_views(spec, replica)
            self._await_catalogue(replica, has_news)
            self._beside_calls(lambda: self._serving.load(bundle, spec, replica.latest, self._warm))
        except PodiumError:
            self._tidy()
            raise
        except Exception as error:
            self._tidy()
            if isinstance(error, MemoryError) and self._serving.version is not None:
                # The memory that is short is that of the process, which holds others as well. With
                # none in force the next one is tried: it may be smaller.
                raise Unavailable("there was no memory for it", reason="OUT_OF_MEMORY") from error
            if isinstance(error, OSError) and isinstance(
                unreadable := Unreadable.of(error, error.filename or version), Unreadable
            ):
                raise unreadable from error
            raise Unforeseen(f"{type(error).__name__}: {error}") from error
        _logger.info("bundle %s is loaded after %.2f s", version, time.monotonic() - started_s)
        return spec

    def drop(self, version: str) -> None:
        """Unloads a bundle that does not serve, and ends the watches that no other reads."""
        self._serving.unload(version)
        self._tidy()
        _logger.info("bundle %s is unloaded", version)

    def close(self) -> None:
        """Ends all watches."""
        self._replicas.keep([])

    def catalogue_age_s(self) -> float:
        """How far the catalogue is behind the clock."""
        return self._replicas.age_s()

    def _beside_calls(self, work: Callable[[], Result]) -> Result:
        """Encoding the catalogue and warming take seconds: calls come first, once there are any."""
        return work() if self._serving.version is None else giving_way(work)

    def _tidy(self) -> None:
        # Before the first bundle is in force there is nothing to go back to: its watch is kept.
        if self._serving.version is not None:
            states = self._serving.loaded().values()
            self._replicas.keep([state.tables.replica for state in states])

    def _await_catalogue(self, replica: Replica, has_news: Callable[[], bool]) -> None:
        deadline_s = time.monotonic() + _CATALOGUE_WAIT_S
        while not replica.wait_installed(self._look_s):
            if self._closing.is_set() or has_news() or time.monotonic() > deadline_s:
                raise Unavailable(
                    "the catalogue of its views is not there yet", reason="NO_CATALOGUE"
                )
        if self._serving.version is None:
            return
        # A copy from disk does where there is nothing else; what is in force is fresher.
        deadline_s = min(deadline_s, time.monotonic() + _FRESH_WAIT_S)
        while replica.stale() is not None and time.monotonic() < deadline_s:
            if self._closing.wait(_FRESH_LOOK_S):
                return

    def _check_views(self, spec: BundleSpec, replica: Replica) -> None:
        """Raises ``UnknownFeatureView`` for a view that is not served. A feature service that does
        not answer is no reason to wait where nothing is in force, or no other view is needed."""
        views = {"user": spec.views["user"], **spec.catalogue_views()}
        try:
            for entity, view in views.items():
                self._probe(entity, view)
        except UnknownFeatureView:
            raise
        except PodiumError as error:
            states = self._serving.loaded().values()
            known = any(
                state.tables.replica is replica and state.spec.views["user"] == views["user"]
                for state in states
            )
            if states and not known:
                raise
            _logger.warning("the feature views could not be checked: %s", error)
