"""Random feature domains and event streams, for tests against the oracle."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from podium.common.v1.common_pb2 import Actor, AttributeValue, EntityRef, Money, TrafficClass
from podium.event.v1.event_pb2 import (
    EntityUpsert,
    EntityWithdrawal,
    Event,
    LoggedEvent,
    Purchase,
    Refund,
    RoomState,
)
from services.common.domain import Domain

START_MS = 1_700_000_000_000
ITEMS = ("course", "room")
INTERACTIONS = ("click", "watch", "purchase", "refund")
WINDOWS = ("1m", "5m", "1h", "1d")
ROOM_STATES = {
    "room_started": RoomState.STATE_STARTED,
    "room_heartbeat": RoomState.STATE_HEARTBEAT,
    "room_now_selling": RoomState.STATE_NOW_SELLING,
    "room_ended": RoomState.STATE_ENDED,
}


def domain_with(features: dict[str, Any]) -> Domain:
    """A small domain of users, courses and rooms with these features."""
    return Domain.model_validate(
        {
            "name": "small",
            "entities": {
                "user": {},
                "course": {
                    "attributes": {"title": "string", "price_minor": "int", "score": "float"},
                    "tower": {"fields": {"course": "id"}},
                },
                "room": {
                    "attributes": {
                        "live": "bool",
                        "viewers": "int",
                        "heard_at_ms": "int",
                        "selling_course_id": "string",
                    },
                    "tower": {"fields": {"course": "selling_course_id"}},
                },
            },
            "events": {
                "click": {},
                "watch": {"attributes": {"duration_ms": "int"}},
                "purchase": {},
                "refund": {},
                "entity_upsert": {},
                "entity_withdrawal": {},
                **{kind: {} for kind in ROOM_STATES},
            },
            "features": {
                "title": {"kind": "attribute", "entities": ["course"]},
                "price_minor": {"kind": "attribute", "entities": ["course"]},
                "score": {"kind": "attribute", "entities": ["course"]},
                "live": {"kind": "attribute", "entities": ["room"]},
                "viewers": {"kind": "attribute", "entities": ["room"]},
                "heard_at_ms": {"kind": "attribute", "entities": ["room"]},
                "selling": {
                    "kind": "attribute",
                    "entities": ["room"],
                    "attribute": "selling_course_id",
                },
                "recent": {
                    "kind": "last_n",
                    "entities": ["user"],
                    "events": ["click", "watch"],
                    "of": "course",
                    "limit": 5,
                },
                "actions": {
                    "kind": "last_n",
                    "entities": ["user"],
                    "events": ["click", "watch"],
                    "of": "course",
                    "limit": 3,
                    "emit": "event_type",
                },
                **features,
            },
            "objectives": {
                "click": {"events": ["click"], "weight": 1, "attribution": {"window": "1h"}}
            },
            "surfaces": {
                "courses": {"entity": "course", "sources": [{"kind": "personal", "quota": 10}]}
            },
            "model": {
                "sequence": {
                    "items": "recent",
                    "actions": "actions",
                    "entity": "course",
                    "length": 5,
                }
            },
            "split": {"kind": "leave_last"},
        }
    )


@st.composite
def domains(draw: st.DrawFn) -> Domain:
    """Domains with up to six random features beside the fixed ones."""
    entities = st.lists(st.sampled_from(("user", *ITEMS)), min_size=1, max_size=3, unique=True)
    events = st.lists(st.sampled_from(INTERACTIONS), min_size=1, max_size=3, unique=True)
    window = st.sampled_from(WINDOWS)
    count = st.fixed_dictionaries(
        {"kind": st.just("count"), "entities": entities, "events": events, "window": window}
    )
    amount = st.fixed_dictionaries(
        {
            "kind": st.just("sum"),
            "entities": entities,
            "events": st.sampled_from((["purchase"], ["refund"], ["purchase", "refund"])),
            "window": window,
            "value": st.just("amount_minor"),
        }
    )
    duration = st.fixed_dictionaries(
        {
            "kind": st.just("sum"),
            "entities": entities,
            "events": st.just(["watch"]),
            "window": window,
            "value": st.just("duration_ms"),
        }
    )
    ratio = st.fixed_dictionaries(
        {
            "kind": st.just("ratio"),
            "entities": entities,
            "numerator": events,
            "denominator": events,
            "window": window,
            "prior": st.just({"numerator": 1, "denominator": 20}),
        }
    )
    recency = st.fixed_dictionaries(
        {"kind": st.just("recency"), "entities": entities, "events": events}
    )
    last = st.fixed_dictionaries(
        {
            "kind": st.just("last_n"),
            "entities": entities,
            "events": events,
            "of": st.sampled_from(ITEMS),
            "limit": st.integers(1, 4),
            "emit": st.sampled_from(("id", "event_type")),
        }
    )
    found = draw(
        st.lists(st.one_of(count, amount, duration, ratio, recency, last), min_size=1, max_size=6)
    )
    return domain_with({f"f{index}": feature for index, feature in enumerate(found)})


def stamp(message: Any, field: str, time_ms: int) -> None:
    """Sets a timestamp field to epoch milliseconds."""
    getattr(message, field).FromMilliseconds(time_ms)


def purchase_event(event_id: str, time_ms: int, amount_minor: int, user: str, *refs: str) -> Event:
    """A purchase by ``user``; ``refs`` are "type:id", the subject first."""
    event = _event(event_id, "purchase", time_ms, user, *refs)
    event.purchase.CopyFrom(Purchase(order_id=event_id, amount=_money(amount_minor)))
    return event


def sticky_event(
    event_id: str, time_ms: int, user: str, device: str = "", variant: str = "b"
) -> Event:
    """A user, or a device, keeps a variant of an experiment."""
    event = Event(event_id=event_id, type="sticky_assigned")
    event.event_time.FromMilliseconds(time_ms)
    event.actor.user_id, event.actor.device_id = user, device
    event.sticky_assigned.assignments["experiment__0"] = variant
    return event


def refund_event(event_id: str, time_ms: int, amount_minor: int, purchase: Event) -> Event:
    """A refund of ``amount_minor`` for a purchase."""
    event = Event()
    event.CopyFrom(purchase)
    event.event_id, event.type = event_id, "refund"
    stamp(event, "event_time", time_ms)
    event.refund.CopyFrom(
        Refund(
            refund_id=event_id,
            order_id=purchase.purchase.order_id,
            amount=_money(amount_minor),
            purchase_event_id=purchase.event_id,
            purchase_time=purchase.event_time,
            purchase_amount=purchase.purchase.amount,
        )
    )
    return event


def interaction(event_id: str, kind: str, time_ms: int, user: str, *refs: str) -> Event:
    """A click, watch (of a second) or any other plain event."""
    event = _event(event_id, kind, time_ms, user, *refs)
    if kind == "watch":
        event.attributes["duration_ms"].int_value = 1_000
    return event


def upsert_event(event_id: str, time_ms: int, ref: str, **attributes: str | int | float) -> Event:
    """An upsert of a catalogue entity; ``price_minor`` goes in as its price."""
    event = _event(event_id, "entity_upsert", time_ms, "", ref)
    event.entity_upsert.CopyFrom(EntityUpsert())
    for name, value in attributes.items():
        if name == "price_minor" and isinstance(value, int):
            event.entity_upsert.price.CopyFrom(_money(value))
        elif isinstance(value, str):
            event.entity_upsert.attributes[name].CopyFrom(AttributeValue(string_value=value))
        elif isinstance(value, int):
            event.entity_upsert.attributes[name].CopyFrom(AttributeValue(int_value=value))
        else:
            event.entity_upsert.attributes[name].CopyFrom(AttributeValue(double_value=value))
    return event


def withdrawal_event(event_id: str, time_ms: int, ref: str) -> Event:
    """A withdrawal of a catalogue entity."""
    event = _event(event_id, "entity_withdrawal", time_ms, "", ref)
    event.entity_withdrawal.CopyFrom(EntityWithdrawal(reason="test"))
    return event


def room_event(
    event_id: str,
    kind: str,
    time_ms: int,
    room: str,
    *,
    course: str = "",
    viewers: int | None = None,
) -> Event:
    """A room event; ``room`` is an id."""
    event = _event(event_id, kind, time_ms, "", f"room:{room}")
    event.room_state.CopyFrom(
        RoomState(state=ROOM_STATES[kind], selling_course_id=course, viewers=viewers)
    )
    return event


def logged(arrival: int, event: Event, arrival_ms: int) -> LoggedEvent:
    """The event as the log stores it at a position."""
    found = LoggedEvent(event=event, arrival=arrival)
    stamp(found, "arrival_time", arrival_ms)
    return found


@st.composite
def streams(draw: st.DrawFn) -> list[LoggedEvent]:
    """8 to 40 records: out of order, ahead of the clock, duplicate, too late, of every traffic
    class, refunded in part, in whole, too often, and before their purchase."""
    clock_ms = START_MS
    records: list[LoggedEvent] = []
    purchases: list[Event] = []
    spans = st.sampled_from((0, 1, 700, 5_000, 61_000, 3_600_000, 40_000_000))
    for index in range(draw(st.integers(8, 40))):
        clock_ms += draw(spans)
        ahead = draw(st.sampled_from((0, 0, 0, 1, 2_000, 300_000)))
        time_ms = clock_ms + ahead if ahead else clock_ms - draw(spans)
        kind = draw(
            st.sampled_from(
                (
                    *INTERACTIONS,
                    "purchase",
                    "refund",
                    "upsert",
                    "upsert",
                    "withdrawal",
                    "room",
                    "room",
                )
            )
        )
        user = draw(st.sampled_from(("ann", "bob")))
        course = draw(st.sampled_from(("c1", "c1", "c2")))
        refs = [f"course:{course}"]
        if draw(st.booleans()):
            refs.insert(0, f"room:{draw(st.sampled_from(('r1', 'r2')))}")
        name = f"e{index}"
        if kind in ("purchase", "refund"):
            # A refund draws on a purchase that may be logged later, or never.
            if kind == "purchase" or not purchases:
                purchases.append(
                    purchase_event(name, time_ms, draw(st.sampled_from((0, 100, 250))), user, *refs)
                )
                event = purchases[-1]
                if draw(st.booleans()):
                    event = refund_event(f"{name}r", time_ms, draw(st.integers(0, 250)), event)
            else:
                bought = draw(st.sampled_from(purchases))
                event = draw(
                    st.sampled_from(
                        (bought, refund_event(name, time_ms, draw(st.integers(0, 250)), bought))
                    )
                )
        elif kind == "upsert":
            attributes: dict[str, str | int | float] = {}
            if draw(st.booleans()):
                attributes["title"] = draw(st.sampled_from(("é", "b")))
            if draw(st.booleans()):
                attributes["price_minor"] = draw(st.integers(0, 9))
            if draw(st.booleans()):
                attributes["score"] = draw(st.sampled_from((0.5, 2.0)))
            event = upsert_event(name, time_ms, f"course:{course}", **attributes)
        elif kind == "withdrawal":
            event = withdrawal_event(name, time_ms, f"course:{course}")
        elif kind == "room":
            state = draw(st.sampled_from(sorted(ROOM_STATES)))
            viewers = draw(st.sampled_from((None, 3, 7)))
            event = room_event(name, state, time_ms, "r1", course=course, viewers=viewers)
        else:
            event = interaction(name, kind, time_ms, user, *refs)
        record = logged(len(records), event, clock_ms)
        record.event.traffic_class = draw(
            st.sampled_from(
                (
                    TrafficClass.TRAFFIC_CLASS_UNSPECIFIED,
                    TrafficClass.TRAFFIC_CLASS_UNSPECIFIED,
                    TrafficClass.TRAFFIC_CLASS_UNSPECIFIED,
                    TrafficClass.TRAFFIC_CLASS_LIVE,
                    TrafficClass.TRAFFIC_CLASS_LIVE,
                    TrafficClass.TRAFFIC_CLASS_LIVE,
                    TrafficClass.TRAFFIC_CLASS_TEST,
                    TrafficClass.TRAFFIC_CLASS_SHADOW,
                )
            )
        )
        record.duplicate = draw(st.integers(0, 19)) == 0
        record.too_late = draw(st.integers(0, 19)) == 0
        if draw(st.integers(0, 19)) == 0:
            record.event.type = "unheard_of"
        records.append(record)
    return records


def _event(event_id: str, kind: str, time_ms: int, user: str, *refs: str) -> Event:
    event = Event(event_id=event_id, type=kind)
    if user:
        event.actor.CopyFrom(Actor(user_id=user))
    for ref in refs:
        entity, _, identity = ref.partition(":")
        event.entities.append(EntityRef(type=entity, id=identity))
    stamp(event, "event_time", time_ms)
    return event


def _money(amount_minor: int) -> Money:
    return Money(amount_minor=amount_minor, currency_code="USD")
