"""Micro-batches of several bundles: each request is answered as if it had come alone."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.assign.assign import Definitions, Experiment, Variant, bucket_of
from services.common.errors import BundleError, Unavailable
from services.ranker.bundles.answers import BundleAnswers
from services.ranker.bundles.faults import BundleFaults, FaultLimits, Verdict
from services.ranker.bundles.mixed import MixedPipeline
from services.ranker.bundles.recent import RecentRequests
from services.ranker.bundles.routing import Routes, Share, in_canary
from services.ranker.bundles.shadow import ShadowLimits, ShadowScoring
from services.ranker.bundles.warming import Warming
from services.ranker.definitions.in_force import FixedDefinitions
from services.ranker.feature_rows import joined
from services.ranker.governor import Governor
from services.ranker.last_known import LastKnownRows
from services.ranker.pipeline import Pipeline
from services.ranker.plan import SurfaceSpec
from services.ranker.sources.asking import SourceAsking
from services.ranker.sources.breaker import SourceLimits
from services.ranker.sources.personal import Personal
from services.ranker.state import InForce, ServingState, prepare
from services.ranker.tokens.format import digest_of
from services.ranker.types import (
    Degradation,
    Following,
    Part,
    RankCommand,
    RankResult,
    Reason,
    Traffic,
)
from tests.support.eventually import eventually
from tests.unit.services.ranker.fakes import (
    USER_VIEW,
    FakeModel,
    FakeUsers,
    Recorder,
    spec_of,
    tables_of,
)

SURFACE = SurfaceSpec("plain", "item", 3, 10, (Personal("personal", 10),), (), {}, None, {})
ROWS: dict[str, dict[str, Any]] = {f"i{n}": {"score": n * 0.2, "clicks": n} for n in range(12)}
USERS = {f"u{n}": {"history": [f"i{n}", f"i{n + 1}"], "spend": float(n)} for n in range(8)}
EXPERIMENT = Experiment(
    "which", "user", "salt", (Variant("a", 0.5), Variant("b", 0.5, bundle="named"))
)
WHICH = Definitions({"which": EXPERIMENT}, "")
NO_EXPERIMENTS = Definitions({}, "")


class OtherModel(FakeModel):
    """Prefers what the first one does not."""

    def score(self, **inputs: Any) -> Any:
        return np.float32(1) - super().score(**inputs)


class Counts:
    """What the metrics would count."""

    def __init__(self) -> None:
        self.answers: dict[str, list[int]] = {}
        self.dropped: list[str] = []
        self.compared: list[float] = []

    def bundle_answers(self, role: str, sound: int, faulty: int) -> None:
        counts = self.answers.setdefault(role, [0, 0])
        counts[0] += sound
        counts[1] += faulty

    def shadow_dropped(self, reason: str) -> None:
        self.dropped.append(reason)

    def shadow_compared(self, comparison: Any, shadow_s: float, live_s: float) -> None:
        assert shadow_s > 0
        assert live_s > 0
        self.compared.append(comparison.overlap)


def state_of(version: str, model: FakeModel, user_view: str = "hash-user") -> ServingState:
    spec = spec_of(model, SURFACE)
    views = {**spec.views, "user": replace(spec.views["user"], hash=user_view)}
    spec = replace(spec, version=version, views=views)
    return prepare(model, spec, tables_of(ROWS), None, exact_rows=100, now_ms=1_000)


class World:
    """Bundles in force over fakes."""

    def __init__(
        self, routes: Routes, *, definitions: Definitions = NO_EXPERIMENTS, other_view: str = ""
    ) -> None:
        self.models: dict[str, FakeModel] = {
            version: FakeModel() if version == routes.live else OtherModel()
            for version in sorted(routes.versions())
        }
        view = other_view or "hash-user"
        states = {
            version: state_of(version, model, "hash-user" if version == routes.live else view)
            for version, model in self.models.items()
        }
        self.in_force = InForce(routes, states)
        self.users, self.recorder, self.counts = FakeUsers(USERS), Recorder(), Counts()
        self.shadowed, self.now_s = Recorder(), 0.0
        self.new_rank_id = iter(map(str, range(10_000))).__next__
        self.faults = BundleFaults(FaultLimits(requests=4, share=0.5))
        for version in routes.versions():
            self.faults.begin(version, {"personal"})
        self.recent = RecentRequests()
        self.idle = threading.Event()
        self.shadow = ShadowScoring(
            lambda: self.in_force,
            self._pipeline(self.shadowed, NO_EXPERIMENTS),
            self.users,
            BundleAnswers(self.faults, self.recent, self.counts, lambda _, __: None),
            self.counts,
            idle=self.idle,
            log_error=lambda _, __: None,
            limits=ShadowLimits(waiting=3, wait_s=1.0, closing_s=0.5),
            monotonic_s=lambda: self.now_s,
        )
        self.pipeline = self._pipeline(self.recorder, definitions)
        self.mixed = MixedPipeline(
            lambda: self.in_force,
            self.pipeline,
            self.users,
            FixedDefinitions(definitions),
            BundleAnswers(self.faults, self.recent, self.counts, self.shadow.offer),
            idle=self.idle,
            log_error=lambda _, __: None,
        )

    def _pipeline(self, recorder: Recorder, definitions: Definitions) -> Pipeline:
        return Pipeline(
            lambda: self.in_force.live,
            self.users,
            FixedDefinitions(definitions),
            recorder,
            recorder,
            governor=Governor(target_s=1, floor=1),
            last_known=LastKnownRows(capacity=10, max_age_s=60, monotonic_s=lambda: 0.0),
            sources=SourceAsking(
                SourceLimits(), ran=recorder.source, log_error=lambda _, __: None, clock=lambda: 0.0
            ),
            feature_timeout_s=1.0,
            new_rank_id=self.new_rank_id,
            log_error=lambda _, __: None,
        )

    def rank(self, *commands: RankCommand, kept: list[int] | None = None) -> list[RankResult]:
        started = self.mixed.begin(commands)
        assert not self.idle.is_set()
        results = self.mixed.finish(started, [*range(len(commands))] if kept is None else kept)
        assert self.idle.is_set()
        return results


def command_of(user: str, **changes: Any) -> RankCommand:
    return RankCommand("plain", user_id=user, device_id="", **changes)


CANARY = Routes("live", canary=Share("canary", 0.5))


@settings(max_examples=25, deadline=None)
@given(
    users=st.lists(st.sampled_from(sorted(USERS)), min_size=1, max_size=6),
    other_view=st.sampled_from(["", "hash-other"]),
    data=st.data(),
)
def test_batch_equals_single(users: list[str], other_view: str, data: st.DataObject) -> None:
    routes = replace(CANARY, experiments=frozenset({"named"}))
    world = World(routes, definitions=WHICH, other_view=other_view)
    commands = [command_of(user, seed=7) for user in users]
    kept = data.draw(st.lists(st.sampled_from(range(len(users))), unique=True, min_size=1))
    together = world.rank(*commands, kept=kept)
    calls, world.users.calls = world.users.calls, []
    for place, result in zip(kept, together, strict=True):
        (alone,) = world.rank(commands[place])
        assert result.command.user_id == users[place]
        assert result.bundle_version == alone.bundle_version
        assert result.slate.ids == alone.slate.ids
        np.testing.assert_allclose(result.slate.values, alone.slate.values, rtol=1e-6)
        assert result.degraded == alone.degraded
        unit = users[place]
        expected = "canary" if in_canary(Share("canary", 0.5), unit) else "live"
        if bucket_of("salt", unit) >= 0.5:
            expected = "named"
        assert result.bundle_version == expected
    # One call for the whole micro-batch, or one a view.
    assert len(calls) <= (2 if other_view else 1)
    assert sorted(user for call in calls for user in call) == sorted(users)


def test_a_variant_whose_bundle_does_not_serve_is_answered_by_the_live_one_and_says_so() -> None:
    world = World(Routes("live"), definitions=WHICH)
    results = world.rank(*map(command_of, USERS))
    replaced = Degradation(Part.SCORING, Reason.REPLACED)
    for result in results:
        assert result.bundle_version == "live"
        named = bucket_of("salt", result.command.user_id) >= 0.5
        assert (replaced in result.degraded) is named


@pytest.mark.parametrize("bundle", ["live", "canary", "gone"])
def test_a_page_is_of_the_bundle_of_the_page_before_while_that_serves(bundle: str) -> None:
    world = World(CANARY)
    following = Following("r0", 1, 0, np.zeros(0, np.uint64), digest_of(bundle), frozenset())
    for result in world.rank(*(command_of(user, following=following) for user in USERS)):
        among = in_canary(Share("canary", 0.5), result.command.user_id)
        expected = bundle if bundle != "gone" else "canary" if among else "live"
        assert result.bundle_version == expected
        replaced = Degradation(Part.SCORING, Reason.REPLACED)
        assert (replaced in result.degraded) is (bundle == "gone")


def test_a_bundle_that_breaks_altogether_costs_nobody_the_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(Routes("live", canary=Share("canary", 1.0)))

    def raises(*_: object) -> None:
        raise KeyError("a value the code took for granted")

    monkeypatch.setattr(world.models["canary"], "lookup_actions", raises)
    results = world.rank(*map(command_of, USERS))
    assert {result.bundle_version for result in results} == {"live"}
    assert all(len(result.slate.ids) == 3 for result in results)
    assert world.faults.verdicts() == {"live": Verdict.SOUND, "canary": Verdict.FAILING}
    assert world.counts.answers == {"canary": [0, 8], "live": [8, 0]}
    assert len(world.recorder.results) == len(results)
    replaced = Degradation(Part.SCORING, Reason.REPLACED)
    assert all(replaced in result.degraded for result in results)


def test_a_live_bundle_that_breaks_takes_no_answer_from_the_canarys_users(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(CANARY)

    def raises(*_: object) -> None:
        raise KeyError("a value the code took for granted")

    monkeypatch.setattr(world.models["live"], "lookup_actions", raises)
    commands = [*map(command_of, USERS)]
    mixed = world.mixed.begin(commands)
    answers = world.mixed.finish(mixed, range(len(commands)))
    assert CANARY.canary is not None
    for command, answer in zip(commands, answers, strict=True):
        if in_canary(CANARY.canary, command.user_id):
            assert isinstance(answer, RankResult)
            assert answer.bundle_version == "canary"
        else:
            assert isinstance(answer, KeyError)
    assert len(world.recorder.results) == sum(isinstance(a, RankResult) for a in answers) > 0


def test_a_shadow_ends_while_it_waits_for_rest() -> None:
    world = World(SHADOW)
    world.rank(command_of("u1"))
    world.idle.clear()
    world.now_s = 5.0
    world.shadow.start()
    eventually(lambda: world.counts.dropped == ["waited_too_long"])
    closing = threading.Thread(target=world.shadow.close, daemon=True)
    closing.start()
    closing.join(10)
    assert not closing.is_alive()


def test_a_shadow_that_hangs_does_not_keep_the_ranker_from_ending(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(SHADOW)
    begun, go_on = threading.Event(), threading.Event()

    def hangs(*_: object) -> None:
        begun.set()
        assert go_on.wait(60)
        raise RuntimeError("it went on too late")

    monkeypatch.setattr(world.models["shadow"], "encode_users", hangs)
    world.rank(command_of("u1"))
    world.shadow.start()
    assert begun.wait(60)
    closing = threading.Thread(target=world.shadow.close, daemon=True)
    closing.start()
    closing.join(30)
    try:
        assert not closing.is_alive()
    finally:
        go_on.set()
        closing.join(30)


def test_what_no_bundle_can_answer_is_an_error_and_a_fault_of_the_live_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world = World(Routes("live"))

    def raises(*_: object) -> None:
        raise KeyError("a value the code took for granted")

    monkeypatch.setattr(world.models["live"], "lookup_actions", raises)
    with pytest.raises(KeyError):
        world.rank(*map(command_of, USERS))
    assert world.faults.verdicts()["live"] is Verdict.FAILING


def test_a_spool_that_is_full_is_no_fault_of_a_bundle(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(CANARY)

    def refuses(_: object) -> None:
        raise Unavailable("the spool could not be written")

    monkeypatch.setattr(world.recorder, "record", refuses)
    with pytest.raises(Unavailable):
        world.rank(*map(command_of, USERS))
    assert set(world.faults.verdicts().values()) == {Verdict.OPEN}


SHADOW = Routes("live", shadow=Share("shadow", 1.0))


def test_a_shadow_ranks_what_was_answered_and_is_compared() -> None:
    world = World(SHADOW)
    (answered,) = world.rank(command_of("u1"))
    calls = len(world.users.calls)
    assert world.shadow.rank_next()
    assert not world.shadow.rank_next()
    (shadowed,) = world.shadowed.results
    assert world.recorder.results == [answered]
    assert shadowed.traffic is Traffic.SHADOW
    assert shadowed.parent_rank_id == answered.rank_id != shadowed.rank_id
    assert shadowed.bundle_version == "shadow"
    assert answered.bundle_version == "live"
    assert shadowed.slate.ids != answered.slate.ids
    assert len(world.counts.compared) == 1
    assert world.counts.answers == {"live": [1, 0], "shadow": [1, 0]}
    # What was known of the user is known: the view is the same.
    assert len(world.users.calls) == calls


def test_a_shadow_with_another_view_asks_for_its_own_rows() -> None:
    world = World(SHADOW, other_view="hash-other")
    world.rank(command_of("u1"))
    calls = len(world.users.calls)
    assert world.shadow.rank_next()
    assert world.users.calls[calls:] == [["u1"]]


@pytest.mark.parametrize(
    "changes",
    [
        {"traffic": Traffic.TEST},
        {"traffic": Traffic.LOAD},
        {"dry_run": True},
        {"following": Following("r", 1, 0, np.zeros(0, np.uint64), b"", frozenset())},
    ],
)
def test_only_live_first_pages_are_shadowed(changes: dict[str, Any]) -> None:
    world = World(SHADOW)
    world.rank(command_of("u1", **changes))
    assert not world.shadow.rank_next()


def test_what_a_shadow_has_no_time_for_is_dropped_and_counted() -> None:
    world = World(SHADOW)
    world.rank(*map(command_of, USERS))
    assert world.counts.dropped == ["queue_full"] * (len(USERS) - 3)
    assert world.shadow.rank_next()
    world.now_s = 1.5
    assert world.shadow.rank_next()
    world.in_force = InForce(Routes("live"), world.in_force.states)
    world.now_s = 0.5
    assert world.shadow.rank_next()
    assert world.counts.dropped[-2:] == ["waited_too_long", "no_shadow"]
    assert len(world.counts.compared) == 1


def test_a_shadow_that_fails_is_counted_and_answers_nobody() -> None:
    world = World(SHADOW)
    world.models["shadow"].broken.add("score")
    results = world.rank(*map(command_of, USERS))
    while world.shadow.rank_next():
        pass
    assert not any(result.degraded for result in results)
    assert world.faults.verdicts()["shadow"] is Verdict.FAILING
    assert world.counts.answers["shadow"] == [0, 3]


def test_recent_requests_are_kept_with_what_was_known_and_rank_alike() -> None:
    world = World(CANARY)
    results = world.rank(*map(command_of, USERS))
    recorded = world.recent.requests()
    assert sorted(r.command.user_id for r in recorded) == sorted(USERS)
    by_user = {result.command.user_id: result for result in results}
    for one in recorded:
        assert one.command.dry_run
        assert one.command.traffic is Traffic.TEST
        before = by_user[one.command.user_id]
        name: str = before.rows.ids[before.row]
        assert list(one.rows.ids) == [name]
        assert one.rows.strings_of(0, "history") == USERS[name]["history"]
        assert one.view_hash == before.view_hash


def test_before_there_are_any_a_bundle_is_warmed_with_captured_requests() -> None:
    asked: list[int] = []

    def captured() -> list[RankCommand]:
        asked.append(1)
        return [command_of("pseudonym", k=2), RankCommand("gone", "other", "")]

    recent = RecentRequests(captured)
    world = World(CANARY)
    pipeline, state = world.pipeline, world.in_force.live
    warm = Warming(pipeline, recent.requests, share=0.5)
    warm(state)
    assert asked == [1]
    assert world.recorder.results == []
    world.models["live"].broken.add("score")
    with pytest.raises(BundleError, match=r"fails at \d of \d requests"):
        warm(state)
    world.models["live"].broken.clear()
    recent.remember(world.rank(command_of("u1")))
    assert [one.command.user_id for one in recent.requests()] == ["u1"]
    warm(state)
    assert asked == [1, 1]


def test_a_request_whose_rows_did_not_come_warms_beside_others() -> None:
    recent = RecentRequests(list)
    world = World(CANARY)
    recent.remember(world.rank(command_of("u1")))
    world.users.failure = Unavailable("down")
    recent.remember(world.rank(command_of("nobody_knows")))
    world.users.failure = None
    assert len(recent.requests()) == 2
    Warming(world.pipeline, recent.requests, share=0.5)(world.in_force.live)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(sorted(USERS)), min_size=1, max_size=5), st.data())
def test_rows_come_apart_and_together_again(users: list[str], data: st.DataObject) -> None:
    rows = replace(
        FakeUsers(USERS).start(USER_VIEW, users, 1.0).result(),
        vector_names=("counts",),
        vector_dims=(2,),
        vectors=np.arange(2 * len(users), dtype=np.float32).reshape(-1, 2),
    )
    at = data.draw(st.integers(0, len(users)))
    parts = [rows.part(0, at), rows.part(at, len(users) - at)]
    again = joined([part for part in parts if part.ids])
    assert list(again.ids) == users
    for row, user in enumerate(users):
        for name in ("history", "bought"):
            assert again.strings_of(row, name) == USERS[user].get(name, [])
        assert again.number_of(row, "spend") == USERS[user]["spend"]
        assert again.vector_of(row, "counts").tolist() == [2 * row, 2 * row + 1]
    np.testing.assert_array_equal(again.statuses, rows.statuses)
    np.testing.assert_array_equal(again.floats, rows.floats)
