"""A domain with a feature of every kind, and a stream that reaches them."""

from __future__ import annotations

from typing import Any

from podium.event.v1.event_pb2 import Event, LoggedEvent
from services.common.domain import Domain
from tests.support.feature_streams import (
    START_MS,
    interaction,
    logged,
    purchase_event,
    refund_event,
)
from tests.support.feature_worlds import world_with
from tests.support.world_streams import attributed, profile_event, upsert_of

_ALL = {"entities": ["user", "course", "category", "user_category"]}
_WATCHED = {**_ALL, "events": ["watch"], "window": "5m"}
_BOUGHT = {**_ALL, "events": ["purchase"], "window": "1d"}

_FEATURES: dict[str, Any] = {
    "acts": {"kind": "count", **_ALL, "events": ["click", "watch"], "window": "1h"},
    "bought": {"kind": "count", **_BOUGHT},
    "spent": {"kind": "sum", **_BOUGHT, "value": "amount_minor"},
    "paid": {"kind": "mean", **_BOUGHT, "value": "amount_minor", "default": -1.0},
    "pace": {"kind": "sum", **_WATCHED, "value": "pace"},
    "slowest": {"kind": "min", **_WATCHED, "value": "pace"},
    "longest": {"kind": "max", **_WATCHED, "value": "duration_ms", "default": -1.0},
    "quality": {"kind": "last", **_WATCHED, "value": "quality"},
    "visitors": {
        "kind": "distinct",
        "entities": ["course", "category"],
        "events": ["click", "watch"],
        "of": "user",
        "window": "1h",
        "cap": 2,
    },
    "topics": {
        "kind": "distinct",
        "entities": ["user"],
        "events": ["click", "watch", "purchase"],
        "of": "category",
        "window": "1d",
    },
    "pace_a_minute": {"kind": "rate", **_ALL, "events": ["click"], "window": "5m", "per": "1m"},
    "clicks_of_acts": {
        "kind": "ratio",
        **_ALL,
        "numerator": ["click"],
        "denominator": ["click", "watch"],
        "window": "1h",
        "prior": {"numerator": 1, "denominator": 4},
    },
    "since": {"kind": "recency", **_ALL, "events": ["click", "purchase"]},
    "courses": {
        "kind": "last_n",
        **_ALL,
        "events": ["click", "purchase"],
        "of": "course",
        "limit": 3,
        "ttl": "1h",
    },
    "score": {"kind": "attribute", "entities": ["course", "category"], "ttl": "2d"},
    "taste": {"kind": "attribute", "entities": ["user"]},
    "interests": {"kind": "attribute", "entities": ["user"]},
    "open": {"kind": "attribute", "entities": ["course"]},
    "worth": {
        "kind": "expression",
        **_ALL,
        "formula": "log1p(acts) + min(spent, 100) / bought",
        "default": -2.0,
    },
    "topics_seen": {
        "kind": "pairs",
        "entities": ["user"],
        "events": ["click", "watch", "purchase"],
        "of": "user_category",
        "limit": 2,
    },
    "worth_of_topics": {
        "kind": "pairs",
        "entities": ["user"],
        "events": ["click", "watch"],
        "of": "user_category",
        "limit": 3,
        "emit": "worth",
    },
}


_OF_OTHERS = ("acts", "bought", "spent", "visitors", "worth", "score", "open")


def every_kind() -> Domain:
    """The domain: every kind for users, and a few for other keys, which takes fewer queries."""
    features = {
        name: feature
        if name in _OF_OTHERS or "user" not in feature["entities"]
        else {**feature, "entities": ["user"]}
        for name, feature in _FEATURES.items()
    }
    return world_with(features)


def told_stream(copies: int = 1) -> list[LoggedEvent]:
    """A stream in which each kind has something to say; late events and late changes among it.
    ``copies``: how often what users do is repeated, a quarter of an hour apart."""
    said: list[tuple[int, Event]] = [
        (0, upsert_of("u1", START_MS, "course:c1", category="art", score=2.0, open=True)),
        (0, upsert_of("u2", START_MS, "course:c2", category="code", score=0.5)),
        (1, profile_event("t1", START_MS, "", "category:art", score=0.25)),
        (1, profile_event("p1", START_MS, "ann", taste=[0.5, 1.0, 0.0], interests=["p", "q"])),
    ]
    for copy in range(copies):
        said += _acts(str(copy), START_MS + 900_000 * copy)
    return [
        logged(arrival, event, START_MS + after_ms)
        for arrival, (after_ms, event) in enumerate(sorted(said, key=lambda item: item[0]))
    ]


def _acts(name: str, start_ms: int) -> list[tuple[int, Event]]:
    """(arrival in ms after the start of the stream, event) of a few acts."""
    offset = start_ms - START_MS

    def at(seconds: int) -> int:
        return start_ms + seconds * 1_000

    def watch(label: str, seconds: int, user: str, course: str, **attributes: Any) -> Event:
        event = interaction(label + name, "watch", at(seconds), user, f"course:{course}")
        event.attributes.clear()
        return attributed(event, **attributes)

    bought = purchase_event(f"b{name}", at(20), 250, "ann", "course:c1")
    arrivals = [
        (2, interaction(f"k1{name}", "click", at(2), "ann", "course:c1")),
        (5, watch("w1", 5, "ann", "c1", pace=0.1, duration_ms=700, quality="high")),
        (6, watch("w2", 6, "bob", "c1", pace=3.5, duration_ms=-3, quality="low")),
        (9, interaction(f"k2{name}", "click", at(9), "bob", "course:c2")),
        (21, bought),
        (25, upsert_of(f"m{name}", at(24), "course:c2", category="art")),
        (30, interaction(f"k3{name}", "click", at(30), "ann", "course:c2")),
        (40, refund_event(f"r1{name}", at(40), 100, bought)),
        (45, watch("w3", 3, "ann", "c2", pace=-2.5, duration_ms=9_000, quality="low")),
        (50, refund_event(f"r2{name}", at(35), 150, bought)),
        (55, upsert_of(f"n{name}", at(54), "course:c2", category="code")),
        (70, interaction(f"k4{name}", "click", at(10), "bob", "course:c1")),
    ]
    return [(offset + after * 1_000, event) for after, event in arrivals]


def refunded_stream() -> list[LoggedEvent]:
    """Purchases of two courses, given back whole or in part, by one refund or by several, before
    the purchase comes or after its window."""
    users = ("ann", "bob")
    bought = [
        purchase_event(f"buy{n}", START_MS + n * 1_000, 50 + n, users[n % 2], f"course:c{n % 2}")
        for n in range(8)
    ]
    old = purchase_event("old", START_MS - 90_000_000, 70, "ann", "course:c0")
    backs = [
        (bought[0], 50, 9_000),
        (bought[1], 20, 9_100),
        (bought[2], 30, 9_200),
        (bought[2], 22, 9_300),
        (bought[3], 10, 9_400),
        (bought[3], 10, 9_500),
        (bought[4], 90, 100),
        (old, 70, 9_600),
    ]
    refunds = [
        refund_event(f"back{n}", START_MS + at_ms, amount, purchase)
        for n, (purchase, amount, at_ms) in enumerate(backs)
    ]
    events = [old, refunds[6], *bought, *refunds[:6], refunds[7]]
    return [logged(n, event, START_MS + 10_000 + n) for n, event in enumerate(events)]
