"""Rank over real servers: what a call answers with, and what it leaves behind."""

from __future__ import annotations

import math

import grpc
import pytest

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.event_log import read_log
from services.common.pseudonym import DEVELOPMENT_KEYS, Pseudonymiser
from tests.integration.ranker.conftest import Ranker


def test_a_known_user_gets_a_whole_slate(calm_ranker: Ranker) -> None:
    response = calm_ranker.rank("courses", k=10)
    slate = response.slate
    assert slate.entity_type == "course"
    assert len(slate.ids) == 10 == len(set(slate.ids))
    assert list(slate.selling_course_ids) == list(slate.ids)
    assert set(slate.sources) <= {"personal", "trending"}
    # Hosts are shown by value alone.
    hosts_by_value = list(calm_ranker.rank("hosts", k=10).slate.values)
    assert hosts_by_value == sorted(hosts_by_value, reverse=True)
    assert len(slate.predictions) == 10 * len(slate.objectives)
    assert all(0 <= p <= 1 for p in slate.predictions)
    assert len(response.rank_id) == 26
    assert response.bundle_version
    assert not response.degraded
    assert [t.stage for t in response.timings][-1] == "log"
    assert response.traffic_class == common_pb2.TRAFFIC_CLASS_LIVE
    # Bought, by a blocked host, or sold out.
    hosts = {id_: f"host_{int(id_.split('_')[1]) % 6}" for id_ in slate.ids}
    assert "course_1" not in slate.ids
    assert "course_3" not in slate.ids
    assert "host_2" not in hosts.values()


def test_the_value_is_the_weighted_sum_of_the_predictions(calm_ranker: Ranker) -> None:
    response = calm_ranker.rank("hosts", forced_variants={"ranking_weights": "control"})
    weights = {
        "click": 0.05,
        "watch": 0.05,
        "interact": 0.05,
        "purchase": 1.0,
        "repurchase": 0.3,
        "refund": -0.5,
    }
    slate = response.slate
    width = len(slate.objectives)
    for row, value in enumerate(slate.values):
        predictions = slate.predictions[row * width : (row + 1) * width]
        expected = sum(
            weights[name] * p for name, p in zip(slate.objectives, predictions, strict=True)
        )
        assert math.isclose(value, expected, rel_tol=1e-4, abs_tol=1e-6)


@pytest.mark.parametrize("surface", ["courses", "rooms", "hosts", "videos"])
@pytest.mark.parametrize(
    "actor", [common_pb2.Actor(user_id="ann"), common_pb2.Actor(device_id="phone-1")]
)
def test_every_surface_answers_known_and_unknown_visitors(
    calm_ranker: Ranker, surface: str, actor: common_pb2.Actor
) -> None:
    response = calm_ranker.rank(surface, actor=actor)
    assert response.slate.ids
    assert not response.degraded


def test_only_live_rooms_are_shown_one_a_host_with_what_they_sell(calm_ranker: Ranker) -> None:
    slate = calm_ranker.rank("rooms", actor=common_pb2.Actor(user_id="bob")).slate
    numbers = [int(id_.split("_")[1]) for id_ in slate.ids]
    assert all(n % 3 != 2 for n in numbers)
    assert len({n % 6 for n in numbers}) == len(numbers) == 4
    assert list(slate.selling_course_ids) == [f"course_{n}" for n in numbers]


def test_a_forced_variant_makes_test_traffic_and_changes_the_weights(calm_ranker: Ranker) -> None:
    control, engagement = (
        calm_ranker.rank("courses", forced_variants={"ranking_weights": name})
        for name in ("control", "engagement")
    )
    assert control.traffic_class == common_pb2.TRAFFIC_CLASS_TEST
    assert engagement.assignments[0].variant_key == "engagement"
    assert engagement.assignments[0].reason == common_pb2.ASSIGNMENT_REASON_FORCED
    assert list(control.slate.values) != list(engagement.slate.values)


def test_the_slate_and_its_exposure_are_on_disk_before_the_reply(calm_ranker: Ranker) -> None:
    context = common_pb2.RequestContext(locale="en-US", session_id="s1")
    request = {
        "actor": common_pb2.Actor(user_id="once-exposed"),
        "k": 5,
        "context": context,
        "traffic_class": common_pb2.TRAFFIC_CLASS_LOAD,
    }
    response, again = (calm_ranker.rank("courses", **request) for _ in range(2))
    slate, exposure, later = [
        event
        for event in _spooled(calm_ranker)
        if event.rank_id in (response.rank_id, again.rank_id)
    ]
    assert slate.type == later.type == "slate_served"
    assert list(slate.slate_served.item_ids) == list(response.slate.ids)
    assert slate.slate_served.context == context
    assert slate.slate_served.feature_log_position == 7
    assert slate.traffic_class == exposure.traffic_class == common_pb2.TRAFFIC_CLASS_LOAD
    # Once in a window.
    assert exposure.type == "exposure"
    assert exposure.exposure.assignment == response.assignments[0]
    assert exposure.attributes["locale"].string_value == "en-US"
    pseudonym = Pseudonymiser.from_text(DEVELOPMENT_KEYS).encrypt("once-exposed")
    assert slate.actor.user_id == exposure.actor.user_id == pseudonym


def test_a_dry_run_writes_nothing(calm_ranker: Ranker) -> None:
    response = calm_ranker.rank("courses", dry_run=True)
    assert response.slate.ids
    assert response.rank_id not in [event.rank_id for event in _spooled(calm_ranker)]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"k": 0}, "k"),
        ({"k": 201}, "k"),
        ({"k": 10_000}, "k"),
        ({"actor": common_pb2.Actor()}, "actor"),
        ({"actor": common_pb2.Actor(user_id="u" * 129)}, "actor.user_id"),
        ({"actor": common_pb2.Actor(device_id="é" * 65)}, "actor.device_id"),
        ({"actor": common_pb2.Actor(user_id="device:")}, "actor.user_id"),
        ({"surface": ""}, "surface"),
        ({"candidate_ids": [f"c{n}" for n in range(501)]}, "candidate_ids"),
        ({"candidate_ids": ["c0", ""]}, "candidate_ids[1]"),
        ({"surface": "hosts", "candidate_ids": ["host_1"]}, "candidate_ids"),
        ({"surface": "s" * 65}, "surface"),
        ({"traffic_class": 99}, "traffic_class"),
        ({"context": common_pb2.RequestContext(locale="x" * 36)}, "context.locale"),
        ({"forced_variants": {f"e{n}": "a" for n in range(17)}}, "forced_variants"),
        ({"forced_variants": {"ranking_weights": "nothing"}}, "forced_variants.ranking_weights"),
    ],
)
def test_bad_requests_name_the_field(
    calm_ranker: Ranker, change: dict[str, object], field: str
) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        calm_ranker.rank(**change)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert caught.value.details().startswith(f"{field}:")
    assert calm_ranker.rank().slate.ids


@pytest.mark.parametrize(
    "change", [{"surface": "nowhere"}, {"forced_variants": {"no_such_experiment": "a"}}]
)
def test_unknown_names_are_not_found(calm_ranker: Ranker, change: dict[str, object]) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        calm_ranker.rank(**change)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def _spooled(calm_ranker: Ranker) -> list[event_pb2.Event]:
    return [
        event_pb2.LoggedEvent.FromString(payload).event
        for _, payload in read_log(calm_ranker.settings.spool_dir)
    ]
