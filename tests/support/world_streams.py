"""Random streams over the domains of ``feature_worlds``."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from podium.common.v1.common_pb2 import (
    Actor,
    AttributeValue,
    FloatList,
    StringList,
    TrafficClass,
)
from podium.event.v1.event_pb2 import EntityUpsert, Event, LoggedEvent, Profile
from tests.support.alias_streams import alias_event, erasure_event
from tests.support.feature_streams import (
    ROOM_STATES,
    START_MS,
    interaction,
    logged,
    purchase_event,
    refund_event,
    room_event,
    withdrawal_event,
)

_SPANS_MS = (0, 1, 700, 5_000, 61_000, 3_600_000, 40_000_000, 400_000_000, 2_700_000_000)


def attributed(event: Event, **attributes: Any) -> Event:
    """The event with attributes set on its upsert, on its profile, or on itself."""
    if event.HasField("entity_upsert"):
        target = event.entity_upsert.attributes
    elif event.HasField("profile"):
        target = event.profile.attributes
    else:
        target = event.attributes
    for name, value in attributes.items():
        target[name].CopyFrom(_said(value))
    return event


def upsert_of(event_id: str, time_ms: int, ref: str, **attributes: Any) -> Event:
    """An upsert of any entity, with attributes of any type."""
    event = interaction(event_id, "entity_upsert", time_ms, "", ref)
    event.entity_upsert.CopyFrom(EntityUpsert())
    return attributed(event, **attributes)


def profile_event(event_id: str, time_ms: int, user: str, *refs: str, **attributes: Any) -> Event:
    """What a job says of a user, or of the first entity named."""
    event = interaction(event_id, "profile", time_ms, user, *refs)
    event.profile.CopyFrom(Profile(version=event_id))
    return attributed(event, **attributes)


@st.composite
def world_streams(draw: st.DrawFn, most: int = 40) -> list[LoggedEvent]:
    """1 to ``most`` records: out of order, ahead of the clock, duplicate, too late, of every
    traffic class; refunded in part, in whole, too often, before their purchase and long after it,
    by whoever; attributes that lead to keys, and that change; a device that turns out to be one's
    or the other's, and actors that are to be forgotten."""
    clock_ms = START_MS
    records: list[LoggedEvent] = []
    purchases: list[Event] = []
    spans = st.sampled_from(_SPANS_MS)
    for index in range(draw(st.integers(1, most))):
        clock_ms += draw(spans)
        ahead_ms = draw(st.sampled_from((0, 0, 0, 1, 2_000, 300_000)))
        time_ms = clock_ms + ahead_ms if ahead_ms else clock_ms - draw(spans)
        record = logged(index, draw(_events(f"e{index}", time_ms, purchases)), clock_ms)
        record.event.traffic_class = draw(
            st.sampled_from(
                (
                    *(TrafficClass.TRAFFIC_CLASS_UNSPECIFIED,) * 3,
                    *(TrafficClass.TRAFFIC_CLASS_LIVE,) * 3,
                    TrafficClass.TRAFFIC_CLASS_SHADOW,
                )
            )
        )
        is_plain = not (record.event.HasField("alias") or record.event.HasField("erasure"))
        record.duplicate = draw(st.integers(0, 19)) == 19
        record.too_late = is_plain and draw(st.integers(0, 19)) == 19
        if is_plain and draw(st.integers(0, 19)) == 19:
            record.event.type = "unheard_of"
        records.append(record)
    return records


@st.composite
def _events(draw: st.DrawFn, name: str, time_ms: int, purchases: list[Event]) -> Event:
    user = draw(st.sampled_from(("ann", "ann", "bob")))
    course = draw(st.sampled_from(("c1", "c1", "c2")))
    refs = [f"course:{course}"]
    if draw(st.integers(0, 2)) == 2:
        refs.append(f"room:{draw(st.sampled_from(('r1', 'r2')))}")
    if draw(st.integers(0, 5)) == 5:
        refs = refs[1:]
    if draw(st.integers(0, 7)) == 7:
        refs.append("category:art")
    kind = draw(
        st.sampled_from(
            (
                *("click", "watch", "gift", "purchase", "purchase", "refund", "refund"),
                *("upsert", "upsert", "room_upsert", "withdrawal", "room", "profile", "tagging"),
                *("alias", "erasure"),
            )
        )
    )
    if kind == "alias":
        return alias_event(name, draw(st.sampled_from(("ann", "ann", "bob"))), "d")
    if kind == "erasure":
        return erasure_event(name, *draw(st.sampled_from((("ann", ""), ("", "d"), ("bob", "d")))))
    event = draw(_plain_events(name, kind, time_ms, purchases, user, course, refs))
    if event.actor.user_id and draw(st.integers(0, 3)) == 3:
        event.actor.CopyFrom(Actor(device_id="d"))
    return event


@st.composite
def _plain_events(
    draw: st.DrawFn,
    name: str,
    kind: str,
    time_ms: int,
    purchases: list[Event],
    user: str,
    course: str,
    refs: list[str],
) -> Event:
    category = st.sampled_from(("art", "code", ""))
    match kind:
        case "purchase":
            amount = draw(st.sampled_from((0, 100, 250)))
            purchases.append(purchase_event(name, time_ms, amount, user, *refs))
            return purchases[-1]
        case "refund":
            return _refund(draw, name, time_ms, purchases, user, refs)
        case "upsert":
            said = draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "category": category,
                        "title": st.sampled_from(("é", "b")),
                        "score": st.sampled_from((0.5, 2.0, 3)),
                        "tags": st.lists(st.sampled_from("xyz"), max_size=3),
                        "embedding": st.sampled_from(([0.5, -1.0], [2.0, 0.0])),
                        "open": st.booleans(),
                        "price_minor": st.integers(0, 9),
                    },
                )
            )
            return upsert_of(name, time_ms, f"course:{course}", **said)
        case "room_upsert":
            return upsert_of(name, time_ms, "room:r1", topic=draw(category))
        case "withdrawal":
            return withdrawal_event(name, time_ms, f"course:{course}")
        case "room":
            state = draw(st.sampled_from(sorted(ROOM_STATES)))
            viewers = draw(st.sampled_from((None, 3, 7)))
            return room_event(name, state, time_ms, "r1", course=course, viewers=viewers)
        case "profile":
            said = draw(
                st.fixed_dictionaries(
                    {},
                    optional={
                        "segment": st.sampled_from(("new", "loyal")),
                        "age": st.integers(1, 99),
                        "vip": st.booleans(),
                        "taste": st.sampled_from(([0.0, 0.5, 1.0], [1.0, -0.5, 0.0])),
                        "interests": st.lists(st.sampled_from("pqr"), max_size=2),
                    },
                )
            )
            return profile_event(name, time_ms, user, **said)
        case "tagging":
            return profile_event(name, time_ms, "", "category:art", score=draw(st.floats(0, 1)))
        case _:
            event = interaction(name, kind, time_ms, user, *refs)
            event.attributes.clear()
            return attributed(event, **draw(_SAID.get(kind, st.just({}))))


_SAID: dict[str, st.SearchStrategy[dict[str, Any]]] = {
    "watch": st.fixed_dictionaries(
        {},
        optional={
            "duration_ms": st.integers(-5, 5_000),
            "pace": st.one_of(st.sampled_from((0.1, 0.7, 2)), st.floats(-1e6, 1e6)),
            "quality": st.sampled_from(("low", "high")),
            "finished": st.booleans(),
        },
    ),
    "gift": st.fixed_dictionaries({}, optional={"amount_minor": st.sampled_from((0.25, 3.5, 2))}),
}


def _refund(
    draw: st.DrawFn, name: str, time_ms: int, purchases: list[Event], user: str, refs: list[str]
) -> Event:
    """A refund of a purchase that was logged, or never is; now and then of other entities."""
    if not purchases or draw(st.integers(0, 3)) == 3:
        ago_ms = draw(st.sampled_from(_SPANS_MS))
        amount = draw(st.sampled_from((100, 250)))
        purchases.append(purchase_event(f"{name}p", time_ms - ago_ms, amount, user, *refs))
    bought = draw(st.sampled_from(purchases))
    amount = draw(st.sampled_from((0, 40, 100, 250)))
    event = refund_event(name, time_ms, amount, bought)
    if draw(st.integers(0, 4)) == 4:
        del event.entities[:]
    if draw(st.integers(0, 9)) == 9:
        event.refund.purchase_amount.amount_minor += draw(st.sampled_from((-50, 50)))
        event.refund.purchase_time.FromMilliseconds(time_ms - 3_600_000)
    return event


def _said(value: Any) -> AttributeValue:
    if isinstance(value, bool):
        return AttributeValue(bool_value=value)
    if isinstance(value, int):
        return AttributeValue(int_value=value)
    if isinstance(value, float):
        return AttributeValue(double_value=value)
    if isinstance(value, str):
        return AttributeValue(string_value=value)
    if value and isinstance(value[0], float):
        return AttributeValue(float_list_value=FloatList(values=value))
    return AttributeValue(string_list_value=StringList(values=value))
