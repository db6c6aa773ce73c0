"""Pages and refreshes answered by two replicas in turn, over a catalogue that changes meanwhile."""

from __future__ import annotations

import itertools
from typing import Any

import pytest

from podium.common.v1 import common_pb2
from podium.ranker.v1 import filter_pb2, ranker_pb2
from services.common.errors import InvalidArgument
from tests.integration.ranker.conftest import Ranker, refusal
from tests.support.eventually import eventually
from tests.support.live_world import little_catalogue

Pair = tuple[Ranker, Ranker]
ANN, BOB = common_pb2.Actor(user_id="ann"), common_pb2.Actor(user_id="bob")


def refresh(ranker: Ranker, token: str, surface: str, **fields: Any) -> ranker_pb2.RefreshResponse:
    actor = fields.pop("actor", ANN)
    request = ranker_pb2.RefreshRequest(actor=actor, surface=surface, refresh_token=token, **fields)
    return ranker.stub.Refresh(request, timeout=10)


def told(pair: Pair, entity: str, id_: str, **changes: Any) -> None:
    """Changes a row of the catalogue; returns when both replicas have it."""
    service = pair[0].features
    row = {**service.catalogue[entity].get(id_, {}), **changes}
    service.upsert(entity, id_, row)
    for ranker in pair:
        eventually(lambda ranker=ranker: _has(ranker, entity, id_, changes))


def _has(ranker: Ranker, entity: str, id_: str, changes: dict[str, Any]) -> bool:
    table = ranker.app.serving.current().tables.by_entity[entity]
    numbers = {name: value for name, value in changes.items() if isinstance(value, int)}
    return table.has(id_) and all(
        table.numeric(name)[table.slot_of[id_]] == value for name, value in numbers.items()
    )


def test_pages_never_repeat_an_item_and_show_everything_there_is(two_rankers: Pair) -> None:
    replicas = itertools.cycle(two_rankers)
    first = next(replicas).rank("courses", k=4)
    pages = [first]
    while token := pages[-1].next_page_token:
        if len(pages) == 2:
            told(two_rankers, "course", "course_new", seats_left=5, price_minor=7)
            two_rankers[0].features.withdraw("course", "course_29")
        page = next(replicas).rank("courses", k=3, page_token=token)
        assert page.parent_rank_id == pages[-1].rank_id
        assert page.rank_id not in {earlier.rank_id for earlier in pages}
        assert page.assignments[0].variant_key == first.assignments[0].variant_key
        pages.append(page)
    ids = [id_ for page in pages for id_ in page.slate.ids]
    assert len(ids) == len(set(ids))
    assert [p for page in pages for p in page.slate.positions] == list(range(len(ids)))
    allowed = {
        id_
        for id_, row in little_catalogue()["course"].items()
        if id_ not in {"course_1", "course_3"} and row["host_id"] != "host_2"
    }
    assert set(ids) - {"course_29"} == (allowed | {"course_new"}) - {"course_29"}
    last = two_rankers[0].spooled() + two_rankers[1].spooled()
    logged = {event.rank_id: event.slate_served for event in last}
    for page in pages:
        assert logged[page.rank_id].parent_rank_id == page.parent_rank_id
        assert list(logged[page.rank_id].positions) == list(page.slate.positions)


def test_a_page_asked_for_twice_is_the_same_page(two_rankers: Pair) -> None:
    first = two_rankers[0].rank("hosts", k=2)
    pages = [r.rank("hosts", k=2, page_token=first.next_page_token) for r in two_rankers]
    assert pages[0].slate.ids == pages[1].slate.ids
    assert pages[0].rank_id != pages[1].rank_id


def test_a_refresh_drops_an_ended_room_and_shows_the_new_price(two_rankers: Pair) -> None:
    one, other = two_rankers
    before = one.rank("rooms", actor=BOB)
    ended, cheaper = before.slate.ids[0], before.slate.ids[1]
    course = before.slate.selling_course_ids[1]
    assert before.slate.prices_minor[1] == 100 * (int(course.split("_")[1]) + 1)
    told(two_rankers, "room", ended, live=0)
    told(two_rankers, "course", course, price_minor=77)
    after = refresh(other, before.refresh_token, "rooms", actor=BOB)
    assert set(after.slate.ids) == set(before.slate.ids) - {ended}
    prices = dict(zip(after.slate.ids, after.slate.prices_minor, strict=True))
    assert prices[cheaper] == 77
    assert [(gone.id, gone.reason) for gone in after.removed] == [(ended, "require:live")]
    assert after.parent_rank_id == before.rank_id != after.rank_id
    assert set(after.slate.sources) == {"refresh"}
    assert list(after.slate.positions) == list(range(len(after.slate.ids)))
    stored = {event.rank_id: event.slate_served for event in other.spooled()}[after.rank_id]
    assert stored.parent_rank_id == before.rank_id
    assert list(stored.prices_minor) == list(after.slate.prices_minor)
    # A refresh can be refreshed; the next page is that of the slate before.
    again = refresh(one, after.refresh_token, "rooms", actor=BOB)
    assert set(again.slate.ids) == set(after.slate.ids)
    told(two_rankers, "room", ended, live=1)


def test_a_refreshed_page_keeps_its_place(two_rankers: Pair) -> None:
    one, other = two_rankers
    first = one.rank("videos", k=2)
    second = other.rank("videos", k=2, page_token=first.next_page_token)
    after = refresh(one, second.refresh_token, "videos")
    assert list(after.slate.positions) == list(second.slate.positions) == [2, 3]


def test_test_traffic_stays_test_traffic(two_rankers: Pair) -> None:
    one, other = two_rankers
    first = one.rank("courses", k=2, forced_variants={"ranking_weights": "engagement"})
    page = other.rank("courses", k=2, page_token=first.next_page_token)
    assert page.traffic_class == common_pb2.TRAFFIC_CLASS_TEST
    assert page.assignments[0].variant_key == "engagement"
    again = refresh(one, first.refresh_token, "courses")
    assert again.traffic_class == common_pb2.TRAFFIC_CLASS_TEST
    assert sorted(again.slate.values) == sorted(first.slate.values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"actor": BOB}, "TOKEN_OF_ANOTHER_ACTOR"),
        ({"actor": common_pb2.Actor(device_id="ann")}, "TOKEN_OF_ANOTHER_ACTOR"),
        ({"surface": "rooms"}, "TOKEN_OF_ANOTHER_SURFACE"),
    ],
)
def test_tokens_of_others_are_refused(
    two_rankers: Pair, change: dict[str, Any], reason: str
) -> None:
    one, other = two_rankers
    first = one.rank("courses", k=2)
    asked = {"surface": "courses", "actor": ANN} | change
    refused = refusal(lambda: other.rank(**asked, page_token=first.next_page_token))
    assert isinstance(refused, InvalidArgument)
    assert (refused.reason, refused.violations[0].field) == (reason, "page_token")
    refused = refusal(lambda: refresh(other, first.refresh_token, **asked))
    assert (refused.reason, refused.violations[0].field) == (reason, "refresh_token")


def test_tokens_that_were_touched_or_confused_are_refused(two_rankers: Pair) -> None:
    one, other = two_rankers
    first = one.rank("courses", k=2)
    page, again = first.next_page_token, first.refresh_token
    for token, reason in [
        (again, "TOKEN_OF_ANOTHER_CALL"),
        (page[:40] + ("A" if page[40] != "A" else "B") + page[41:], "TOKEN_SIGNATURE_WRONG"),
        # Whole groups of four letters: of others the last letter has bits to spare.
        (page[: len(page) // 4 * 4 - 4], "TOKEN_SIGNATURE_WRONG"),
        ("x" * 4_097, "TOKEN_MALFORMED"),
        ("not a token", "TOKEN_MALFORMED"),
    ]:
        refused = refusal(lambda token=token: other.rank("courses", page_token=token))
        assert isinstance(refused, InvalidArgument)
        assert refused.reason == reason
    assert refusal(lambda: refresh(other, page, "courses")).reason == "TOKEN_OF_ANOTHER_CALL"
    assert refusal(lambda: refresh(other, "", "courses")).reason == "TOKEN_MALFORMED"


def cheap(below_minor: int) -> filter_pb2.Filter:
    return filter_pb2.Filter(
        comparison=filter_pb2.Filter.Compare(
            field="price_minor",
            operator=filter_pb2.Filter.OPERATOR_LESS,
            int_value=below_minor,
        )
    )


def test_the_callers_filter_holds_on_every_page_and_refresh(two_rankers: Pair) -> None:
    one, other = two_rankers
    first = one.rank("courses", k=2, filter=cheap(1_200))
    page = other.rank("courses", k=2, filter=cheap(1_200), page_token=first.next_page_token)
    again = refresh(other, first.refresh_token, "courses", filter=cheap(1_200))
    for slate in (first.slate, page.slate, again.slate):
        assert slate.ids
        assert all(price < 1_200 for price in slate.prices_minor)
    for changed in ({}, {"filter": cheap(1_300)}):
        refused = refusal(
            lambda changed=changed: other.rank(
                "courses", page_token=first.next_page_token, **changed
            )
        )
        assert refused.reason == "TOKEN_OF_ANOTHER_FILTER"
        refused = refusal(
            lambda changed=changed: refresh(one, first.refresh_token, "courses", **changed)
        )
        assert refused.reason == "TOKEN_OF_ANOTHER_FILTER"
