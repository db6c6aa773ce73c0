"""RankBatch, Similar and Score beside single calls and plain definitions."""

from __future__ import annotations

import queue
from typing import Any

import grpc
import numpy as np
import pytest

from podium.common.v1 import common_pb2
from podium.ranker.v1 import filter_pb2, ranker_pb2
from services.common.errors import InvalidArgument, NotFound
from tests.integration.ranker.conftest import Ranker, refusal
from tests.support.live_world import little_catalogue

Pair = tuple[Ranker, Ranker]
ANN = common_pb2.Actor(user_id="ann")
COURSES = little_catalogue()["course"]


def batch(ranker: Ranker, users: list[str], **fields: Any) -> list[ranker_pb2.RankBatchResult]:
    fields = {"surface": "courses"} | fields
    actors = [common_pb2.Actor(user_id=user) for user in users]
    request = ranker_pb2.RankBatchRequest(actors=actors, **fields)
    return list(ranker.stub.RankBatch(request, timeout=20).results)


def similar(ranker: Ranker, item: str, **fields: Any) -> ranker_pb2.SimilarResponse:
    kind = fields.pop("kind", "course")
    request = ranker_pb2.SimilarRequest(
        item=common_pb2.EntityRef(type=kind, id=item), **({"surface": "courses"} | fields)
    )
    return ranker.stub.Similar(request, timeout=10)


def score(ranker: Ranker, *items: str, **fields: Any) -> ranker_pb2.ScoreResponse:
    fields = {"surface": "courses", "actor": ANN} | fields
    return ranker.stub.Score(ranker_pb2.ScoreRequest(item_ids=items, **fields), timeout=10)


def test_a_batch_gives_each_user_what_rank_gives(two_rankers: Pair) -> None:
    one, other = two_rankers
    users = ["ann", *(f"user_{n}" for n in range(39))]
    results = batch(one, users, k=6, idempotency_key="job-1")
    assert [result.WhichOneof("outcome") for result in results] == ["ranked"] * 40
    for user, result in list(zip(users, results, strict=True))[::8]:
        alone = other.rank(
            "courses", k=6, actor=common_pb2.Actor(user_id=user), idempotency_key="job-1"
        )
        assert alone.rank_id == result.ranked.rank_id
        assert alone.slate.ids == result.ranked.slate.ids
        np.testing.assert_allclose(alone.slate.values, result.ranked.slate.values, atol=1e-5)
        assert result.ranked.refresh_token
        assert not result.ranked.next_page_token
    repeated = batch(one, users, k=6, idempotency_key="job-1")
    assert {r.ranked.idempotency for r in repeated} == {ranker_pb2.IDEMPOTENCY_KEPT}
    assert [r.ranked.rank_id for r in repeated] == [r.ranked.rank_id for r in results]


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"users": []}, "actors"),
        ({"users": [f"u{n}" for n in range(257)]}, "actors"),
        ({"users": ["a", ""]}, "actors[1]"),
        ({"users": ["a", "b", "a"]}, "actors[2]"),
        ({"k": 201}, "k"),
        ({"idempotency_key": "k" * 129}, "idempotency_key"),
    ],
)
def test_a_bad_batch_names_the_field(two_rankers: Pair, change: dict[str, Any], field: str) -> None:
    asked: dict[str, Any] = {"users": ["a"]} | change
    refused = refusal(lambda: batch(two_rankers[0], **asked))
    assert isinstance(refused, InvalidArgument)
    assert refused.violations[0].field == field


def _allowed(item: str, user: str) -> str:
    """Why a course may not be shown, by the definition; empty when it may."""
    number = int(item.split("_")[1])
    if number == 3:
        return "positive:seats_left"
    if user == "ann" and number == 1:
        return "not_in_list:purchased_courses"
    if user == "ann" and COURSES[item]["host_id"] == "host_2":
        return "not_in_list:blocked_hosts"
    return ""


@pytest.mark.parametrize("user", ["", "ann"])
def test_similar_items_are_the_nearest_that_may_be_shown(calm_ranker: Ranker, user: str) -> None:
    fields = {"actor": common_pb2.Actor(user_id=user)} if user else {}
    found = similar(calm_ranker, "course_4", k=200, **fields)
    state = calm_ranker.app.serving.current()
    table, vectors = state.tables.by_entity["course"], state.items["course"].vectors
    query = vectors[table.slot_of["course_4"]]
    near = {
        id_: float(vectors[slot] @ query)
        for slot, id_ in enumerate(table.ids)
        if id_ != "course_4" and not _allowed(id_, user)
    }
    expected = sorted(near, key=lambda id_: -near[id_])
    assert list(found.slate.ids) == expected
    np.testing.assert_allclose(found.slate.values, [near[id_] for id_ in expected], rtol=1e-5)
    assert list(similar(calm_ranker, "course_4", k=3, **fields).slate.ids) == expected[:3]
    assert bool(found.rank_id) == bool(user)
    written = [event for event in calm_ranker.spooled() if event.rank_id == found.rank_id]
    assert len(written) == (1 if user else 0)
    if user:
        assert written[0].slate_served.policy == "similar"
        assert not written[0].slate_served.assignments


def test_similar_items_pass_the_callers_filter(calm_ranker: Ranker) -> None:
    wanted = filter_pb2.Filter(
        membership=filter_pb2.Filter.In(field="category", string_values=["guitar"])
    )
    every = similar(calm_ranker, "course_4", k=200).slate.ids
    found = similar(calm_ranker, "course_4", k=200, filter=wanted).slate.ids
    assert list(found) == [id_ for id_ in every if COURSES[id_]["category"] == "guitar"]


def test_similar_names_what_is_wrong(calm_ranker: Ranker) -> None:
    assert refusal(lambda: similar(calm_ranker, "course_99")).reason == "UNKNOWN_ITEM"
    assert isinstance(refusal(lambda: similar(calm_ranker, "x", surface="no")), NotFound)
    for change, field in [
        ({"kind": "room"}, "item.type"),
        ({"item": ""}, "item.id"),
        ({"k": 0}, "k"),
        ({"actor": common_pb2.Actor()}, "actor"),
    ]:
        asked: dict[str, Any] = {"item": "course_4"} | change
        refused = refusal(lambda asked=asked: similar(calm_ranker, **asked))
        assert isinstance(refused, InvalidArgument)
        assert refused.violations[0].field == field


def test_scores_are_those_of_rank_and_what_is_removed_says_why(calm_ranker: Ranker) -> None:
    asked = ["course_9", "course_1", "nothing", "course_3", "course_0", "course_2", "course_7"]
    before = len(calm_ranker.spooled())
    forced = {"ranking_weights": "control"}
    answer = score(calm_ranker, *asked, forced_variants=forced)
    assert list(answer.scored.ids) == ["course_9", "course_0", "course_7"]
    reasons = {gone.id: gone.reason for gone in answer.removed}
    assert reasons == {
        "nothing": "not_in_catalogue",
        **{id_: _allowed(id_, "ann") for id_ in ("course_1", "course_3", "course_2")},
    }
    assert len(calm_ranker.spooled()) == before
    pages = [calm_ranker.rank("courses", k=200, forced_variants=forced, dry_run=True)]
    while token := pages[-1].next_page_token:
        pages.append(calm_ranker.rank("courses", k=200, page_token=token, dry_run=True))
    width = len(answer.scored.objectives)
    ranked = {
        id_: (page.slate.values[row], page.slate.predictions[row * width : (row + 1) * width])
        for page in pages
        for row, id_ in enumerate(page.slate.ids)
    }
    for row, id_ in enumerate(answer.scored.ids):
        value, predictions = ranked[id_]
        assert answer.scored.values[row] == pytest.approx(value, abs=1e-5)
        np.testing.assert_allclose(
            answer.scored.predictions[row * width : (row + 1) * width], predictions, atol=1e-5
        )
    assert list(answer.scored.prices_minor) == [1_000, 100, 800]
    assert answer.traffic_class == common_pb2.TRAFFIC_CLASS_TEST


def test_score_names_what_is_wrong(calm_ranker: Ranker) -> None:
    for items, field in [
        ([], "item_ids"),
        ([f"i{n}" for n in range(501)], "item_ids"),
        (["a", ""], "item_ids[1]"),
        (["a", "b", "a"], "item_ids[2]"),
    ]:
        refused = refusal(lambda items=items: score(calm_ranker, *items))
        assert isinstance(refused, InvalidArgument)
        assert refused.violations[0].field == field


def test_a_batch_that_does_not_fit_is_refused_with_advice(two_rankers: Pair) -> None:
    one, _ = two_rankers
    one.features.release.clear()
    try:
        users = [f"u{n}" for n in range(256)]
        request = ranker_pb2.RankBatchRequest(
            actors=[common_pb2.Actor(user_id=user) for user in users],
            surface="courses",
            dry_run=True,
        )
        waiting = [one.stub.RankBatch.future(request, timeout=20) for _ in range(3)]
        refused = _first_failure(waiting)
    finally:
        one.features.release.set()
    assert refused.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    assert dict(refused.trailing_metadata())["grpc-retry-pushback-ms"]
    answered = [call.result().results for call in waiting if call is not refused]
    assert all(result.WhichOneof("outcome") == "ranked" for r in answered for result in r)


def _first_failure(calls: list[Any]) -> Any:
    """The first call that ends while the others wait."""
    ended: queue.Queue[Any] = queue.Queue()
    for call in calls:
        call.add_done_callback(ended.put)
    return ended.get(timeout=15)
