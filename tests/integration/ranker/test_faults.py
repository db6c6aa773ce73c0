"""What the ranker does when something around it is wrong; it always goes on."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from errno import ENOSPC
from pathlib import Path

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from podium.ranker.v1 import ranker_pb2, ranker_pb2_grpc
from services.common.bundle.store import BundleStore
from services.common.domain import Domain
from services.common.durations import duration_ms
from services.common.errors import Unavailable
from services.common.event_log import read_log
from services.common.files import LocalFiles
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from services.feature.definitions import compile_views
from services.ranker.bootstrap import build
from services.ranker.servicer import SERVICE
from tests.integration.ranker.conftest import Ranker, make_settings, running_ranker
from tests.support.eventually import eventually
from tests.support.fake_features import FakeFeatureServer, FakeFeatureService
from tests.support.live_world import little_catalogue
from tests.support.tiny_bundle import make_tiny_bundle

DEGRADATION = ranker_pb2.Degradation


@pytest.fixture
def own_bundles(tmp_path: Path, tiny_bundles: Path) -> Path:
    """A copy of the store, to be changed."""
    return Path(shutil.copytree(tiny_bundles, tmp_path / "bundles"))


@pytest.fixture
def own_ranker(
    tmp_path: Path,
    own_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> Iterator[Ranker]:
    settings = make_settings(tmp_path, own_bundles, feature_server.target)
    with running_ranker(settings, features) as running:
        yield running


def _degradations(response: ranker_pb2.RankResponse) -> set[tuple[int, int]]:
    return {(d.part, d.reason) for d in response.degraded}


def test_a_new_bundle_is_taken_without_a_failed_call(own_ranker: Ranker, domain: Domain) -> None:
    before = own_ranker.rank("rooms").bundle_version
    seen: set[str] = set()
    stop = threading.Event()

    def load() -> int:
        calls = 0
        while not stop.is_set():
            response = own_ranker.rank("rooms")
            assert response.slate.ids
            seen.add(response.bundle_version)
            calls += 1
        return calls

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(load) for _ in range(4)]
        try:
            after = _publish(own_ranker, domain, seed=2)
            eventually(lambda: after in seen)
        finally:
            stop.set()
        assert all(caller.result() for caller in callers)
    assert own_ranker.rank("rooms").bundle_version == after
    assert seen == {before, after}


def test_a_ranker_without_a_bundle_says_what_it_waits_for(
    tmp_path: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
    domain: Domain,
    caplog: pytest.LogCaptureFixture,
) -> None:
    bundles = tmp_path / "none"
    app = build(make_settings(tmp_path, bundles, feature_server.target))
    app.start()
    try:
        said = f"no bundle is promoted in {bundles}: waiting"
        eventually(lambda: said in caplog.text)
        make_tiny_bundle(bundles, domain, {"course": little_catalogue()["course"]}, seed=1)
        eventually(lambda: app.serving.wait_ready(0.05))
        assert caplog.text.count(said) == 1
    finally:
        app.close()


def test_a_corrupt_bundle_is_refused_and_the_next_good_one_taken(
    own_ranker: Ranker, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    before = own_ranker.rank().bundle_version
    store = BundleStore(own_ranker.settings.bundles_dir)
    broken = _publish(own_ranker, domain, seed=3, promote=False)
    path = store.path(broken) / "ranker.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    # A promotion would notice: this is a file that went bad afterwards.
    (store.directory / "current").write_text(broken)
    eventually(lambda: "ranker.onnx: corrupt" in caplog.text)
    assert f"{before} stays in force" in caplog.text
    assert own_ranker.rank().bundle_version == before
    good = _publish(own_ranker, domain, seed=4)
    eventually(lambda: own_ranker.rank().bundle_version == good)


def test_a_bundle_with_views_the_feature_service_lacks_is_refused(
    own_ranker: Ranker, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    before = own_ranker.rank().bundle_version
    feature = domain.features["clicks_1h"].model_copy(update={"window": "2h"})
    other = domain.model_copy(update={"features": {**domain.features, "clicks_1h": feature}})
    _publish(own_ranker, other, seed=5)
    eventually(lambda: "no view of" in caplog.text)
    assert own_ranker.rank().bundle_version == before
    assert not own_ranker.rank().degraded


def test_a_bundle_with_other_views_brings_its_own_catalogue(
    own_ranker: Ranker, domain: Domain
) -> None:
    feature = domain.features["clicks_1h"].model_copy(update={"window": "2h"})
    other = domain.model_copy(update={"features": {**domain.features, "clicks_1h": feature}})
    own_ranker.features.also = compile_views(other)
    version = _publish(own_ranker, other, seed=7)
    eventually(lambda: own_ranker.rank("rooms").bundle_version == version)
    room = {"title": "New", "host_id": "host_9", "live": 1, "heard": 1}
    room["selling_course_id"] = "course_20"
    own_ranker.features.upsert("room", "room_new", room)
    eventually(lambda: "room_new" in own_ranker.rank("rooms").slate.ids)
    assert not own_ranker.rank("rooms").degraded
    # Back to the first bundle, whose views are watched again.
    first = BundleStore(own_ranker.settings.bundles_dir).rollback()
    eventually(lambda: own_ranker.rank("rooms").bundle_version == first)
    assert "room_new" in own_ranker.rank("rooms").slate.ids


def test_a_bundle_of_another_domain_is_refused(
    own_ranker: Ranker, domain: Domain, caplog: pytest.LogCaptureFixture
) -> None:
    before = own_ranker.rank().bundle_version
    _publish(own_ranker, domain.model_copy(update={"name": "other"}), seed=6)
    eventually(lambda: "is of domain 'other'" in caplog.text)
    assert own_ranker.rank().bundle_version == before


def test_a_new_room_is_found_and_leaves_when_it_ends_or_is_withdrawn(ranker: Ranker) -> None:
    room = {"title": "New", "host_id": "host_9", "live": 1, "heard": 1}
    room["selling_course_id"] = "course_20"
    ranker.features.upsert("room", "room_new", room)
    eventually(lambda: "room_new" in ranker.rank("rooms").slate.ids)
    ranker.features.upsert("room", "room_new", room | {"selling_course_id": "course_5"})

    def sells_another() -> bool:
        slate = ranker.rank("rooms").slate
        return dict(zip(slate.ids, slate.selling_course_ids, strict=True))["room_new"] == "course_5"

    eventually(sells_another)
    for hidden in ({"blocked": 1}, {"heard": 0}):
        ranker.features.upsert("room", "room_new", room | hidden)
        eventually(lambda: "room_new" not in ranker.rank("rooms").slate.ids)
        ranker.features.upsert("room", "room_new", room)
        eventually(lambda: "room_new" in ranker.rank("rooms").slate.ids)
    ranker.features.upsert("room", "room_new", room | {"live": 0})
    eventually(lambda: "room_new" not in ranker.rank("rooms").slate.ids)
    ranker.features.upsert("room", "room_new", room)
    eventually(lambda: "room_new" in ranker.rank("rooms").slate.ids)
    ranker.features.withdraw("room", "room_new")
    eventually(lambda: "room_new" not in ranker.rank("rooms").slate.ids)


def test_without_user_features_the_slate_is_degraded(ranker: Ranker) -> None:
    ranker.features.failure = Unavailable("gone")
    response = ranker.rank()
    assert response.slate.ids
    expected = (DEGRADATION.PART_USER_FEATURES, DEGRADATION.REASON_UNAVAILABLE)
    assert _degradations(response) == {expected}
    ranker.features.failure = None
    assert not ranker.rank().degraded


def test_a_slow_feature_service_degrades_the_slate(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> None:
    settings = make_settings(tmp_path, tiny_bundles, feature_server.target, feature_timeout_ms=30)
    with running_ranker(settings, features) as ranker:
        features.release.clear()
        response = ranker.rank()
        features.release.set()
    expected = (DEGRADATION.PART_USER_FEATURES, DEGRADATION.REASON_TIMEOUT)
    assert expected in _degradations(response)
    assert response.slate.ids


def test_a_view_forgotten_by_the_feature_service_degrades_the_slate(ranker: Ranker) -> None:
    del ranker.features.views["user"]
    expected = (DEGRADATION.PART_USER_FEATURES, DEGRADATION.REASON_UNKNOWN_VIEW)
    assert expected in _degradations(ranker.rank())


def test_features_that_are_not_finite_are_replaced_and_reported(ranker: Ranker) -> None:
    ranker.features.users["ann"]["user_purchase_recency"] = float("nan")
    expected = (DEGRADATION.PART_USER_FEATURES, DEGRADATION.REASON_NON_FINITE)
    assert _degradations(ranker.rank()) == {expected}
    del ranker.features.users["ann"]["user_purchase_recency"]
    course = dict(ranker.features.catalogue["course"]["course_0"])
    ranker.features.upsert("course", "course_0", course | {"click_rate_7d": float("inf")})
    expected = (DEGRADATION.PART_CATALOGUE, DEGRADATION.REASON_NON_FINITE)
    eventually(lambda: _degradations(ranker.rank()) == {expected})


def test_a_restart_without_the_feature_service_uses_the_copy_on_disk(
    tmp_path: Path, tiny_bundles: Path, features: FakeFeatureService
) -> None:
    server = FakeFeatureServer(features)
    settings = make_settings(tmp_path, tiny_bundles, server.target)
    with running_ranker(settings, features) as ranker:
        fresh = ranker.rank("rooms", actor=common_pb2.Actor(user_id="bob"))
    server.close()
    with running_ranker(settings, features) as ranker:
        response = ranker.rank("rooms", actor=common_pb2.Actor(user_id="bob"))
        assert list(response.slate.ids) == list(fresh.slate.ids)
        assert _degradations(response) == {
            (DEGRADATION.PART_USER_FEATURES, DEGRADATION.REASON_UNAVAILABLE),
            (DEGRADATION.PART_CATALOGUE, DEGRADATION.REASON_STALE),
        }
        # When the service is back, so is everything else.
        again = FakeFeatureServer(features, server.port)
        eventually(lambda: not ranker.rank("rooms").degraded)
    again.close()


def test_a_copy_from_disk_shows_no_room_past_its_heartbeat_limit_and_says_how_old_it_is(
    tmp_path: Path, tiny_bundles: Path, features: FakeFeatureService
) -> None:
    now_ms = time.time_ns() // 1_000_000
    rooms = features.catalogue["room"]
    # The feature service told of both as heard, and can take neither back any more.
    rooms["room_10"] |= {"heard": 1, "heard_at_ms": now_ms}
    rooms["room_7"] |= {"heard": 1, "heard_at_ms": now_ms - duration_ms("90m") - 1}
    server = FakeFeatureServer(features)
    settings = make_settings(tmp_path, tiny_bundles, server.target, catalogue_stale_seconds=0.01)
    with running_ranker(settings, features):
        pass
    server.close()
    with running_ranker(settings, features) as ranker:
        response = ranker.rank("rooms")
    assert "room_10" in response.slate.ids
    assert "room_7" not in response.slate.ids
    (catalogue,) = [d for d in response.degraded if d.part == DEGRADATION.PART_CATALOGUE]
    assert 0 < catalogue.age_ms < time.time_ns() // 1_000_000 - now_ms + 60_000


def test_without_a_catalogue_the_ranker_is_not_ready_and_says_so(
    tmp_path: Path, tiny_bundles: Path, features: FakeFeatureService
) -> None:
    server = FakeFeatureServer(features)
    server.close()
    app = build(make_settings(tmp_path, tiny_bundles, server.target))
    app.start()
    app.server.start()
    with grpc.insecure_channel(f"127.0.0.1:{app.server.port}") as channel:
        asked = health_pb2.HealthCheckRequest(service=SERVICE)
        health = health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10)
        assert health.status == health_pb2.HealthCheckResponse.NOT_SERVING
        request = ranker_pb2.RankRequest(actor=common_pb2.Actor(user_id="ann"), surface="courses")
        with pytest.raises(grpc.RpcError) as caught:
            ranker_pb2_grpc.RankerServiceStub(channel).Rank(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert not app.serving.wait_ready(0)
        again = FakeFeatureServer(features, server.port)
        eventually(lambda: app.serving.wait_ready(0.05))
    app.server.drain()
    app.close()
    again.close()


def test_expired_requests_leave_before_work_is_done(ranker: Ranker) -> None:
    features = ranker.features
    features.requests.clear()
    features.release.clear()
    with ThreadPoolExecutor(8) as pool:
        # The first is being worked on; the others wait in the queue.
        first = pool.submit(ranker.rank, actor=common_pb2.Actor(user_id="first"))
        eventually(lambda: ["first"] in features.requests)
        late = [
            pool.submit(ranker.rank, actor=common_pb2.Actor(user_id=f"late_{n}"), timeout=0.2)
            for n in range(4)
        ]
        for call in late:
            with pytest.raises(grpc.RpcError) as caught:
                call.result()
            assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
        # The server's clock has to agree that their time is over.
        labels = {"method": "/podium.ranker.v1.RankerService/Rank", "code": "DEADLINE_EXCEEDED"}
        count = ranker.app.registry.get_sample_value
        eventually(lambda: count("podium_rpc_handled_total", labels) == len(late))
        features.release.set()
        assert first.result().slate.ids
    assert ranker.rank(actor=common_pb2.Actor(user_id="after")).slate.ids
    names = Pseudonymiser.from_text(DEVELOPMENT_KEYS)
    served = [
        names.decrypt(event_pb2.LoggedEvent.FromString(payload).event.actor.user_id)
        for _, payload in read_log(ranker.settings.spool_dir)
    ]
    # A slate and an exposure each for the first and the last call, nothing for those between.
    assert served == ["first", "first", "after", "after"]


def test_overload_is_refused_with_a_time_to_come_back(
    tmp_path: Path,
    tiny_bundles: Path,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> None:
    settings = make_settings(
        tmp_path, tiny_bundles, feature_server.target, queue_limit=1, max_batch=1
    )
    with running_ranker(settings, features) as ranker, ThreadPoolExecutor(12) as pool:
        features.release.clear()
        calls = [pool.submit(ranker.rank) for _ in range(12)]
        refused = eventually(lambda: [c for c in calls if c.done() and c.exception()])
        features.release.set()
        error = refused[0].exception()
        answered = [c for c in calls if c.exception() is None]
    assert error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    trailers = dict(error.trailing_metadata())
    assert int(trailers["grpc-retry-pushback-ms"]) > 0
    details = status_pb2.Status.FromString(trailers["grpc-status-details-bin"]).details
    assert any(detail.Is(error_details_pb2.RetryInfo.DESCRIPTOR) for detail in details)
    assert answered
    assert all(call.result().slate.ids for call in answered)


def test_bytes_that_are_no_request_are_invalid(ranker: Ranker) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{ranker.app.server.port}") as channel:
        call = channel.unary_unary("/podium.ranker.v1.RankerService/Rank")
        wrong_text = b"\x12\x02\xff\xfe"  # field 2, surface, not UTF-8
        for content, code in (
            (b"\xff\xff\xff", grpc.StatusCode.INVALID_ARGUMENT),
            (wrong_text, grpc.StatusCode.INVALID_ARGUMENT),
            (b"\x00" * (10 << 20), grpc.StatusCode.RESOURCE_EXHAUSTED),
        ):
            with pytest.raises(grpc.RpcError) as caught:
                call(content, timeout=10)
            assert caught.value.code() is code
    assert ranker.rank().slate.ids


def test_no_file_holds_a_raw_id(ranker: Ranker, tmp_path: Path) -> None:
    actor = common_pb2.Actor(user_id="alice-raw-user", device_id="alice-raw-device")
    ranker.rank(actor=actor)
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert files
    assert not [path for path in files if b"alice-raw" in path.read_bytes()]


def _publish(ranker: Ranker, domain: Domain, *, seed: int, promote: bool = True) -> str:
    indexed = {"course": little_catalogue()["course"]}
    return make_tiny_bundle(
        ranker.settings.bundles_dir, domain, indexed, seed=seed, promote=promote
    )


def test_exposures_that_a_full_disk_lost_are_counted_and_told_with_the_next_answer(
    ranker: Ranker, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lost(kind: str) -> float:
        labels = {"type": kind}
        return (
            ranker.app.registry.get_sample_value("podium_ranker_events_lost_total", labels) or 0.0
        )

    def full(*_: object) -> int:
        raise OSError(ENOSPC, "no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(LocalFiles, "write", full)
        for number in range(2):
            assert ranker.rank().slate.ids
            assert lost("slate_served") == number + 1
        met = int(lost("exposure"))
        assert met, "the first answer's are news for the second, too"
    assert ranker.rank().slate.ids
    assert ranker.rank().slate.ids
    assert len(ranker.spooled()) == 2
    assert 2 * len(ranker.spooled("exposure")) == met
    assert lost("exposure") == met
