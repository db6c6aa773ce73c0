"""Canary, shadow, experiments and quarantine: rankers over stores whose pointer moves."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from podium.common.v1 import common_pb2
from podium.ranker.v1 import ranker_pb2
from services.common.bundle.loaded import LoadedBundle
from services.common.bundle.store import BundleStore
from services.common.domain import Domain
from services.ranker.bootstrap import BUNDLES_PART, build
from services.ranker.bundles.routing import Share, in_canary
from tests.integration.ranker.conftest import Ranker, make_settings, running_ranker
from tests.support.eventually import eventually
from tests.support.fake_features import FakeFeatureServer, FakeFeatureService
from tests.support.live_world import little_catalogue
from tests.support.tiny_bundle import make_tiny_bundle

USERS = [f"user_{n}" for n in range(40)]


class Bundles:
    """A store with a live bundle and another, and the rankers over it."""

    def __init__(
        self, directory: Path, domain: Domain, features: FakeFeatureService, target: str
    ) -> None:
        self.directory, self.domain = directory, domain
        self.features, self.target = features, target
        self.store = BundleStore(directory / "bundles")
        self.live = str(self.store.current())
        self.other = self.publish(2)

    def publish(self, seed: int) -> str:
        indexed = {"course": little_catalogue()["course"], "host": little_catalogue()["host"]}
        return make_tiny_bundle(
            self.store.directory, self.domain, indexed, seed=seed, promote=False
        )

    @contextmanager
    def ranker(self, **changes: Any) -> Iterator[Ranker]:
        settings = make_settings(
            self.directory,
            self.store.directory,
            self.target,
            **{"quarantine_requests": 20, "quarantine_share": 0.2, **changes},
        )
        with running_ranker(settings, self.features) as ranker:
            yield ranker


@pytest.fixture
def bundles(
    tmp_path: Path,
    tiny_bundles: Path,
    domain: Domain,
    features: FakeFeatureService,
    feature_server: FakeFeatureServer,
) -> Bundles:
    shutil.copytree(tiny_bundles, tmp_path / "bundles")
    return Bundles(tmp_path, domain, features, feature_server.target)


def ask(ranker: Ranker, user: str, **fields: Any) -> ranker_pb2.RankResponse:
    return ranker.rank(actor=common_pb2.Actor(user_id=user), **fields)


def versions(ranker: Ranker) -> dict[str, str]:
    """The bundle that answers each user."""
    return {user: ask(ranker, user).bundle_version for user in USERS}


def _has(ranker: Ranker, course: str) -> bool:
    return ranker.app.serving.current().tables.by_entity["course"].has(course)


def _health(ranker: Ranker, part: str = BUNDLES_PART) -> int:
    with grpc.insecure_channel(f"127.0.0.1:{ranker.app.server.port}") as channel:
        asked = health_pb2.HealthCheckRequest(service=part)
        return health_pb2_grpc.HealthStub(channel).Check(asked, timeout=10).status


def sample(ranker: Ranker, name: str, **labels: str) -> float:
    return ranker.app.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Versions whose ranker fails at more than one item, from the moment they are in it."""
    failing: set[str] = set()
    score = LoadedBundle.score

    def maybe(self: LoadedBundle, **inputs: Any) -> Any:
        if self.version in failing and len(inputs["owner"]) > 1:
            raise RuntimeError("the graph can't be run")
        return score(self, **inputs)

    monkeypatch.setattr(LoadedBundle, "score", maybe)
    return failing


def test_a_canary_has_its_users_and_keeps_them_as_it_grows(bundles: Bundles) -> None:
    with bundles.ranker() as ranker:
        assert set(versions(ranker).values()) == {bundles.live}
        had: set[str] = set()
        for share in (0.2, 0.6):
            bundles.store.canary(bundles.other, share)
            expected = {u for u in USERS if in_canary(Share(bundles.other, share), u)}
            who = next(iter(expected - had))
            eventually(lambda who=who: ask(ranker, who).bundle_version == bundles.other)
            found = versions(ranker)
            assert {user for user, version in found.items() if version == bundles.other} == expected
            assert had < expected
            had = expected
        logged = {e.rank_id: e.slate_served.bundle_version for e in ranker.spooled()}
        answer = ask(ranker, who)
        page = ask(ranker, who, page_token=answer.next_page_token)
        assert page.bundle_version == bundles.other
        assert set(logged.values()) == {bundles.live, bundles.other}
        share = sample(ranker, "podium_ranker_bundles", version=bundles.other, role="canary")
        assert share == 0.6
        bundles.store.promote(bundles.other)
        eventually(lambda: set(versions(ranker).values()) == {bundles.other})
        # The page goes on with the bundle it began with; the slate of the other is refreshed anew.
        assert not ask(ranker, who, page_token=answer.next_page_token).degraded
        bundles.store.rollback()
        eventually(lambda: ask(ranker, who).bundle_version == bundles.live)
        after = ask(ranker, who, page_token=answer.next_page_token)
        assert after.bundle_version == bundles.live
        assert [(d.part, d.reason) for d in after.degraded] == [
            (ranker_pb2.Degradation.PART_SCORING, ranker_pb2.Degradation.REASON_REPLACED)
        ]


def test_variants_name_bundles_that_serve_side_by_side(bundles: Bundles, tmp_path: Path) -> None:
    experiments = tmp_path / "experiments.yaml"
    experiments.write_text(
        f"""
        experiments:
          two_bundles:
            unit: user
            salt: two_bundles
            running: true
            revision: 1
            variants:
              control: {{weight: 0.5}}
              other: {{weight: 0.5, bundle: {bundles.other}}}
        """
    )
    with bundles.ranker(experiments_file=experiments) as ranker:

        def served() -> set[tuple[str, str]]:
            answers = [ask(ranker, user) for user in USERS]
            return {(a.assignments[0].variant_key, a.bundle_version) for a in answers}

        assert served() == {("control", bundles.live), ("other", bundles.live)}
        bundles.store.serve_variants(bundles.other)
        both = {("control", bundles.live), ("other", bundles.other)}
        eventually(lambda: served() == both)
        with ThreadPoolExecutor(8) as pool:
            for answer in pool.map(lambda user: ask(ranker, user), USERS * 3):
                assert (answer.assignments[0].variant_key, answer.bundle_version) in both
                assert not answer.degraded
        # One watch of the catalogue serves both.
        states = ranker.app.serving.loaded().values()
        assert len({id(state.tables.replica) for state in states}) == 1
        assert len(states) == 2
        ranker.features.withdraw("course", "course_0")
        gone = [state.spec.version for state in states]
        eventually(
            lambda: all(
                not ranker.app.serving.loaded()[version].tables.by_entity["course"].has("course_0")
                for version in gone
            )
        )
        bundles.store.end_variants(bundles.other)
        eventually(lambda: served() == {("control", bundles.live), ("other", bundles.live)})


def test_a_shadow_logs_slates_and_changes_no_answer(bundles: Bundles) -> None:
    bundles.store.shadow(bundles.other, 1.0)
    with bundles.ranker() as ranker:
        eventually(lambda: bundles.other in ranker.app.serving.loaded())
        eventually(
            lambda: sample(ranker, "podium_ranker_bundles", version=bundles.other, role="shadow")
        )
        assert set(versions(ranker).values()) == {bundles.live}
        name = "podium_ranker_shadow_overlap_count"
        dropped = "podium_ranker_shadow_dropped_total"
        eventually(
            lambda: (
                sample(ranker, name) + sample(ranker, dropped, reason="queue_full") == len(USERS)
            )
        )
        slates = ranker.spooled()
    answers = {e.rank_id: e for e in slates if e.traffic_class == common_pb2.TRAFFIC_CLASS_LIVE}
    shadows = [e for e in slates if e.traffic_class == common_pb2.TRAFFIC_CLASS_SHADOW]
    assert len(answers) == len(USERS)
    assert shadows
    for event in shadows:
        parent = answers[event.slate_served.parent_rank_id]
        assert event.slate_served.bundle_version == bundles.other
        assert parent.slate_served.bundle_version == bundles.live
        assert event.actor == parent.actor
        assert event.surface == parent.surface


def test_a_canary_that_fails_is_set_aside_without_a_failed_call(
    bundles: Bundles, failing: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    bundles.store.canary(bundles.other, 0.5)
    user = next(u for u in USERS if in_canary(Share(bundles.other, 0.5), u))
    with bundles.ranker() as ranker:
        eventually(lambda: ask(ranker, user).bundle_version == bundles.other)
        failing.add(bundles.other)
        stop = threading.Event()

        def calls() -> int:
            count = 0
            while not stop.is_set():
                assert ask(ranker, user).slate.ids
                count += 1
            return count

        with ThreadPoolExecutor(2) as pool:
            callers = [pool.submit(calls) for _ in range(2)]
            try:
                eventually(lambda: ask(ranker, user).bundle_version == bundles.live)
            finally:
                stop.set()
            assert all(caller.result() for caller in callers)
        assert not ask(ranker, user).degraded
        assert f"bundle {bundles.other} is set aside" in caplog.text
        eventually(lambda: _health(ranker) == health_pb2.HealthCheckResponse.NOT_SERVING)
        assert sample(ranker, "podium_ranker_bundles_set_aside", version=bundles.other) == 1
        assert _health(ranker, "") == health_pb2.HealthCheckResponse.SERVING
        assert bundles.store.pointer().canary is not None
    # A restart does not take it again; naming it anew does.
    failing.clear()
    with bundles.ranker() as ranker:
        assert set(versions(ranker).values()) == {bundles.live}
        assert bundles.other not in ranker.app.serving.loaded()
        bundles.store.canary(bundles.other, 0.5)
        eventually(lambda: ask(ranker, user).bundle_version == bundles.other)
        eventually(lambda: _health(ranker) == health_pb2.HealthCheckResponse.SERVING)
        assert sample(ranker, "podium_ranker_bundles_set_aside", version=bundles.other) == 0


def test_a_live_bundle_that_fails_gives_way_to_the_one_before(
    bundles: Bundles, failing: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    with bundles.ranker() as ranker:
        bundles.store.promote(bundles.other)
        eventually(lambda: ask(ranker, "ann").bundle_version == bundles.other)
        ranker.features.withdraw("course", "course_0")
        eventually(lambda: not _has(ranker, "course_0"))
        failing.add(bundles.other)
        eventually(lambda: ask(ranker, "ann").bundle_version == bundles.live)
        assert not ask(ranker, "ann").degraded
        # It was kept, and caught up with what changed meanwhile.
        assert not _has(ranker, "course_0")
        assert bundles.store.current() == bundles.other
        assert f"bundle {bundles.other} is set aside" in caplog.text
    with bundles.ranker() as ranker:
        # From the disk, now.
        assert ask(ranker, "ann").bundle_version == bundles.live
        failing.add(bundles.live)
        # There is none to go back to: degraded answers are better than none.
        eventually(
            lambda: ask(ranker, "ann").degraded and "there is none to go back to" in caplog.text
        )
        assert ask(ranker, "ann").slate.ids
        failing.clear()
        bundles.store.promote(bundles.other)
        eventually(lambda: ask(ranker, "ann").bundle_version == bundles.other)


def test_a_bundle_that_fails_at_recorded_requests_never_serves(
    bundles: Bundles, failing: set[str], caplog: pytest.LogCaptureFixture
) -> None:
    failing.add(bundles.other)
    with bundles.ranker() as ranker:
        assert set(versions(ranker).values()) == {bundles.live}
        bundles.store.promote(bundles.other)
        eventually(lambda: "that it was warmed with" in caplog.text)
        assert set(versions(ranker).values()) == {bundles.live}
        refused = "podium_ranker_bundles_refused_total"
        eventually(lambda: sample(ranker, refused, reason="FAILS_WARM_UP") == 1)


def test_a_bundle_that_ends_the_process_is_not_taken_for_ever(
    bundles: Bundles, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    load = LoadedBundle.load
    taken: list[str] = []

    class Killed(BaseException):
        """As if the process had ended."""

    def maybe(path: Path, **options: Any) -> LoadedBundle:
        taken.append(path.name)
        if path.name == bundles.other:
            raise Killed
        return load(path, **options)

    monkeypatch.setattr(LoadedBundle, "load", maybe)
    bundles.store.promote(bundles.other)
    for _ in range(3):
        settings = make_settings(bundles.directory, bundles.store.directory, bundles.target)
        app = build(settings)
        with pytest.raises(Killed):
            app.bundles.poll()
        # Nothing is closed in order.
        app.spool.close()
        app.channel.close()
    with bundles.ranker() as ranker:
        assert ask(ranker, "ann").bundle_version == bundles.live
    assert taken.count(bundles.other) == 3
    assert "3 starts with it ended before it was proved" in caplog.text


def test_a_torn_pointer_changes_nothing_until_it_is_mended(
    bundles: Bundles, caplog: pytest.LogCaptureFixture
) -> None:
    path = bundles.store.directory / "current"
    with bundles.ranker() as ranker:
        bundles.store.canary(bundles.other, 1.0)
        eventually(lambda: ask(ranker, "ann").bundle_version == bundles.other)
        path.write_text(path.read_text()[:50])
        eventually(lambda: "not a pointer to bundles" in caplog.text)
        assert ask(ranker, "ann").bundle_version == bundles.other
        assert not ask(ranker, "ann").degraded
        bundles.store.promote(bundles.live)
        bundles.store.canary(None)
        eventually(lambda: ask(ranker, "ann").bundle_version == bundles.live)
