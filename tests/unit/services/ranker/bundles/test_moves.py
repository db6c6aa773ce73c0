"""What the watcher makes of bundles that come, fail and come again: over a loader and states that
are not real."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry

from services.common.bundle.pointer import Placed, Pointer
from services.common.bundle.store import BundleStore
from services.common.errors import BundleError, Unavailable, Unreadable
from services.ranker import state
from services.ranker.bundles import watcher
from services.ranker.bundles.faults import BundleFaults, FaultLimits, Verdict
from services.ranker.bundles.loading import BundleLoader
from services.ranker.bundles.quarantine import Quarantine
from services.ranker.bundles.routing import Routes
from services.ranker.bundles.watcher import BundleWatcher
from services.ranker.metrics import RankerMetrics
from services.ranker.plan import BundleSpec
from services.ranker.state import Serving, ServingState, Tables

REPLICA = object()


def tables(number: int) -> Tables:
    return Tables(REPLICA, 1, number, {}, lambda: None, lambda: 0)


class Catalogue:
    """The catalogue's number, and the versions that can't take it."""

    def __init__(self) -> None:
        self.number = 1
        self.refused_by: set[str] = set()

    def latest(self) -> Tables:
        return tables(self.number)

    def prepare(self, model: Any, spec: Any, tables: Tables, *_: Any, **__: Any) -> Any:
        if spec.version in self.refused_by:
            raise RuntimeError("it can't take that")
        return SimpleNamespace(model=model, spec=spec, tables=tables)


@pytest.fixture
def catalogue(monkeypatch: pytest.MonkeyPatch) -> Catalogue:
    catalogue = Catalogue()
    monkeypatch.setattr(state, "prepare", catalogue.prepare)
    monkeypatch.setattr(watcher, "_RETRY_S", 0.0)
    return catalogue


class Store(BundleStore):
    """A pointer."""

    def __init__(self) -> None:
        super().__init__(Path("nowhere"))
        self.now = Pointer()

    def pointer(self) -> Pointer:
        return self.now


class Loader(BundleLoader):
    """Loads states that are not real; ``errors`` are what it raises instead, by version."""

    def __init__(self, serving: Serving, catalogue: Catalogue) -> None:
        self._serving, self._catalogue = serving, catalogue
        self.errors: dict[str, BaseException] = {}
        self.taken: list[str] = []
        self.taking: Callable[[str, Callable[[], bool]], object] = lambda *_: None

    def take(self, version: str, has_news: Callable[[], bool] = lambda: False) -> BundleSpec:
        self.taken.append(version)
        self.taking(version, has_news)
        if version in self.errors:
            raise self.errors[version]
        spec = cast(BundleSpec, SimpleNamespace(version=version, surfaces={}))
        self._serving.load(cast(Any, object()), spec, self._catalogue.latest, lambda _: None)
        return spec

    def drop(self, version: str) -> None:
        self._serving.unload(version)

    def close(self) -> None:
        pass


class Killed(BaseException):
    """As if the process had ended."""


class Watched:
    """A process; another over the same folder is another start."""

    def __init__(self, directory: Path, store: Store, catalogue: Catalogue) -> None:
        self._registry = CollectorRegistry()
        self.serving = Serving(exact_rows=1)
        self.loader = Loader(self.serving, catalogue)
        self.faults = BundleFaults(FaultLimits(requests=4, share=0.25))
        self.quarantine = Quarantine(directory / "quarantine.json")
        self.wake, self.closing = threading.Event(), threading.Event()
        self.told: list[bool] = []
        self.watcher = BundleWatcher(
            store,
            self.serving,
            self.loader,
            self.faults,
            self.quarantine,
            metrics=RankerMetrics(self._registry),
            poll_s=1.0,
            wake=self.wake,
            closing=self.closing,
            report=self.told.append,
        )

    def poll(self) -> str | None:
        """The live version after a look."""
        self.watcher.poll()
        return self.serving.version

    def fails(self, version: str) -> None:
        self.faults.broke(version, 4)

    def gauge(self, version: str) -> float:
        name = "podium_ranker_bundles_set_aside"
        return self._registry.get_sample_value(name, {"version": version}) or 0.0


class World:
    """A store, and the processes that look at it."""

    def __init__(self, directory: Path, catalogue: Catalogue) -> None:
        self.directory, self.catalogue, self.store = directory, catalogue, Store()

    def start(self) -> Watched:
        return Watched(self.directory, self.store, self.catalogue)

    def promote(self, *versions: str) -> None:
        for version in versions:
            self.store.now = self.store.now.promoting(version)

    def canary(self, version: str) -> None:
        self.store.now = self.store.now.with_canary(version, 0.5)


@pytest.fixture
def world(tmp_path: Path, catalogue: Catalogue) -> World:
    return World(tmp_path, catalogue)


def test_the_only_bundle_is_not_set_aside_for_the_starts_that_ended(world: World) -> None:
    world.promote("a")
    for _ in range(5):
        assert world.start().poll() == "a"
    world.promote("b")
    for _ in range(3):
        start = world.start()
        start.loader.errors["b"] = Killed()
        with pytest.raises(Killed):
            start.poll()
    assert world.start().poll() == "a"


@pytest.mark.parametrize("error", [BundleError("no memory is left"), Unreadable("EIO")])
def test_what_fails_before_anything_serves_is_taken_by_the_next_start(
    world: World, error: Exception
) -> None:
    world.promote("a", "b")
    start = world.start()
    start.loader.errors = {"a": error, "b": error}
    assert start.poll() is None
    assert start.loader.taken == ["b", "a"]
    assert start.told == [False]
    start.poll()
    # The same process only asks again for what may pass.
    assert (len(start.loader.taken) > 2) is isinstance(error, Unreadable)
    assert world.start().poll() == "b"


def test_a_bundle_that_can_not_be_read_now_is_not_set_aside(world: World) -> None:
    world.promote("a", "b")
    start = world.start()
    start.loader.errors["b"] = Unreadable("EIO")
    assert start.poll() == "a"
    assert start.told == [False]
    start.loader.errors.clear()
    assert start.poll() == "b"
    assert start.told == [False, True]


def test_what_stays_loaded_after_it_was_set_aside_is_judged_again(world: World) -> None:
    world.promote("a")
    start = world.start()
    assert start.poll() == "a"
    world.promote("b")
    assert start.poll() == "b"
    start.loader.errors["a"] = Unavailable("no catalogue")
    # The fallback was let go of, and can't come back yet.
    start.serving.unload("a")
    start.fails("b")
    assert start.poll() == "b"
    assert start.quarantine.holds(world.store.now.promoted[-1])
    world.promote("b")
    assert start.poll() == "b"
    assert start.faults.verdicts()["b"] is Verdict.OPEN
    start.fails("b")
    assert start.poll() == "b"
    assert start.quarantine.holds(world.store.now.promoted[-1])


def test_a_bundle_that_can_not_catch_up_is_set_aside_and_the_live_one_goes_on(
    world: World,
) -> None:
    world.promote("a")
    start = world.start()
    assert start.poll() == "a"
    world.promote("b")
    assert start.poll() == "b"
    world.catalogue.number = 2
    world.catalogue.refused_by = {"a"}
    start.fails("b")
    with pytest.raises(RuntimeError):
        start.watcher.poll()
    assert [start.poll() for _ in range(3)] == ["b"] * 3
    assert "a" not in start.serving.loaded()
    assert set(start.quarantine.set_aside()) == {"a", "b"}


def test_the_first_live_bundle_serves_though_it_can_not_catch_up(world: World) -> None:
    world.promote("a")
    start = world.start()
    start.serving.load(
        cast(Any, object()),
        cast(BundleSpec, SimpleNamespace(version="a", surfaces={})),
        world.catalogue.latest,
        lambda _: None,
    )
    world.catalogue.number = 2
    world.catalogue.refused_by = {"a"}
    assert start.poll() == "a"
    # Neither does that keep others from beside it.
    world.canary("c")
    assert start.poll() == "a"
    assert "c" in start.serving.in_force().states
    assert set(start.serving.broken()) == {"a"}


def test_a_change_that_the_live_one_can_not_take_reaches_the_others(catalogue: Catalogue) -> None:
    serving = Serving(exact_rows=1)
    loader = Loader(serving, catalogue)
    for version in ("a", "b"):
        loader.take(version)
    serving.serve(Routes("a", experiments=frozenset({"b"})))
    catalogue.refused_by = {"a"}
    with pytest.raises(RuntimeError):
        serving.install_tables(tables(2))

    def numbers() -> dict[str, int]:
        states: dict[str, ServingState] = dict(serving.in_force().states)
        return {version: found.tables.number for version, found in states.items()}

    assert numbers() == {"a": 1, "b": 2}
    assert set(serving.broken()) == {"a"}
    catalogue.refused_by = set()
    serving.install_tables(tables(3))
    assert numbers() == {"a": 3, "b": 3}
    assert not serving.broken()


def test_health_and_gauge_are_lifted_with_the_promotion_that_lifts_them(world: World) -> None:
    world.promote("a", "b", "a", "b")
    start = world.start()
    assert start.poll() == "b"
    start.fails("b")
    assert start.poll() == "a"
    assert (start.told[-1], start.gauge("b")) == (False, 1)
    world.promote("b")
    assert start.poll() == "b"
    assert (start.told[-1], start.gauge("b")) == (True, 0)


def test_what_is_named_and_not_loaded_does_not_serve(world: World) -> None:
    world.promote("a")
    world.canary("c")
    start = world.start()
    start.loader.errors["c"] = Unavailable("its view is unknown")
    assert start.poll() == "a"
    assert start.told == [False]
    start.loader.errors.clear()
    start.poll()
    assert start.told == [False, True]


def test_a_move_or_the_end_does_not_wait_until_all_are_loaded(world: World) -> None:
    world.promote("z", "a")
    world.canary("c")
    world.store.now = world.store.now.with_experiment("e")
    start = world.start()
    heard: list[bool] = []

    def rolls_back(version: str, has_news: Callable[[], bool]) -> None:
        if version == "c":
            heard.append(has_news())
            world.store.now = world.store.now.rolling_back()
            heard.append(has_news())

    start.loader.taking = rolls_back
    assert start.poll() == "a"
    assert heard == [False, True]
    assert start.loader.taken == ["a", "c"]
    assert start.wake.is_set()
    start.wake.clear()
    start.loader.taking = lambda *_: start.closing.set()
    assert start.poll() == "z"
    assert start.loader.taken == ["a", "c", "z"]


def test_what_the_end_interrupts_is_not_held_against_it(world: World) -> None:
    world.promote("a")
    world.canary("c")
    for _ in range(4):
        start = world.start()
        start.loader.errors["c"] = Unavailable("the ranker ends")
        assert start.poll() == "a"
        start.watcher.close()
    assert world.start().quarantine.taking("c") == 0


def test_what_was_live_before_is_held_where_no_place_names_it(world: World) -> None:
    world.promote("a")
    start = world.start()
    assert start.poll() == "a"
    world.store.now = Pointer(move=8).promoting("b")
    assert start.poll() == "b"
    assert start.quarantine.before == Placed(version="a", move=1)
    start.serving.unload("a")
    start.loader.errors["a"] = BundleError("corrupt")
    start.fails("b")
    for _ in range(3):
        assert start.poll() == "b"
    # The second of them was refused, and there is no third.
    assert start.loader.taken.count("a") == 2
    assert start.quarantine.holds(Placed(version="a", move=1))


def test_a_bundle_that_ends_each_start_at_its_second_take_is_caught(world: World) -> None:
    world.promote("a", "b")
    world.store.now = world.store.now.with_canary("c", 0.5)
    for _ in range(3):
        start = world.start()
        start.loader.errors["c"] = Unavailable("not yet")
        assert start.poll() == "b"
        start.quarantine.survived(["b"])
        start.loader.errors["c"] = Killed()
        with pytest.raises(Killed):
            start.poll()
    start = world.start()
    assert start.poll() == "b"
    assert "c" not in start.loader.taken
    assert start.quarantine.holds(cast(Placed, world.store.now.canary))
