"""A feature is added and taken back while bundles with the old and the new view serve."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest
import typer
from typer.testing import CliRunner

from cli import features
from podium.event.v1 import event_pb2
from podium.feature.v1 import feature_pb2, feature_pb2_grpc
from services.common.bundle.store import BundleStore
from services.common.domain import Domain, load_domain
from services.common.errors import FailedPrecondition, Unavailable
from services.feature.definitions import FeatureView, compile_views
from services.feature.store.embedded import EmbeddedStore
from services.feature.views.registry import registry_of
from tests.integration.ranker.conftest import Ranker, make_settings, running_ranker
from tests.support.eventually import eventually
from tests.support.fake_features import FakeFeatureService
from tests.support.feature_server import FeatureClient, columns, running_service
from tests.support.feature_streams import interaction, upsert_event
from tests.support.live_world import little_catalogue
from tests.support.more_features import LIVE_COURSES, domain_file_with
from tests.support.tiny_bundle import make_tiny_bundle

PAGE_BYTES = 4_096
ADDED = {
    "comments_30d": {
        "kind": "count",
        "entities": ["user", "course"],
        "events": ["comment"],
        "window": "30d",
    }
}


def run(*arguments: object) -> str:
    """Runs ``podium features`` in this process; returns its output."""
    app = typer.Typer(pretty_exceptions_enable=False)
    features.register(app)
    result = CliRunner().invoke(app, ["features", *map(str, arguments)], catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.output


class Callers:
    """Ranks, reads and watches as fast as they can; ``failures`` says what went wrong."""

    def __init__(self, ranker: Ranker, client: FeatureClient) -> None:
        self._ranker = ranker
        self._client = client
        self._stop = threading.Event()
        self.failures: list[str] = []
        self.ranked: dict[str, int] = {}
        self.reads = 0
        self.resets = 0

    def __enter__(self) -> Callers:
        work = (self._rank, self._read, self._watch)
        self._threads = [threading.Thread(target=self._guarded, args=(w,)) for w in work]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(30)

    def _guarded(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:
            self.failures.append(repr(error))

    def _rank(self) -> None:
        while not self._stop.is_set():
            response = self._ranker.rank("courses")
            if response.degraded or not response.slate.ids:
                self.failures.append(f"{response.bundle_version}: {response.degraded}")
            version = response.bundle_version
            self.ranked[version] = self.ranked.get(version, 0) + 1

    def _read(self) -> None:
        position = 0
        while not self._stop.is_set():
            request = self._client.request("course", "course_1", "course_2")
            response = self._client.stub.GetFeatures(request, timeout=10)
            if response.log_position < position:
                self.failures.append(f"position went back to {response.log_position}")
            position = response.log_position
            self.reads += 1

    def _watch(self) -> None:
        steps = self._client.watch("course", "room")
        for step in steps:
            self.resets += step.HasField("reset")
            if self._stop.is_set():
                steps.cancel()
                return


@contextmanager
def real_ranker(directory: Path, bundles: Path, port: int, domain_file: Path) -> Iterator[Ranker]:
    unused = FakeFeatureService(load_domain(domain_file), {}, {})
    settings = make_settings(directory, bundles, f"127.0.0.1:{port}", domain_file=domain_file)
    with running_ranker(settings, unused) as ranker:
        yield ranker


def little_log(now_ms: int) -> list[event_pb2.Event]:
    attributes = load_domain(LIVE_COURSES).entities["course"].attributes
    events = [
        upsert_event(
            f"up-{identity}",
            now_ms - 5_000,
            f"course:{identity}",
            **{name: value for name, value in known.items() if name in attributes},
        )
        for identity, known in little_catalogue()["course"].items()
    ]
    events += [
        interaction(f"talk-{n}", "comment", now_ms - n, "ann", f"course:course_{n % 5}")
        for n in range(60)
    ]
    return events


def bundle(directory: Path, domain: Domain, seed: int, *, promote: bool = True) -> str:
    indexed = {"course": little_catalogue()["course"], "host": little_catalogue()["host"]}
    return make_tiny_bundle(directory, domain, indexed, seed=seed, promote=promote)


def test_a_feature_is_added_and_taken_back_without_a_failed_call(tmp_path: Path) -> None:
    bundles, old = tmp_path / "bundles", load_domain(LIVE_COURSES)
    file = domain_file_with(
        tmp_path / "new.yaml",
        ADDED,
        models={"user_features": ["comments_30d"], "item_features": ["comments_30d"]},
    )
    new = load_domain(file)
    first = bundle(bundles, old, 1)
    with running_service(LIVE_COURSES, tmp_path / "features") as running:
        log_dir = running.files.log_dir
        here = ("--log", log_dir, "--target", f"127.0.0.1:{running.port}")
        events = little_log(time.time_ns() // 1_000_000)
        assert not running.client.ingest(*events).rejections
        with (
            real_ranker(tmp_path / "ranker", bundles, running.port, LIVE_COURSES) as ranker,
            Callers(ranker, running.client) as callers,
        ):
            eventually(lambda: callers.ranked.get(first, 0) > 20)
            said = run("backfill", "comments_30d", "--domain", file, *here)
            assert "backfilled in" in said
            after = FeatureClient(running.client.stub, compile_views(new))
            (ann,) = after.get("user", "ann")
            assert ann["comments_30d"] == (60, "PRESENT")
            second = bundle(bundles, new, 2)
            eventually(lambda: callers.ranked.get(second, 0) > 20, "the new bundle")
            # Both views are served side by side.
            (before,) = running.client.get("user", "ann")
            assert "comments_30d" not in before
            BundleStore(bundles).rollback()
            count = callers.ranked[first]
            eventually(lambda: callers.ranked[first] > count + 20, "the old bundle again")
        assert not callers.failures
        assert callers.reads > 20
        # The stream went on over the switch.
        assert callers.resets == 2

        listed = run("views", "--bundles", bundles, *here)
        assert "being filled" not in listed
        hashes = {view.entity: view.hash for view in compile_views(new).values()}
        with pytest.raises(FailedPrecondition, match=second):
            run("retire", hashes["user"], "--bundles", bundles, "--log", log_dir)
        (bundles / second).rename(tmp_path / "gone")
        assert hashes["user"] in run("retire", "--unused", "--bundles", bundles, "--log", log_dir)

        def refused() -> bool:
            try:
                running.client.stub.GetFeatures(after.request("user", "ann"), timeout=10)
            except grpc.RpcError as error:
                return error.code() == grpc.StatusCode.FAILED_PRECONDITION
            return False

        eventually(refused, "the retired view's end")
        assert running.client.get("user", "ann")


def test_a_changed_file_is_served_beside_what_was_there_before(tmp_path: Path) -> None:
    file = domain_file_with(tmp_path / "new.yaml", ADDED)
    now_ms = time.time_ns() // 1_000_000
    old_views = compile_views(load_domain(LIVE_COURSES))
    new_views = compile_views(load_domain(file))
    with running_service(LIVE_COURSES, tmp_path) as running:
        running.client.ingest(*little_log(now_ms))
    with running_service(file, tmp_path) as running:
        # From the first call on the old view is there; the new one follows.
        old = FeatureClient(running.client.stub, old_views)
        assert old.get("course", "course_1")[0]["clicks_1d"][0] == 0
        eventually(lambda: serves(running.client.stub, new_views["course"]), "the new view")
        (row,) = running.client.get("course", "course_1")
        assert row["comments_30d"] == (12, "PRESENT")
        assert old.get("course", "course_1")
    with running_service(LIVE_COURSES, tmp_path) as running:
        # The file goes back: nothing is lost, and the registered view is still served.
        assert FeatureClient(running.client.stub, new_views).get("course", "course_1")[0] == row


def serves(stub: feature_pb2_grpc.FeatureServiceStub, view: FeatureView) -> bool:
    found = stub.ListViews(feature_pb2.ListViewsRequest(), timeout=10)
    return view.hash in {served.view_hash for served in found.views}


def test_a_store_is_rebuilt_while_it_serves(tmp_path: Path) -> None:
    with running_service(LIVE_COURSES, tmp_path) as running:
        here = ("--log", running.files.log_dir, "--target", f"127.0.0.1:{running.port}")
        position = running.client.ingest(*little_log(time.time_ns() // 1_000_000)).log_position
        request = running.client.request("course", "course_1", "course_2")
        running.client.get("course", "course_1", position=position)
        before = columns(running.client.stub.GetFeatures(request, timeout=10).block)
        (old,) = (path for path in running.files.store_dir.iterdir() if path.is_dir())
        assert "rebuilt in" in run("rebuild", *here)
        after = columns(running.client.stub.GetFeatures(request, timeout=10).block)
        assert after == before
        eventually(lambda: not old.exists(), "the old store's removal")


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_damaged_store_is_named_and_rebuilt_at_the_next_start(tmp_path: Path) -> None:
    with running_service(LIVE_COURSES, tmp_path) as running:
        position = running.client.ingest(*little_log(time.time_ns() // 1_000_000)).log_position
        running.client.get("course", "course_1", position=position)
        files = running.files
    (store,) = (path for path in files.store_dir.iterdir() if path.is_dir())
    data = store / "data.mdb"
    data.write_bytes(b"\xff" * len(data.read_bytes()))
    with (
        pytest.raises(Exception, match="podium features rebuild"),
        running_service(LIVE_COURSES, tmp_path),
    ):
        pass
    registry_of(files.log_dir).ask_for_new_store()
    with running_service(LIVE_COURSES, tmp_path) as running:
        assert running.client.get("course", "course_1", position=position)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_store_that_opens_though_it_is_damaged_within_is_rebuilt_too(tmp_path: Path) -> None:
    with running_service(LIVE_COURSES, tmp_path) as running:
        position = running.client.ingest(*little_log(time.time_ns() // 1_000_000)).log_position
        running.client.get("course", "course_1", position=position)
        files = running.files
    (store,) = (path for path in files.store_dir.iterdir() if path.is_dir())
    damage_within(store)
    registry_of(files.log_dir).ask_for_new_store()
    with running_service(LIVE_COURSES, tmp_path) as running:
        assert running.client.get("course", "course_1", position=position)
        assert not store.exists()


def damage_within(store: Path) -> None:
    """Overwrites the first page without which the store opens, and its courses can't be read."""
    data = store / "data.mdb"
    whole = data.read_bytes()
    for start in range(2 * PAGE_BYTES, len(whole), PAGE_BYTES):
        data.write_bytes(whole[:start] + b"\xff" * PAGE_BYTES + whole[start + PAGE_BYTES :])
        try:
            opened = EmbeddedStore(store, read_only=True)
        except Unavailable:
            continue
        try:
            with opened.read() as view:
                list(view.states("course"))
        except Unavailable:
            return
        finally:
            opened.close()
    pytest.fail("every page can be spared")
