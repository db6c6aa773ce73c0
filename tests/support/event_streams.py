"""Random logs over a small domain, for checks against brute-force oracles."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

from podium.common.v1.common_pb2 import TrafficClass
from podium.event.v1.event_pb2 import Event, LoggedEvent, RoomState
from services.common.domain import Domain
from services.common.event_log import LogWriter

START_MS = 1_700_000_000_000
SPAN_MS = 1_200_000
WINDOWS = ("1m", "3m", "12m")
ACTIONS = ("impression", "click", "watch", "gift", "purchase")


def small_domain(random: Random) -> Domain:
    """A domain whose features, windows and limits are drawn at random."""

    def some_events() -> list[str]:
        return random.sample(ACTIONS, random.randint(1, 3))

    window = lambda: random.choice(WINDOWS)  # noqa: E731 - read as a word
    features: dict[str, Any] = {
        "title": {"kind": "attribute", "entities": ["course", "room"]},
        "price": {"kind": "attribute", "entities": ["course"], "attribute": "price_minor"},
        "live": {"kind": "attribute", "entities": ["room"]},
        "sells": {"kind": "attribute", "entities": ["room"], "attribute": "selling_course_id"},
        "viewers": {"kind": "attribute", "entities": ["room"]},
        "rating": {"kind": "attribute", "entities": ["course"]},
        "recent_courses": _list(some := some_events(), random.randint(1, 5), "id"),
        "recent_actions": _list(some, 5, "event_type"),
    }
    for index in range(3):
        entities = random.sample(["user", "course", "room"], random.randint(1, 3))
        common = {"entities": entities, "window": window()}
        features[f"count_{index}"] = {"kind": "count", "events": some_events(), **common}
        features[f"sum_{index}"] = {
            "kind": "sum",
            "events": random.choice([["purchase"], ["gift"], ["purchase", "gift"]]),
            "value": "amount_minor",
            **common,
        }
        features[f"ratio_{index}"] = {
            "kind": "ratio",
            "numerator": some_events(),
            "denominator": some_events(),
            "prior": {"numerator": 1, "denominator": 10},
            **common,
        }
        features[f"recency_{index}"] = {
            "kind": "recency",
            "entities": entities,
            "events": some_events(),
        }
    return Domain.model_validate(
        {
            "name": "small",
            "entities": {
                "user": {},
                "course": {
                    "attributes": {"title": "string", "price_minor": "int", "rating": "float"},
                    "title": "title",
                    "tower": {"fields": {"course": "id"}, "numeric": ["price_minor"]},
                },
                "room": {
                    "attributes": {
                        "title": "string",
                        "live": "bool",
                        "viewers": "int",
                        "selling_course_id": "string",
                    },
                    "tower": {"fields": {"course": "selling_course_id", "name": "title"}},
                    "carries": {
                        "by": "sells",
                        "entity": "course",
                        "features": [
                            name
                            for name, feature in features.items()
                            if "course" in feature["entities"] and "room" not in feature["entities"]
                        ],
                    },
                },
            },
            "events": {
                **{name: {} for name in ACTIONS},
                **{name: {} for name in ("refund", "entity_upsert", "entity_withdrawal")},
                **{name: {} for name in ("room_started", "room_heartbeat", "room_ended")},
                "slate_served": {},
            },
            "features": features,
            "objectives": {
                "click": {
                    "events": ["click"],
                    "weight": 1,
                    "attribution": {"window": "200s", "touch": random.choice(["first", "last"])},
                },
                "watch": {
                    "events": ["watch", "gift"],
                    "at_least": {"duration_ms": 500},
                    "weight": 1,
                    "attribution": {"window": "100s", "across_surfaces": random.random() < 0.5},
                },
                "purchase": {
                    "events": ["purchase"],
                    "weight": 1,
                    "attribution": {
                        "window": "300s",
                        "touch": random.choice(["first", "last"]),
                        "across_surfaces": random.random() < 0.5,
                        "match": "course",
                    },
                    "reversed_by_refund": random.random() < 0.5,
                    "refund_delay": "30s",
                },
                "repurchase": {
                    "repeat_of": "purchase",
                    "within": "20s",
                    "weight": 1,
                    "refund_delay": "10s",
                },
                "refund": {"reversal_of": "purchase", "weight": -1, "refund_delay": "20s"},
            },
            "surfaces": {
                surface: {"entity": entity, "sources": [{"kind": "personal", "quota": 10}]}
                for surface, entity in (("courses", "course"), ("rooms", "room"))
            },
            "model": {
                "sequence": {
                    "items": "recent_courses",
                    "actions": "recent_actions",
                    "entity": "course",
                    "length": 5,
                },
                "user_features": [n for n, f in features.items() if _numeric_of(f, "user")],
                "item_features": [
                    n for n, f in features.items() if _numeric_of(f, "course", "room")
                ],
            },
            "split": random.choice(
                [
                    {"kind": "leave_last"},
                    {"kind": "time", "validation": "15s", "test": "20s"},
                ]
            ),
        }
    )


def _list(events: list[str], limit: int, emit: str) -> dict[str, Any]:
    return {
        "kind": "last_n",
        "entities": ["user", "course"],
        "events": events,
        "of": "course",
        "limit": limit,
        "emit": emit,
    }


def _numeric_of(feature: dict[str, Any], *entities: str) -> bool:
    kinds = ("count", "sum", "ratio", "recency")
    return feature["kind"] in kinds and bool(set(entities) & set(feature["entities"]))


def random_log(random: Random, number: int) -> list[LoggedEvent]:
    """``number`` events, late and reordered arrivals, duplicates, tests and refunds among them."""
    events = [_event(random, f"e{index}") for index in range(number)]
    purchases = [event for event in events if event.type == "purchase"]
    events += [
        _refund(random, f"r{index}", random.choice(purchases))
        for index in range(len(purchases))
        if random.random() < 0.7
    ]
    # Mostly in order of time, some much later.
    delays = {id(e): random.choice([0, 0, 0, 0, 500, 20_000]) for e in events}
    events.sort(key=lambda e: (e.event_time.ToMilliseconds() + delays[id(e)], e.event_id))
    return [
        LoggedEvent(
            event=event,
            arrival=arrival,
            producer="test",
            duplicate=random.random() < 0.03,
            too_late=random.random() < 0.03,
        )
        for arrival, event in enumerate(events)
    ]


def write_log(directory: Path, log: list[LoggedEvent]) -> Path:
    """Writes ``log`` as an event log and returns its directory."""
    with LogWriter(directory, segment_bytes=4_096) as writer:
        writer.append([logged.SerializeToString(deterministic=True) for logged in log])
    return directory


def _event(random: Random, event_id: str) -> Event:
    event = Event(event_id=event_id)
    # Few distinct times, so that ties are common.
    event.event_time.FromMilliseconds(START_MS + random.randrange(0, SPAN_MS, 500))
    kind = random.random()
    if kind < 0.1:
        _upsert(random, event)
        return event
    if kind < 0.2:
        _room(random, event)
        return event
    event.type = random.choice(ACTIONS) if random.random() < 0.97 else "unheard_of"
    if random.random() < 0.9:
        event.actor.user_id = random.choice(["ann", "bob"])
    if random.random() < 0.3:
        event.actor.device_id = "phone"
    if random.random() < 0.05:
        event.traffic_class = TrafficClass.TRAFFIC_CLASS_TEST
    course, room = f"c{random.randrange(3)}", f"r{random.randrange(2)}"
    if random.random() < 0.4 and event.type != "purchase":
        event.entities.add(type="room", id=room)
        if random.random() < 0.8:
            event.entities.add(type="course", id=course)
        event.surface = "rooms"
    else:
        event.entities.add(type="course", id=course)
        if random.random() < 0.3:
            event.entities.add(type="room", id=room)
        event.surface = random.choice(["courses", "courses", "rooms", ""])
    if random.random() < 0.5:
        event.rank_id = f"k{random.randrange(6)}"
    if event.type == "impression":
        event.rank_id = event.rank_id or f"k{random.randrange(6)}"
        event.position = random.randrange(4)
    elif event.type == "watch":
        event.attributes["duration_ms"].int_value = random.choice([100, 500, 900])
    elif event.type == "gift":
        event.attributes["amount_minor"].int_value = random.randrange(1, 50)
    elif event.type == "purchase":
        event.purchase.order_id = event_id
        event.purchase.amount.amount_minor = random.choice([0, 10, 30])
    return event


def _upsert(random: Random, event: Event) -> None:
    event.entities.add(type="course", id=f"c{random.randrange(3)}")
    if random.random() < 0.2:
        event.type = "entity_withdrawal"
        event.entity_withdrawal.reason = "test"
        return
    event.type = "entity_upsert"
    upsert = event.entity_upsert
    upsert.SetInParent()
    if random.random() < 0.6:
        upsert.attributes["title"].string_value = f"title {random.randrange(9)}"
    if random.random() < 0.5:
        upsert.attributes["rating"].double_value = random.randrange(50) / 10
    if random.random() < 0.5:
        upsert.price.amount_minor = random.randrange(100)
    upsert.attributes["undeclared"].int_value = 1


def _room(random: Random, event: Event) -> None:
    event.entities.add(type="room", id=f"r{random.randrange(2)}")
    event.type, state = random.choice(
        [
            ("room_started", RoomState.STATE_STARTED),
            ("room_heartbeat", RoomState.STATE_HEARTBEAT),
            ("room_ended", RoomState.STATE_ENDED),
        ]
    )
    event.room_state.state = state
    if random.random() < 0.6:
        event.room_state.viewers = random.randrange(100)
    if state == RoomState.STATE_STARTED:
        event.room_state.selling_course_id = f"c{random.randrange(3)}"


def _refund(random: Random, event_id: str, purchase: Event) -> Event:
    event = Event(event_id=event_id, type="refund")
    event.event_time.FromMilliseconds(START_MS + random.randrange(0, SPAN_MS, 500))
    event.actor.CopyFrom(purchase.actor)
    event.entities.extend(purchase.entities)
    refund = event.refund
    refund.refund_id = event_id
    refund.order_id = purchase.purchase.order_id
    refund.purchase_event_id = purchase.event_id
    refund.purchase_time.CopyFrom(purchase.event_time)
    refund.purchase_amount.CopyFrom(purchase.purchase.amount)
    refund.amount.amount_minor = random.choice([0, 5, 10, 30])
    return event
