"""What Ingest refuses of an event, one by one: the events beside it are taken."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from podium.common.v1.common_pb2 import AttributeValue
from podium.event.v1.event_pb2 import Event
from podium.feature.v1 import feature_pb2
from services.common.clock import system_clock_ms as now_ms
from services.common.domain import Domain, load_domain
from services.feature.convert.ingest import EventConverter
from tests.integration.feature.conftest import DOMAIN_FILE
from tests.support.feature_server import FeatureClient
from tests.support.feature_streams import (
    interaction,
    purchase_event,
    refund_event,
    room_event,
    upsert_event,
)


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

    request = feature_pb2.IngestRequest(events=events)
    call = converter.open_call(request)
    list(converter.in_slices(call, request, now_ms()))

    assert [refused.error.message.partition(": ")[0] for refused in call.refused] == [
        "events[1].entity_upsert.attributes.currency",
        "events[2].entity_upsert.attributes.region",
    ]
