"""What the watcher does with a promoted bundle that it cannot take into force."""

from __future__ import annotations

import errno
import logging
import os
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NoReturn

import pytest
from prometheus_client import CollectorRegistry

from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.domain import load_domain
from services.common.errors import BundleError, Unavailable
from services.ranker.bundles import watcher
from services.ranker.bundles.faults import BundleFaults, FaultLimits
from services.ranker.bundles.loading import BundleLoader
from services.ranker.bundles.quarantine import Quarantine
from services.ranker.bundles.watcher import BundleWatcher
from services.ranker.catalogue.replica import Replica
from services.ranker.feature_rows import View
from services.ranker.metrics import RankerMetrics
from services.ranker.plan import BundleSpec
from services.ranker.state import Serving, ServingState
from tests.support.tiny_bundle import make_tiny_bundle


class FailingStep:
    """A step of taking a bundle that always raises ``error``, and counts how often."""

    def __init__(self, error: Exception) -> None:
        self.calls = 0
        self._error = error

    def __call__(self, subject: object) -> NoReturn:
        del subject
        self.calls += 1
        raise self._error


def never(*arguments: object) -> NoReturn:
    raise AssertionError(f"reached with {arguments}")


class Watched:
    """A watcher of a store with one promoted bundle."""

    def __init__(
        self,
        store: BundleStore,
        load: Callable[[Path], LoadedBundle],
        specify: Callable[[LoadedBundle], BundleSpec],
    ) -> None:
        probe: Callable[[str, View], None] = never
        make_replica: Callable[[Mapping[str, View]], Replica] = never
        warm: Callable[[ServingState], None] = never
        self._registry = CollectorRegistry()
        serving, closing = Serving(exact_rows=1), threading.Event()
        self.watcher = BundleWatcher(
            store,
            serving,
            BundleLoader(
                store,
                serving,
                load=load,
                specify=specify,
                probe=probe,
                make_replica=make_replica,
                warm=warm,
                closing=closing,
                look_s=1.0,
            ),
            BundleFaults(FaultLimits()),
            Quarantine(store.directory / "replica" / "quarantine.json"),
            metrics=RankerMetrics(self._registry),
            poll_s=1.0,
            wake=threading.Event(),
            closing=closing,
        )

    def refused(self, reason: str) -> float:
        """How often the metric says that a bundle was refused."""
        name = "podium_ranker_bundles_refused_total"
        return self._registry.get_sample_value(name, {"reason": reason}) or 0.0


@pytest.fixture
def store(tmp_path: Path) -> BundleStore:
    domain = load_domain(Path("config/live_courses.yaml"))
    make_tiny_bundle(tmp_path, domain, {"course": {"c0": {"host_id": "h0"}}})
    return BundleStore(tmp_path)


@pytest.mark.parametrize(
    ("error", "reason", "has_traceback"),
    [
        (BundleError("a file is wrong"), "BUNDLE_ERROR", False),
        (KeyError("a key the code took for granted"), "UNFORESEEN", True),
        (MemoryError("too large"), "UNFORESEEN", True),
        (FileNotFoundError("no such file"), "UNFORESEEN", True),
    ],
)
@pytest.mark.parametrize("while_loading", [True, False])
def test_a_bundle_that_cannot_be_taken_is_refused_once(
    store: BundleStore,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
    reason: str,
    has_traceback: bool,
    while_loading: bool,
) -> None:
    failing = FailingStep(error)
    load = failing if while_loading else LoadedBundle.load
    watched = Watched(store, load, never if while_loading else failing)

    with caplog.at_level(logging.ERROR):
        assert [watched.watcher.poll() for _ in range(3)] == [False] * 3

    assert failing.calls == 1
    assert watched.refused(reason) == 1
    (record,) = caplog.records
    assert str(error) in record.getMessage()
    assert bool(record.exc_info) is has_traceback


def test_a_refused_bundle_is_looked_at_again_when_it_is_promoted_again(store: BundleStore) -> None:
    failing = FailingStep(KeyError("x"))
    watched = Watched(store, failing, never)
    watched.watcher.poll()

    version = store.current()
    assert version is not None
    store.promote(version)

    watched.watcher.poll()
    assert failing.calls == 2


def test_a_promotion_during_a_failed_load_is_looked_at(store: BundleStore) -> None:
    version = store.current()
    assert version is not None
    loads = []

    def load(path: Path) -> NoReturn:
        loads.append(path)
        store.promote(version)
        raise BundleError("its files were restored too late for this look")

    watched = Watched(store, load, never)
    watched.watcher.poll()
    watched.watcher.poll()
    assert len(loads) == 2


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (Unavailable("the feature service is away"), "UNAVAILABLE"),
        (OSError(errno.EIO, os.strerror(errno.EIO)), "UNREADABLE"),
    ],
)
def test_what_may_pass_by_itself_is_tried_again(
    store: BundleStore, monkeypatch: pytest.MonkeyPatch, error: Exception, reason: str
) -> None:
    monkeypatch.setattr(watcher, "_RETRY_S", 0.0)
    failing = FailingStep(error)
    watched = Watched(store, failing, never)

    for _ in range(3):
        watched.watcher.poll()

    assert failing.calls == 3
    assert watched.refused(reason) == 3
