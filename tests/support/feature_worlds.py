"""Random domains and streams that reach every kind of feature, for tests against the oracle."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from podium.common.v1.common_pb2 import AttributeValue, FloatList, StringList, TrafficClass
from podium.event.v1.event_pb2 import EntityUpsert, Event, LoggedEvent, Profile
from services.common.domain import Domain
from services.common.domain_feature_references import held_by
from services.common.domain_references import reference_errors
from tests.support.feature_streams import (
    ROOM_STATES,
    START_MS,
    domain_with,
    interaction,
    logged,
    purchase_event,
    refund_event,
    room_event,
    withdrawal_event,
)

WORLD_ENTITIES: dict[str, Any] = {
    "user": {
        "attributes": {
            "segment": "string",
            "profile_version": "string",
            "age": "int",
            "vip": "bool",
            "taste": "vector[3]",
            "interests": "strings",
        }
    },
    "course": {
        "attributes": {
            "title": "string",
            "price_minor": "int",
            "score": "float",
            "category": "string",
            "tags": "strings",
            "embedding": "vector[2]",
            "open": "bool",
        },
        "tower": {"fields": {"course": "id"}},
    },
    "room": {
        "attributes": {
            "live": "bool",
            "viewers": "int",
            "selling_course_id": "string",
            "topic": "string",
        },
        "tower": {"fields": {"course": "selling_course_id"}},
    },
    "category": {
        "attributes": {"score": "float"},
        "derived_from": {"course": "category", "room": "topic"},
    },
    "user_course": {"pair": ["user", "course"]},
    "user_category": {"pair": ["user", "category"]},
}
WORLD_EVENTS: dict[str, Any] = {
    "click": {},
    "watch": {
        "attributes": {
            "duration_ms": "int",
            "pace": "float",
            "quality": "string",
            "finished": "bool",
        }
    },
    "gift": {"attributes": {"amount_minor": "float", "quality": "string"}},
    "purchase": {},
    "refund": {},
    "impression": {},
    "slate_served": {},
    "exposure": {},
    "entity_upsert": {},
    "entity_withdrawal": {},
    "profile": {},
    **{kind: {} for kind in ROOM_STATES},
}
ACTED = ("click", "watch", "gift", "purchase", "refund")
"""Types of events that users cause."""

KEYS = (
    *(("user", name) for name in ("ann", "bob", "device:d", "nobody")),
    *(("course", name) for name in ("c1", "c2")),
    *(("room", name) for name in ("r1", "r2")),
    *(("category", name) for name in ("art", "code", "none")),
    *(("user_course", pair) for pair in ("3:annc1", "3:annc2", "8:device:dc1")),
    *(("user_category", pair) for pair in ("3:annart", "3:anncode", "3:bobart")),
)
"""Keys that the streams touch, and some that they do not."""

_COMPUTED = ("user", "course", "room", "category", "user_course", "user_category")
_WINDOWS = ("1m", "5m", "1h", "1d", "7d", "30d", "90m", "13h")
_TTLS = ("1s", "1h", "2d")
_FORMULAS = (
    "({a} + {b}) / {c}",
    "log1p({a}) - {b} * 2",
    "min({a}, {b}, 3) * 0.5",
    "abs(-{a}) / {b}",
    "max({a}, {c}) - 1",
)
_SPANS_MS = (0, 1, 700, 5_000, 61_000, 3_600_000, 40_000_000, 400_000_000, 2_700_000_000)
_VALUES = {
    "sum": (("watch", "duration_ms"), ("watch", "pace"), ("gift", "amount_minor")),
    "last": (("watch", "quality"), ("watch", "finished"), ("watch", "pace")),
}


def world_with(features: dict[str, Any]) -> Domain:
    """The world's domain with these features. Fails where a YAML file would be refused."""
    described = domain_with({}).model_dump(mode="json", exclude_defaults=True)
    described["entities"], described["events"] = WORLD_ENTITIES, WORLD_EVENTS
    kept = {name: described["features"][name] for name in ("recent", "actions")}
    described["features"] = {**kept, **features}
    described["model"]["sequence"]["length"] = 3
    domain = Domain.model_validate(described)
    refused = list(reference_errors(domain))
    assert refused == [], refused
    return domain


@st.composite
def worlds(draw: st.DrawFn) -> Domain:
    """Domains with 1 to 7 features of any kind, and up to three that read others."""
    features: dict[str, Any] = {}
    for index in range(draw(st.integers(1, 7))):
        features[f"f{index}"] = draw(_features())
    domain = world_with(features)
    for index in range(draw(st.integers(0, 3))):
        found = draw(_features_over(domain))
        if found is not None:
            features[f"g{index}"] = found
    return world_with(features)


@st.composite
def _features(draw: st.DrawFn) -> dict[str, Any]:
    kind = draw(
        st.sampled_from(
            (
                *("attribute", "attribute", "count", "sum", "mean", "min", "max", "last"),
                *("distinct", "rate", "ratio", "recency", "last_n", "pairs"),
            )
        )
    )
    if kind == "attribute":
        return draw(_attributes())
    entities = draw(st.lists(st.sampled_from(_COMPUTED), min_size=1, max_size=4, unique=True))
    events = st.lists(st.sampled_from(ACTED), min_size=1, max_size=3, unique=True)
    feature: dict[str, Any] = {"kind": kind, "entities": entities}
    if kind not in ("recency", "last_n", "pairs"):
        feature["window"] = draw(st.sampled_from(_WINDOWS))
    match kind:
        case "sum" | "mean" | "min" | "max" | "last":
            bought = (draw(st.sampled_from((["purchase"], ["purchase", "refund"]))), "amount_minor")
            event, value = draw(st.sampled_from(_VALUES["last" if kind == "last" else "sum"]))
            chosen = ([event], value)
            feature["events"], feature["value"] = draw(st.sampled_from((bought, chosen)))
            if kind in ("mean", "min", "max"):
                feature["default"] = draw(st.sampled_from((0.0, -1.0, 7.0)))
        case "ratio":
            feature |= {"numerator": draw(events), "denominator": draw(events)}
            feature["prior"] = {"numerator": 1, "denominator": 20}
        case "rate":
            feature |= {"events": draw(events), "per": draw(st.sampled_from(("1m", "1h", "1d")))}
        case "distinct":
            feature |= {
                "events": draw(events),
                "of": draw(st.sampled_from(("user", "course", "room", "category"))),
                "cap": draw(st.integers(1, 3)),
            }
        case "last_n":
            feature |= {
                "events": draw(events),
                "of": draw(st.sampled_from(("course", "room"))),
                "limit": draw(st.integers(1, 4)),
                "emit": draw(st.sampled_from(("id", "event_type"))),
                "ttl": draw(st.sampled_from((None, *_TTLS))),
            }
        case "pairs":
            feature |= {
                "entities": ["user"],
                "events": draw(events),
                "of": draw(st.sampled_from(("user_course", "user_category"))),
                "limit": draw(st.integers(1, 3)),
            }
        case _:
            feature["events"] = draw(events)
    return feature


@st.composite
def _attributes(draw: st.DrawFn) -> dict[str, Any]:
    entity = draw(st.sampled_from(("user", "course", "room", "category")))
    return {
        "kind": "attribute",
        "entities": [entity],
        "attribute": draw(st.sampled_from(sorted(WORLD_ENTITIES[entity]["attributes"]))),
        "ttl": draw(st.sampled_from((None, *_TTLS))),
    }


@st.composite
def _features_over(draw: st.DrawFn, domain: Domain) -> dict[str, Any] | None:
    """An expression, or a list of pairs' values; None where there is nothing to read."""
    entity = draw(st.sampled_from(_COMPUTED))
    numeric = [
        name
        for name, held in held_by(domain, entity).items()
        if held in ("int", "float", "bool") and domain.features[name].kind != "expression"
    ]
    if not numeric:
        return None
    if domain.entities[entity].pair is not None and draw(st.booleans()):
        return {
            "kind": "pairs",
            "entities": ["user"],
            "events": draw(st.sampled_from((["click"], ["watch", "purchase"]))),
            "of": entity,
            "limit": draw(st.integers(1, 3)),
            "emit": draw(st.sampled_from(numeric)),
        }
    formula = draw(st.sampled_from(_FORMULAS))
    names = {letter: draw(st.sampled_from(numeric)) for letter in "abc"}
    return {
        "kind": "expression",
        "entities": [entity],
        "formula": formula.format(**names),
        "default": draw(st.sampled_from((0.0, -3.0))),
    }


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
    traffic class; refunded in part, in whole, too often, before their purchase and long after it;
    attributes that lead to keys, and that change."""
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
        record.duplicate = draw(st.integers(0, 19)) == 19
        record.too_late = draw(st.integers(0, 19)) == 19
        if draw(st.integers(0, 19)) == 19:
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
            )
        )
    )
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
            if draw(st.integers(0, 5)) == 5:
                event.actor.user_id, event.actor.device_id = "", "d"
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
