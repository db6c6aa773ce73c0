"""Watches for a newly promoted bundle and takes it into force beside the old one.

Loading, verifying, watching its catalogue views, encoding and warming all happen on this thread,
off the request path. What goes wrong leaves the old bundle in force and is logged and counted.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.errors import BundleError, PodiumError, Unavailable, UnknownFeatureView
from services.ranker.catalogue.replica import Replica
from services.ranker.feature_rows import View
from services.ranker.metrics import RankerMetrics
from services.ranker.plan import BundleSpec
from services.ranker.state import Serving, ServingState

_logger = logging.getLogger(__name__)

_RETRY_S = 5.0
_CATALOGUE_WAIT_S = 30.0
_FRESH_WAIT_S = 5.0
_FRESH_LOOK_S = 0.01


class _Unforeseen(BundleError):
    """A bundle made the code that loads or prepares it fail; the cause has the traceback."""

    reason = "UNFORESEEN"


class BundleWatcher:
    """Looks at the store every ``poll_s``. ``probe`` asks the feature service whether it serves a
    view of an entity type, and raises a PodiumError when not."""

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
        metrics: RankerMetrics,
        poll_s: float,
    ) -> None:
        self._store = store
        self._serving = serving
        self._load = load
        self._specify = specify
        self._probe = probe
        self._make_replica = make_replica
        self._warm = warm
        self._metrics = metrics
        self._poll_s = poll_s
        self._replica: Replica | None = None
        self._refused: tuple[str, int] | None = None
        self._complained: tuple[str, str] | None = None
        self._said_none_is_promoted = False
        self._retry_at_s = 0.0
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="bundles", daemon=True)

    def start(self) -> None:
        """Starts looking."""
        self._thread.start()

    def close(self) -> None:
        """Stops looking, and the catalogue's watch."""
        self._closing.set()
        if self._thread.is_alive():
            self._thread.join()
        if self._replica is not None:
            self._replica.close()

    def catalogue_age_s(self) -> float:
        """How far the catalogue in force is behind the clock."""
        return 0.0 if self._replica is None else self._replica.age_ms() / 1000

    def poll(self) -> bool:
        """One look. True when a new bundle was taken into force."""
        version, promotion = "", ("", 0)
        try:
            version = self._store.current() or ""
            if not version and self._serving.version is None:
                self._say_none_is_promoted()
            promotion = (version, self._promoted_ns())
            if (
                version in ("", self._serving.version)
                or promotion == self._refused
                or time.monotonic() < self._retry_at_s
            ):
                return False
            self._take(version)
        except BundleError as error:
            # The same files will not get better: wait for another promotion.
            self._refused = promotion
            self._complain(version, error)
        except PodiumError as error:
            self._retry_at_s = time.monotonic() + _RETRY_S
            self._complain(version, error)
        else:
            self._complained = None
            return True
        return False

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                self.poll()
            except Exception:
                _logger.exception("looking for a new bundle failed")
            self._closing.wait(self._poll_s)

    def _take(self, version: str) -> None:
        """Takes a version into force.

        Raises ``BundleError`` when its files are at fault, or seem to be (``_Unforeseen``), and
        any other ``PodiumError`` for what may pass by itself.
        """
        try:
            self._load_into_force(version)
        except PodiumError:
            raise
        except Exception as error:
            raise _Unforeseen(f"{type(error).__name__}: {error}") from error

    def _load_into_force(self, version: str) -> None:
        started_s = time.monotonic()
        bundle = self._load(self._store.path(version))
        spec = self._specify(bundle)
        replica = self._replica_for(spec)
        try:
            self._check_views(spec, replica)
            self._await_catalogue(replica)
            self._serving.replace(bundle, spec, replica.latest, self._warm)
        except BaseException:
            if replica is not self._replica:
                replica.close()
            raise
        before, self._replica = self._replica, replica
        if before is not None and before is not replica:
            before.close()
        self._metrics.swapped()
        _logger.info("bundle %s is in force after %.2f s", version, time.monotonic() - started_s)

    def _await_catalogue(self, replica: Replica) -> None:
        deadline_s = time.monotonic() + _CATALOGUE_WAIT_S
        while not replica.wait_installed(self._poll_s):
            if self._closing.is_set() or time.monotonic() > deadline_s:
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

    def _replica_for(self, spec: BundleSpec) -> Replica:
        views = spec.catalogue_views()
        if self._replica is not None and self._replica.views == views:
            return self._replica
        replica = self._make_replica(views)
        replica.start()
        if self._serving.version is None:
            # Before the first bundle is in force there is nothing to go back to.
            if self._replica is not None:
                self._replica.close()
            self._replica = replica
        return replica

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
            same = replica is self._replica and self._same_user_view(spec)
            if self._serving.version is not None and not same:
                raise
            _logger.warning("the feature views could not be checked: %s", error)

    def _same_user_view(self, spec: BundleSpec) -> bool:
        in_force = self._serving.current().spec if self._serving.version is not None else spec
        return in_force.views["user"] == spec.views["user"]

    def _complain(self, version: str, error: PodiumError) -> None:
        """Counts every refusal; logs it once."""
        self._metrics.refused(error.reason)
        complaint = (version, error.message)
        if complaint != self._complained:
            self._complained = complaint
            _logger.error(
                "bundle %s is refused, %s stays in force: %s",
                version or "(unknown)",
                self._serving.version or "none",
                error.message,
                exc_info=error if isinstance(error, _Unforeseen) else None,
            )

    def _say_none_is_promoted(self) -> None:
        """Logs it once: until then the service is not ready."""
        if not self._said_none_is_promoted:
            self._said_none_is_promoted = True
            _logger.warning("no bundle is promoted in %s: waiting", self._store.directory)

    def _promoted_ns(self) -> int:
        try:
            return (self._store.directory / "current").stat().st_mtime_ns
        except OSError:
            return 0
