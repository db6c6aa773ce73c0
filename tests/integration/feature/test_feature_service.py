"""Ingest, GetFeatures and WatchEntities of a real service over a real channel."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from podium.common.v1.common_pb2 import Actor, Assignment, AttributeValue, TrafficClass
from podium.event.v1.event_pb2 import Alias as EventAlias
from podium.event.v1.event_pb2 import Event, LoggedEvent, SlateServed
from podium.feature.v1 import feature_pb2
from services.common.domain import Domain, load_domain
from services.common.event_log import read_log
from services.common.status import error_from_rpc
from services.feature.convert.ingest import EventConverter
from tests.support.eventually import eventually
from tests.support.feature_server import (
    FeatureClient,
    RunningService,
    running_service,
)
from tests.support.feature_streams import (
    interaction,
    purchase_event,
    refund_event,
    room_event,
    upsert_event,
    withdrawal_event,
)
from tests.support.watching import WatchingReplica

DOMAIN_FILE = Path(__file__).parents[3] / "config" / "live_courses.yaml"


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningService]:
    with running_service(DOMAIN_FILE, tmp_path_factory.mktemp("feature")) as service:
        yield service


@pytest.fixture(scope="module")
def client(running: RunningService) -> FeatureClient:
    return running.client


def now_ms() -> int:
    return time.time_ns() // 1_000_000


def test_accepted_events_show_in_features(client: FeatureClient) -> None:
    bought = purchase_event("f-buy", now_ms(), 900, "f-ann", "course:f-c1", "host:f-h1")
    response = client.ingest(
        interaction("f-click", "click", now_ms() - 1_000, "f-ann", "course:f-c1", "host:f-h1"),
        bought,
    )
    assert (response.accepted, response.duplicates, list(response.rejections)) == (2, 0, [])

    ann, nobody = client.get("user", "f-ann", "f-nobody", position=response.log_position)
    (host,) = client.get("host", "f-h1")

    assert ann["recent_courses"] == (["f-c1", "f-c1"], "PRESENT")
    assert ann["recent_actions"] == (["click", "purchase"], "PRESENT")
    assert ann["user_spend_30d"] == (900, "PRESENT")
    assert ann["user_purchases_30d"] == (1, "PRESENT")
    assert ann["user_purchase_recency"][1] == "PRESENT"
    assert nobody["user_spend_30d"] == (0, "NOT_FOUND")
    assert nobody["user_purchase_recency"] == (31_536_000.0, "NOT_FOUND")
    assert host["purchases_30d"] == (1, "PRESENT")
    assert host["title"] == ("", "NULL")

    response = client.ingest(refund_event("f-refund", now_ms(), 900, bought))
    (ann,) = client.get("user", "f-ann", position=response.log_position)
    assert (ann["user_spend_30d"][0], ann["user_purchases_30d"][0]) == (0, 0)


def test_anonymous_visitors_are_known_by_device(client: FeatureClient) -> None:
    event = interaction("d-1", "click", now_ms(), "", "course:d-c1")
    event.actor.device_id = "d-phone"
    response = client.ingest(event)

    (row,) = client.get("user", "device:d-phone", position=response.log_position)

    assert row["user_clicks_7d"] == (1, "PRESENT")


def _alias(
    client: FeatureClient, event_id: str, user: str, device: str
) -> feature_pb2.AliasResponse:
    request = feature_pb2.AliasRequest(
        event_id=event_id, actor=Actor(user_id=user, device_id=device)
    )
    return client.stub.Alias(request, timeout=30)


def test_a_visitor_who_signs_in_keeps_the_history_of_the_device(client: FeatureClient) -> None:
    def click(event_id: str, user: str, course: str) -> Event:
        event = interaction(event_id, "click", now_ms(), user, f"course:{course}")
        event.actor.device_id = "a-phone"
        return event

    client.ingest(click("a-1", "", "a-c1"), click("a-2", "a-ann", "a-c2"))
    first = _alias(client, "a-login", "a-ann", "a-phone")
    (ann, phone) = client.get("user", "a-ann", "device:a-phone", position=first.log_position)
    client.ingest(click("a-3", "", "a-c3"))
    again = _alias(client, "a-login", "a-ann", "a-phone")
    (ann_later, phone_later) = client.get(
        "user", "a-ann", "device:a-phone", position=again.log_position
    )

    assert (first.duplicate, again.duplicate) == (False, True)
    assert ann["recent_courses"] == (["a-c1", "a-c2"], "PRESENT")
    assert ann["user_clicks_7d"] == (2, "PRESENT")
    assert phone["user_clicks_7d"] == (0, "NOT_FOUND")
    # A repeated call merges nothing: what the device did since is its own.
    assert ann_later["user_clicks_7d"] == (2, "PRESENT")
    assert phone_later["user_clicks_7d"] == (1, "PRESENT")

    with pytest.raises(grpc.RpcError) as conflict:
        _alias(client, "a-login", "a-bob", "a-phone")
    assert conflict.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert error_from_rpc(conflict.value).reason == "EVENT_ID_CONFLICT"


@pytest.mark.parametrize(
    ("event_id", "user", "device", "field"),
    [
        ("", "u", "d", "event_id"),
        ("e" * 129, "u", "d", "event_id"),
        ("e", "", "d", "actor.user_id"),
        ("e", "u", "", "actor.device_id"),
        ("e", "device:u", "d", "actor.user_id"),
        ("e", "", "", "actor"),
    ],
)
def test_an_alias_names_both(
    client: FeatureClient, event_id: str, user: str, device: str, field: str
) -> None:
    with pytest.raises(grpc.RpcError) as refused:
        _alias(client, event_id, user, device)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error_from_rpc(refused.value).message.startswith(f"{field}: ")


def test_a_user_is_forgotten(client: FeatureClient) -> None:
    clicks = [
        interaction(f"x-{user}", "click", now_ms(), user, "course:x-c")
        for user in ("x-ann", "x-bob")
    ]
    client.ingest(*clicks)
    request = feature_pb2.EraseUserRequest(event_id="x-1", actor=Actor(user_id="x-ann"))
    first = client.stub.EraseUser(request, timeout=30)
    gone, bob = client.get("user", "x-ann", "x-bob", position=first.log_position)
    (course,) = client.get("course", "x-c")
    later = client.ingest(interaction("x-2", "click", now_ms(), "x-ann", "course:x-c"))
    again = client.stub.EraseUser(request, timeout=30)
    (back,) = client.get("user", "x-ann", position=max(later.log_position, again.log_position))

    assert (first.duplicate, again.duplicate) == (False, True)
    assert gone["user_clicks_7d"] == (0, "NOT_FOUND")
    assert bob["user_clicks_7d"] == (1, "PRESENT")
    assert course["clicks_1h"] == (2, "PRESENT")
    # What comes later begins a new history, which a repeated call does not touch.
    assert back["user_clicks_7d"] == (1, "PRESENT")

    for event_id, actor in (("", Actor(user_id="u")), ("e", Actor())):
        request = feature_pb2.EraseUserRequest(event_id=event_id, actor=actor)
        with pytest.raises(grpc.RpcError) as refused:
            client.stub.EraseUser(request, timeout=30)
        assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_an_alias_does_not_come_by_ingest(client: FeatureClient) -> None:
    event = Event(event_id="by-ingest", type="alias", alias=EventAlias())
    event.event_time.FromMilliseconds(now_ms())
    event.actor.CopyFrom(Actor(user_id="u", device_id="d"))
    (refused,) = client.ingest(event).rejections
    assert (refused.reason, refused.message.split(":")[0]) == (
        "INVALID_ARGUMENT",
        "events[0].payload",
    )


def test_an_event_is_stored_once(client: FeatureClient) -> None:
    event = interaction("once", "click", now_ms(), "once-ann", "course:once-c")
    other = interaction("once", "click", now_ms(), "once-bob", "course:once-c")
    copy = Event.FromString(event.SerializeToString())

    first = client.ingest(event, copy)
    # Once known from memory, once from the store.
    second = client.ingest(event, other)
    (row,) = client.get("course", "once-c", position=first.log_position)
    third = client.ingest(event, other)

    assert (first.accepted, first.duplicates) == (1, 1)
    for response in (second, third):
        assert (response.accepted, response.duplicates) == (0, 1)
        (conflict,) = response.rejections
        assert (conflict.index, conflict.event_id, conflict.reason) == (
            1,
            "once",
            "EVENT_ID_CONFLICT",
        )
    assert row["clicks_1h"] == (1, "PRESENT")


def _long_id(event: Event) -> None:
    event.event_id = "x" * 129


def _no_time(event: Event) -> None:
    event.ClearField("event_time")


def _in_future(event: Event) -> None:
    event.event_time.FromMilliseconds(now_ms() + 400_000)


def _no_actor(event: Event) -> None:
    event.ClearField("actor")


def _user_called_device(event: Event) -> None:
    event.actor.user_id = "device:phone"


def _undeclared_traffic(event: Event) -> None:
    event.MergeFromString(bytes([9 << 3, 99]))


def _two_courses(event: Event) -> None:
    event.entities.add(type="course", id="another")


def _user_entity(event: Event) -> None:
    event.entities.add(type="user", id="raw")


def _unknown_entity(event: Event) -> None:
    event.entities.add(type="planet", id="x")


def _nan_attribute(event: Event) -> None:
    event.attributes["score"].double_value = float("nan")


def _wrong_attribute(event: Event) -> None:
    event.type = "watch"
    event.attributes["duration_ms"].string_value = "long"


def _missing_payload(event: Event) -> None:
    event.type = "purchase"


def _negative_money(event: Event) -> None:
    event.CopyFrom(purchase_event("m", now_ms(), -1, "ann", "course:c"))


def _endless_money(event: Event) -> None:
    event.CopyFrom(purchase_event("m", now_ms(), 2**63 - 1, "ann", "course:c"))


def _endless_gift(event: Event) -> None:
    event.type = "gift"
    event.attributes["amount_minor"].int_value = 10**12 + 1


def _endless_watch(event: Event) -> None:
    event.type = "watch"
    event.attributes["duration_ms"].int_value = 2**63 - 1


def _negative_watch(event: Event) -> None:
    event.type = "watch"
    event.attributes["duration_ms"].int_value = -1


def _endless_upsert(event: Event) -> None:
    event.CopyFrom(upsert_event("i", now_ms(), "course:c", level=-(10**15) - 1))


def _other_currency(event: Event) -> None:
    event.type = "purchase"
    event.purchase.order_id = "o"
    event.purchase.amount.amount_minor = 1
    event.purchase.amount.currency_code = "EUR"


def _price_in_other_currency(event: Event) -> None:
    event.type = "entity_upsert"
    event.ClearField("actor")
    event.entity_upsert.price.amount_minor = 1
    event.entity_upsert.price.currency_code = "EUR"


def _infinite_upsert(event: Event) -> None:
    event.CopyFrom(upsert_event("i", now_ms(), "course:c", level=float("inf")))


def _undeclared_upsert(event: Event) -> None:
    event.CopyFrom(upsert_event("i", now_ms(), "course:c", colour="red"))


def _state_of_other_type(event: Event) -> None:
    event.CopyFrom(room_event("s", "room_ended", now_ms(), "r"))
    event.type = "room_started"


def _started_course(event: Event) -> None:
    event.CopyFrom(room_event("s", "room_started", now_ms(), "r", course="c"))
    event.entities[0].type = "course"


def _watched_course(event: Event) -> None:
    event.CopyFrom(room_event("s", "room_heartbeat", now_ms(), "r"))
    event.entities[0].type = "course"


def _selling_heartbeat(event: Event) -> None:
    event.CopyFrom(room_event("s", "room_heartbeat", now_ms(), "r", course="c"))


def _selling_end(event: Event) -> None:
    event.CopyFrom(room_event("s", "room_ended", now_ms(), "r", course="c"))


def _generous_refund(event: Event) -> None:
    bought = purchase_event("b", now_ms(), 5, "ann", "course:c")
    event.CopyFrom(refund_event("r", now_ms(), 10, bought))


@pytest.mark.parametrize(
    ("spoil", "field", "reason"),
    [
        (_long_id, "event_id", "INVALID_ARGUMENT"),
        (_no_time, "event_time", "INVALID_ARGUMENT"),
        (_in_future, "event_time", "EVENT_TIME_IN_FUTURE"),
        (_no_actor, "actor", "INVALID_ARGUMENT"),
        (_user_called_device, "actor.user_id", "INVALID_ARGUMENT"),
        (_undeclared_traffic, "traffic_class", "INVALID_ARGUMENT"),
        (_two_courses, "entities[1].type", "INVALID_ARGUMENT"),
        (_user_entity, "entities[1].type", "INVALID_ARGUMENT"),
        (_unknown_entity, "entities[1].type", "INVALID_ARGUMENT"),
        (_nan_attribute, "attributes.score", "INVALID_ARGUMENT"),
        (_wrong_attribute, "attributes.duration_ms", "INVALID_ARGUMENT"),
        (_missing_payload, "payload", "INVALID_ARGUMENT"),
        (_negative_money, "purchase.amount.amount_minor", "INVALID_ARGUMENT"),
        (_endless_money, "purchase.amount.amount_minor", "INVALID_ARGUMENT"),
        (_endless_gift, "attributes.amount_minor", "INVALID_ARGUMENT"),
        (_endless_watch, "attributes.duration_ms", "INVALID_ARGUMENT"),
        (_negative_watch, "attributes.duration_ms", "INVALID_ARGUMENT"),
        (_endless_upsert, "entity_upsert.attributes.level", "INVALID_ARGUMENT"),
        (_other_currency, "purchase.amount.currency_code", "INVALID_ARGUMENT"),
        (_price_in_other_currency, "entity_upsert.price.currency_code", "INVALID_ARGUMENT"),
        (_infinite_upsert, "entity_upsert.attributes.level", "INVALID_ARGUMENT"),
        (_undeclared_upsert, "entity_upsert.attributes.colour", "INVALID_ARGUMENT"),
        (_generous_refund, "refund.amount.amount_minor", "INVALID_ARGUMENT"),
        (_state_of_other_type, "room_state.state", "INVALID_ARGUMENT"),
        (_started_course, "entities[0].type", "INVALID_ARGUMENT"),
        (_watched_course, "entities[0].type", "INVALID_ARGUMENT"),
        (_selling_heartbeat, "room_state.selling_course_id", "INVALID_ARGUMENT"),
        (_selling_end, "room_state.selling_course_id", "INVALID_ARGUMENT"),
    ],
)
def test_a_bad_event_is_rejected_alone(
    client: FeatureClient, spoil: Callable[[Event], None], field: str, reason: str
) -> None:
    good = interaction(f"good-{spoil.__name__}", "click", now_ms(), "ann", "course:c")
    bad = interaction(f"bad-{spoil.__name__}", "click", now_ms(), "ann", "course:c")
    spoil(bad)

    response = client.ingest(bad, good)

    assert response.accepted == 1
    (rejection,) = response.rejections
    assert (rejection.index, rejection.code, rejection.reason) == (0, 3, reason)
    assert rejection.message.startswith(f"events[0].{field}: ")


def test_what_is_credited_by_entity_must_name_one(client: FeatureClient) -> None:
    bare = [
        purchase_event("bare-purchase", now_ms(), 5, "ann"),
        *(interaction(f"bare-{t}", t, now_ms(), "ann") for t in ("impression", "click", "watch")),
        interaction("bare-search", "search", now_ms(), "ann"),
    ]

    response = client.ingest(*bare)

    assert response.accepted == 1
    assert [rejection.message.partition(": ")[0] for rejection in response.rejections] == [
        f"events[{index}].entities" for index in range(4)
    ]


def _number(value: int) -> AttributeValue:
    return AttributeValue(int_value=value)


def _text(value: str) -> AttributeValue:
    return AttributeValue(string_value=value)


@pytest.mark.parametrize(
    ("ref", "name", "allowed", "refused"),
    [
        ("course:c", "seats_left", _number(0), _number(-5)),
        ("course:c", "seats_left", _number(2**31 - 1), _number(2**31)),
        ("course:c", "price_minor", _number(10**12), _number(10**12 + 1)),
        ("course:c", "price_minor", _number(0), _number(-1)),
        ("course:c", "enrolment_opens_ms", _number(0), _number(-1)),
        ("course:c", "enrolment_closes_ms", _number(10**14), _number(10**15)),
        ("course:c", "language", _text("x" * 35), _text("x" * 36)),
        ("video:v", "duration_ms", _number(0), _number(-1)),
        ("video:v", "course_id", _text("x" * 128), _text("x" * 129)),
        ("room:r", "viewers", _number(0), _number(-1)),
        ("room:r", "selling_course_id", _text("x" * 128), _text("x" * 129)),
    ],
)
def test_attributes_are_held_to_the_limits_of_the_field_they_stand_for(
    client: FeatureClient, ref: str, name: str, allowed: AttributeValue, refused: AttributeValue
) -> None:
    start_ms = now_ms()
    good = upsert_event(f"as-{ref}-{name}-{start_ms}", start_ms, ref)
    good.entity_upsert.attributes[name].CopyFrom(allowed)
    bad = upsert_event(f"not-{ref}-{name}-{start_ms}", start_ms, ref)
    bad.entity_upsert.attributes[name].CopyFrom(refused)

    response = client.ingest(good, bad)

    (rejection,) = response.rejections
    assert (rejection.index, rejection.code) == (1, 3)
    assert rejection.message.startswith(f"events[1].entity_upsert.attributes.{name}: ")


def test_an_attribute_that_a_price_sets_is_in_the_currency_of_the_domain() -> None:
    raw = load_domain(DOMAIN_FILE).model_dump(exclude_none=True)
    raw["entities"]["course"]["attributes"] |= {"currency": "string", "region": "string"}
    converter = EventConverter(Domain.model_validate(raw), str)
    events = [
        upsert_event("usd", now_ms(), "course:c", currency="USD", region="x" * 16),
        upsert_event("eur", now_ms(), "course:c", currency="EUR"),
        upsert_event("far", now_ms(), "course:c", region="x" * 17),
    ]

    call = converter.ingest_call(feature_pb2.IngestRequest(events=events), now_ms())

    assert [refused.error.message.partition(": ")[0] for refused in call.refused] == [
        "events[1].entity_upsert.attributes.currency",
        "events[2].entity_upsert.attributes.region",
    ]


def _slate(**parts: Any) -> Event:
    event = interaction("slate", "slate_served", now_ms(), "ann")
    event.slate_served.CopyFrom(SlateServed(surface="courses", **parts))
    return event


@pytest.mark.parametrize(
    ("parts", "field"),
    [
        ({"entity_type": "x" * 65}, "entity_type"),
        ({"bundle_version": "x" * 129}, "bundle_version"),
        ({"policy": "x" * 129}, "policy"),
        ({"feature_view_hash": "x" * 129}, "feature_view_hash"),
        ({"item_ids": ["c"] * 201}, "item_ids"),
        ({"item_ids": ["c", "x" * 129]}, "item_ids[1]"),
        ({"item_ids": [""]}, "item_ids[0]"),
        ({"item_ids": ["c"], "selling_course_ids": ["x" * 129]}, "selling_course_ids[0]"),
        ({"item_ids": ["c"], "sources": ["x" * 65]}, "sources[0]"),
        ({"objectives": ["o"] * 65}, "objectives"),
        ({"objectives": ["x" * 65]}, "objectives[0]"),
        ({"degraded": ["d"] * 33}, "degraded"),
        ({"degraded": ["x" * 65]}, "degraded[0]"),
        ({"assignments": [Assignment(experiment_key="e")] * 1_001}, "assignments"),
        ({"assignments": [Assignment(experiment_key="e", bucket=1)]}, "assignments[0].bucket"),
    ],
)
def test_a_slate_over_the_limits_is_rejected(
    client: FeatureClient, parts: dict[str, Any], field: str
) -> None:
    (rejection,) = client.ingest(_slate(**parts)).rejections
    assert rejection.code == 3
    assert rejection.message.startswith(f"events[0].slate_served.{field}: ")


def test_the_largest_slate_is_accepted(client: FeatureClient) -> None:
    assignment = Assignment(experiment_key="e" * 128, variant_key="v" * 128, bucket=0.5)
    largest = _slate(
        entity_type="course",
        item_ids=["c" * 128] * 200,
        selling_course_ids=[""] * 200,
        sources=["s" * 64] * 200,
        objectives=["o" * 64] * 64,
        bundle_version="b" * 128,
        policy="p" * 128,
        degraded=["d" * 64] * 32,
        assignments=[assignment] * 1_000,
    )
    assert client.ingest(largest).accepted == 1


def test_an_exposure_over_the_limits_is_rejected(client: FeatureClient) -> None:
    for assignment, field in (
        (Assignment(), "experiment_key"),
        (Assignment(experiment_key="e", variant_key="x" * 5_000), "variant_key"),
        (Assignment(experiment_key="e", variant_key="v", bucket=math.nan), "bucket"),
    ):
        event = interaction("exposure", "exposure", now_ms(), "ann")
        event.exposure.assignment.CopyFrom(assignment)
        (rejection,) = client.ingest(event).rejections
        assert rejection.message.startswith(f"events[0].exposure.assignment.{field}: ")


def test_unknown_types_and_other_traffic_are_kept_and_change_nothing(
    running: RunningService,
) -> None:
    unknown = interaction("u-unknown", "levitate", now_ms(), "u-ann", "course:u-c")
    load = interaction("u-load", "click", now_ms(), "u-ann", "course:u-c")
    load.traffic_class = TrafficClass.TRAFFIC_CLASS_LOAD
    response = running.client.ingest(unknown, load)
    assert response.accepted == 2

    (row,) = running.client.get("course", "u-c", position=response.log_position)

    assert {status for _, status in row.values()} == {"NOT_FOUND"}
    stored = [LoggedEvent.FromString(data) for _, data in read_log(running.files.log_dir)]
    assert {"u-unknown", "u-load"} <= {record.event.event_id for record in stored}


def slate_event(event_id: str, time_ms: int) -> Event:
    event = interaction(event_id, "slate_served", time_ms, "late-ann")
    event.slate_served.surface = "courses"
    return event


def test_events_that_come_too_late_are_kept_marked_and_not_applied(
    running: RunningService,
) -> None:
    client, day_ms = running.client, 86_400_000
    bought = purchase_event("late-buy", now_ms() - day_ms + 60_000, 9, "late-ann", "course:late-e")
    response = client.ingest(
        interaction("late", "click", now_ms() - day_ms - 1_000, "late-ann", "course:late-c"),
        interaction("in-time", "click", now_ms() - day_ms + 60_000, "late-ann", "course:late-e"),
        upsert_event("late-upsert", now_ms() - 90 * day_ms, "course:late-d", title="Old"),
        bought,
        refund_event("refund-in-time", now_ms() - 59 * day_ms, 4, bought),
        refund_event("late-refund", now_ms() - 61 * day_ms, 5, bought),
        # A spool may have waited out a long outage.
        slate_event("slate-in-time", now_ms() - 59 * day_ms),
        slate_event("late-slate", now_ms() - 61 * day_ms),
    )
    assert (response.accepted, response.too_late) == (8, 3)

    late, old, known = client.get(
        "course", "late-c", "late-d", "late-e", position=response.log_position
    )
    (ann,) = client.get("user", "late-ann")
    stored = [LoggedEvent.FromString(data) for _, data in read_log(running.files.log_dir)]

    assert late["clicks_7d"][1] == "NOT_FOUND"
    assert old["title"] == ("Old", "PRESENT")
    assert known["clicks_7d"] == (1, "PRESENT")
    assert ann["user_spend_30d"] == (5, "PRESENT")
    assert {record.event.event_id for record in stored if record.too_late} == {
        "late",
        "late-refund",
        "late-slate",
    }
    assert running.metric("podium_feature_events_total", outcome="too_late") == 3


def test_duplicates_are_kept_marked_and_not_applied(running: RunningService) -> None:
    client = running.client
    event = interaction("twice", "click", now_ms(), "twice-ann", "course:twice-c")
    before = running.metric("podium_feature_events_total", outcome="duplicate")
    first = client.ingest(event)
    second = client.ingest(event, event)

    (row,) = client.get("course", "twice-c", position=second.log_position)
    marks = [
        record.duplicate
        for record in (LoggedEvent.FromString(d) for _, d in read_log(running.files.log_dir))
        if record.event.event_id == "twice"
    ]

    assert (second.accepted, second.duplicates) == (0, 2)
    assert second.log_position == first.log_position + 2
    assert row["clicks_7d"] == (1, "PRESENT")
    assert marks == [False, True, True]
    assert running.metric("podium_feature_events_total", outcome="duplicate") == before + 2


@pytest.mark.parametrize(
    ("request_message", "field"),
    [
        (feature_pb2.IngestRequest(), "events"),
        (feature_pb2.IngestRequest(events=[Event()] * 1_001), "events"),
        (feature_pb2.IngestRequest(events=[Event()], producer="p" * 129), "producer"),
        (feature_pb2.IngestRequest(events=[Event()], first_sequence=0), "first_sequence"),
        (
            feature_pb2.IngestRequest(events=[Event()] * 2, producer="p", first_sequence=2**63 - 1),
            "first_sequence: is 9223372036854775807, must be 0 to",
        ),
    ],
)
def test_a_bad_request_is_refused(
    client: FeatureClient, request_message: feature_pb2.IngestRequest, field: str
) -> None:
    with pytest.raises(grpc.RpcError, match=field) as caught:
        client.stub.Ingest(request_message, timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_view_name_without_end_is_refused_not_repeated(client: FeatureClient) -> None:
    # A message of that size would not fit the trailers, and reach the caller as another error.
    endless = "x" * 100_000
    for field in ("entity_type", "view_name", "view_hash"):
        request = client.request("user", "ann")
        setattr(request, field, endless)
        with pytest.raises(grpc.RpcError, match=f"{field}: has 100000 bytes") as caught:
            client.stub.GetFeatures(request, timeout=10)
        assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    watch = feature_pb2.WatchEntitiesRequest(views=[feature_pb2.EntityView(entity_type=endless)])
    with pytest.raises(grpc.RpcError, match=r"views\[0\]\.entity_type") as caught:
        next(iter(client.stub.WatchEntities(watch, timeout=10)))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_undecodable_bytes_are_an_invalid_argument(running: RunningService) -> None:
    with grpc.insecure_channel(f"127.0.0.1:{running.port}") as channel:
        call = channel.unary_unary("/podium.feature.v1.FeatureService/Ingest")
        with pytest.raises(grpc.RpcError) as caught:
            call(b"\xff\xff\xff", timeout=10)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_views_are_known_by_hash(client: FeatureClient) -> None:
    wrong_hash = client.request("user", "ann")
    wrong_hash.view_hash = "0" * 64
    wrong_type = client.request("user", "ann")
    wrong_type.entity_type = "planet"
    too_many = client.request("course", *["c"] * 1_001)

    reasons = []
    for request in (wrong_hash, wrong_type, too_many):
        with pytest.raises(grpc.RpcError) as caught:
            client.stub.GetFeatures(request, timeout=10)
        reasons.append((caught.value.code().name, error_from_rpc(caught.value).reason))

    assert reasons == [
        ("FAILED_PRECONDITION", "UNKNOWN_FEATURE_VIEW"),
        ("NOT_FOUND", "UNKNOWN_ENTITY_TYPE"),
        ("INVALID_ARGUMENT", "INVALID_ARGUMENT"),
    ]


def test_watchers_see_rooms_come_change_and_go(client: FeatureClient) -> None:
    start_ms = now_ms() - 60_000
    client.ingest(
        upsert_event("w-room", start_ms, "room:w-r", title="Evening algebra"),
        room_event("w-start", "room_started", start_ms + 1, "w-r", course="w-c", viewers=3),
    )
    replica = WatchingReplica()
    steps = client.watch("course", "room")
    replica.until(steps, lambda: replica.rows.get("room:w-r", {}).get("viewers") == 3)
    assert replica.steps[0] == "reset"
    assert replica.rows["room:w-r"]["live"] == 1

    client.ingest(room_event("w-sell", "room_now_selling", start_ms + 2, "w-r", course="w-d"))
    replica.until(steps, lambda: replica.rows["room:w-r"]["selling_course_id"] == "w-d")
    client.ingest(room_event("w-end", "room_ended", start_ms + 3, "w-r"))
    replica.until(steps, lambda: replica.rows["room:w-r"]["live"] == 0)

    client.ingest(withdrawal_event("w-gone", start_ms + 4, "room:w-r"))
    replica.until(steps, lambda: "room:w-r" not in replica.rows)
    client.ingest(upsert_event("w-back", start_ms + 5, "room:w-r", title="Again"))
    replica.until(steps, lambda: replica.rows.get("room:w-r", {}).get("title") == "Again")


def test_watchers_see_moving_features(client: FeatureClient) -> None:
    client.ingest(upsert_event("m-c", now_ms(), "course:m-c", title="Moving"))
    replica = WatchingReplica()
    steps = client.watch("course")
    replica.until(steps, lambda: "course:m-c" in replica.rows)

    client.ingest(interaction("m-click", "click", now_ms(), "m-ann", "course:m-c"))

    replica.until(steps, lambda: replica.rows["course:m-c"]["clicks_1h"] == 1)
    assert "reset" not in replica.steps[1:]


def test_an_event_ahead_of_the_clock_shows_when_its_time_comes(client: FeatureClient) -> None:
    client.ingest(
        upsert_event("a-c", now_ms(), "course:a-c", title="Now"),
        upsert_event("a-d", now_ms() + 1_500, "course:a-c", title="Soon"),
    )
    replica = WatchingReplica()
    steps = client.watch("course")
    replica.until(steps, lambda: replica.rows.get("course:a-c", {}).get("title") == "Now")
    replica.until(steps, lambda: replica.rows["course:a-c"]["title"] == "Soon")


def test_a_watcher_resumes_where_it_stopped(client: FeatureClient) -> None:
    client.ingest(upsert_event("r-1", now_ms(), "course:r-c", title="One"))
    replica = WatchingReplica()
    steps = client.watch("course")
    replica.until(steps, lambda: "course:r-c" in replica.rows and bool(replica.token))
    steps.cancel()  # type: ignore[attr-defined]

    response = client.ingest(
        upsert_event("r-2", now_ms(), "course:r-c", title="Two"),
        upsert_event("r-3", now_ms(), "course:r-d", title="New"),
    )
    client.get("course", "r-c", position=response.log_position)
    replica.steps.clear()
    steps = client.watch("course", token=replica.token)
    replica.until(
        steps,
        lambda: replica.rows["course:r-c"]["title"] == "Two" and "course:r-d" in replica.rows,
    )

    assert set(replica.steps) <= {"delta", "heartbeat"}


@pytest.mark.parametrize("entities", [("course",), ("host", "course")])
def test_an_unknown_token_gives_a_snapshot(
    client: FeatureClient, entities: tuple[str, ...]
) -> None:
    steps = client.watch("room")
    other = WatchingReplica()
    other.until(steps, lambda: bool(other.token))

    for token in (b"nonsense", b"\0" * len(other.token), other.token):
        replica = WatchingReplica()
        steps = client.watch(*entities, token=token)
        replica.until(steps, lambda seen=replica: "snapshot_end" in seen.steps)
        assert replica.steps[0] == "reset"


def test_silence_is_filled_with_heartbeats_that_carry_time(client: FeatureClient) -> None:
    steps = client.watch("video")
    replica = WatchingReplica()
    replica.until(steps, lambda: "snapshot_end" in replica.steps)
    beats = [next(steps) for _ in range(2)]

    assert [beat.WhichOneof("step") for beat in beats] == ["heartbeat", "heartbeat"]
    assert beats[1].as_of.ToMilliseconds() > beats[0].as_of.ToMilliseconds()
    assert all(beat.resume_token for beat in beats)


def test_users_cannot_be_watched(client: FeatureClient) -> None:
    with pytest.raises(grpc.RpcError, match="no catalogue entity type") as caught:
        next(client.watch("user"))
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_no_file_holds_a_raw_id(running: RunningService) -> None:
    raw_user, raw_device = "raw-user-4711", "raw-device-4711"
    events = [interaction("p-1", "click", now_ms(), raw_user, "course:p-c")]
    events.append(interaction("p-2", "click", now_ms(), "", "course:p-c"))
    events[1].actor.device_id = raw_device
    response = running.client.ingest(*events)
    rows = running.client.get(
        "user", raw_user, f"device:{raw_device}", position=response.log_position
    )
    assert [row["user_clicks_7d"][0] for row in rows] == [1, 1]

    written = [
        path.read_bytes()
        for directory in (running.files.log_dir, running.files.store_dir)
        for path in directory.rglob("*")
        if path.is_file()
    ]

    assert any(b"p-c" in data for data in written)
    for raw in (raw_user, raw_device):
        assert not any(raw.encode() in data for data in written)


def test_a_killed_applying_process_is_replaced_and_counts_nothing_twice(
    running: RunningService,
) -> None:
    client = running.client
    accepted = 0
    for batch in range(6):
        accepted += client.ingest(
            *(
                interaction(f"k-{batch}-{n}", "click", now_ms(), f"k-{n % 7}", "course:k-c")
                for n in range(200)
            )
        ).accepted
        if batch in (1, 3):
            pid = running.service.apply.pid
            assert pid is not None
            running.service.apply.kill()
            eventually(lambda old=pid: running.service.apply.pid != old, "another process")
    response = client.ingest(interaction("k-last", "click", now_ms(), "k-0", "course:k-d"))

    course, *_ = client.get("course", "k-c", position=response.log_position)
    users = client.get("user", *(f"k-{n}" for n in range(7)))

    assert accepted == 1_200
    assert course["clicks_1h"] == (1_200, "PRESENT")
    assert sum(int(row["user_clicks_7d"][0]) for row in users) == 1_201  # type: ignore[arg-type]
