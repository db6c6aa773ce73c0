"""Requests that are sent again, to the replica that answered or to another."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

from podium.common.v1 import common_pb2
from podium.ranker.v1 import ranker_pb2
from services.common.errors import InvalidArgument
from tests.integration.ranker.conftest import Ranker, refusal

Pair = tuple[Ranker, Ranker]
RANKED, KEPT = ranker_pb2.IDEMPOTENCY_RANKED, ranker_pb2.IDEMPOTENCY_KEPT


def named(ranker: Ranker, caller: str, key: str) -> ranker_pb2.RankResponse:
    """A call of a caller that says who it is."""
    request = ranker_pb2.RankRequest(
        actor=common_pb2.Actor(user_id="ann"), surface="courses", idempotency_key=key
    )
    return ranker.stub.Rank(request, timeout=10, metadata=[("x-podium-caller", caller)])


def test_a_repetition_has_one_rank_id_and_one_set_of_events_on_every_replica(
    two_rankers: Pair,
) -> None:
    one, other = two_rankers
    first, again, elsewhere = (
        r.rank("courses", k=5, idempotency_key="k1") for r in (one, one, other)
    )
    assert [a.idempotency for a in (first, again, elsewhere)] == [RANKED, KEPT, RANKED]
    assert first.rank_id == again.rank_id == elsewhere.rank_id
    assert first.slate == again.slate
    assert first.slate.ids == elsewhere.slate.ids
    for kind in ("slate_served", "exposure"):
        written = [
            [event.event_id for event in r.spooled(kind) if event.rank_id == first.rank_id]
            for r in two_rankers
        ]
        assert len(written[0]) == 1
        assert written[0] == written[1]


def test_without_a_key_every_answer_is_new(two_rankers: Pair) -> None:
    first, again = (two_rankers[0].rank("hosts") for _ in range(2))
    assert first.rank_id != again.rank_id
    assert first.idempotency == ranker_pb2.IDEMPOTENCY_UNSPECIFIED


def test_repetitions_at_the_same_moment_are_ranked_once(two_rankers: Pair) -> None:
    one, _ = two_rankers
    one.features.release.clear()
    with ThreadPoolExecutor(6) as pool:
        calls = [pool.submit(one.rank, "courses", idempotency_key="burst") for _ in range(6)]
        one.features.release.set()
        answers = [call.result() for call in calls]
    assert sorted(answer.idempotency for answer in answers) == [RANKED] + 5 * [KEPT]
    (rank_id,) = {answer.rank_id for answer in answers}
    assert len([event for event in one.spooled() if event.rank_id == rank_id]) == 1


def test_a_key_counts_for_one_caller_actor_and_surface(two_rankers: Pair) -> None:
    one, other = two_rankers
    ids = {
        one.rank("courses", idempotency_key="k2").rank_id,
        one.rank("rooms", idempotency_key="k2").rank_id,
        one.rank("courses", idempotency_key="k2", actor=common_pb2.Actor(user_id="bob")).rank_id,
        named(one, "web", "k2").rank_id,
        named(one, "app", "k2").rank_id,
    }
    assert len(ids) == 5
    assert named(other, "web", "k2").rank_id in ids


def test_a_key_with_another_request_is_refused(two_rankers: Pair) -> None:
    one, _ = two_rankers
    one.rank("courses", k=5, idempotency_key="k3")
    refused = refusal(lambda: one.rank("courses", k=6, idempotency_key="k3"))
    assert isinstance(refused, InvalidArgument)
    assert refused.reason == "IDEMPOTENCY_KEY_REUSED"
    assert refused.violations[0].field == "idempotency_key"
    refused = refusal(lambda: one.rank("courses", idempotency_key="k" * 129))
    assert refused.violations[0].description == "has 129 bytes, at most 128 are allowed"


def test_a_page_has_its_own_id_under_the_same_key(two_rankers: Pair) -> None:
    one, other = two_rankers
    first = one.rank("courses", k=3, idempotency_key="k4")
    token = first.next_page_token
    page, repeated = (
        r.rank("courses", k=3, idempotency_key="k4", page_token=token) for r in (other, other)
    )
    assert page.rank_id == repeated.rank_id != first.rank_id
    assert repeated.idempotency == KEPT
