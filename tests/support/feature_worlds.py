"""Random domains that reach every kind of feature, for tests against the oracle."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from services.common.domain import Domain
from services.common.domain_feature_references import held_by
from services.common.domain_references import reference_errors
from tests.support.feature_streams import (
    ROOM_STATES,
    domain_with,
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
            "heard": "bool",
            "heard_at_ms": "int",
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
