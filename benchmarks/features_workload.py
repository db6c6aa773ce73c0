"""The pinned workload of ``benchmarks.features``: 50 features of mixed kinds, courses, events.

Everything follows from ``SEED``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from podium.common.v1 import common_pb2
from podium.event.v1 import event_pb2
from services.common.domain import Domain, load_domain
from services.common.event_log import LogWriter

SEED = 20_261_122
ENTITY = "course"
FEATURES = 50
EVENTS_PER_COURSE = 40
DAY_MS = 86_400_000
_SPAN_MS = 25 * DAY_MS
_CHUNK = 2_000
_TYPES = ("impression", "click", "watch", "purchase")
_SHARES = (0.5, 0.25, 0.2, 0.05)


def write_domain(path: Path) -> Domain:
    """A domain whose courses have ``FEATURES`` features, written to ``path``."""
    features = _features()
    content: dict[str, Any] = {
        "name": "benchmark",
        "entities": {
            "user": {},
            "host": {},
            ENTITY: {
                "attributes": {
                    "title": "string",
                    "host_id": "string",
                    "category": "string",
                    "language": "string",
                    "level": "int",
                    "price_minor": "int",
                    "seats_left": "int",
                    "rating": "float",
                    "tags": "strings",
                },
                "tower": {"fields": {"course": "id"}},
            },
        },
        "events": {
            "impression": {},
            "click": {},
            "watch": {"attributes": {"duration_ms": "int"}},
            "purchase": {},
            "entity_upsert": {},
            "entity_withdrawal": {},
            "slate_served": {},
            "exposure": {},
        },
        "features": {
            **{name: {"entities": [ENTITY], **feature} for name, feature in features.items()},
            "recent": _sequence("id"),
            "actions": _sequence("event_type"),
        },
        "objectives": {
            "click": {"events": ["click"], "weight": 1, "attribution": {"window": "1h"}}
        },
        "surfaces": {"courses": {"entity": ENTITY, "sources": [{"kind": "personal", "quota": 10}]}},
        "model": {
            "sequence": {"items": "recent", "actions": "actions", "entity": ENTITY, "length": 5}
        },
        "split": {"kind": "leave_last"},
    }
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return load_domain(path)


def course_ids(courses: int) -> list[str]:
    """Ids of the courses."""
    return [f"c{row}" for row in range(courses)]


def write_log(directory: Path, courses: int, now_ms: int) -> int:
    """Writes catalogue and ``EVENTS_PER_COURSE`` events a course of the last 25 days, in order of
    time; returns the number of events."""
    written = 0
    with LogWriter(directory) as writer:
        batch: list[bytes] = []
        for event, time_ms in _events(courses, now_ms):
            event.event_time.FromMilliseconds(time_ms)
            logged = event_pb2.LoggedEvent(event=event, arrival=written, producer="benchmark")
            logged.arrival_time.FromMilliseconds(time_ms)
            batch.append(logged.SerializeToString())
            written += 1
            if len(batch) == _CHUNK:
                writer.append(batch)
                batch = []
        writer.append(batch)
        writer.sync()
    return written


def _sequence(emit: str) -> dict[str, Any]:
    return {
        "kind": "last_n",
        "entities": ["user"],
        "events": ["click"],
        "of": ENTITY,
        "limit": 5,
        "emit": emit,
    }


def _features() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = {}
    for name in ("title", "host_id", "category", "language", "level", "price_minor", "seats_left"):
        found[name] = {"kind": "attribute"}
    found |= {"rating": {"kind": "attribute"}, "tags": {"kind": "attribute"}}
    for event in _TYPES:
        for window in ("1h", "1d", "7d", "30d"):
            found[f"{event}_{window}"] = {"kind": "count", "events": [event], "window": window}
    watched = {"events": ["watch"], "value": "duration_ms"}
    paid = {"events": ["purchase"], "value": "amount_minor"}
    for window in ("1d", "7d", "30d"):
        found[f"watched_{window}"] = {"kind": "sum", "window": window, **watched}
    for window in ("7d", "30d"):
        found[f"paid_{window}"] = {"kind": "sum", "window": window, **paid}
        found[f"watch_mean_{window}"] = {"kind": "mean", "window": window, **watched}
        users = {"events": ["click", "watch"], "of": "user", "window": window}
        found[f"users_{window}"] = {"kind": "distinct", "cap": 100, **users}
        found[f"bought_share_{window}"] = _ratio("purchase", "click", window)
    found["paid_min"] = {"kind": "min", "window": "30d", **paid}
    found["paid_max"] = {"kind": "max", "window": "30d", **paid}
    found["paid_last"] = {"kind": "last", "window": "30d", **paid}
    for window in ("1h", "1d"):
        found[f"click_rate_{window}"] = {"kind": "rate", "events": ["click"], "window": window}
    for window in ("1d", "7d", "30d"):
        found[f"click_share_{window}"] = _ratio("click", "impression", window)
    for event in ("click", "watch", "purchase"):
        found[f"{event}_recency"] = {"kind": "recency", "events": [event]}
    found["engagement"] = {
        "kind": "expression",
        "formula": "(watched_7d / 1000 + click_7d) / level",
    }
    found["yield"] = {"kind": "expression", "formula": "paid_30d / max(impression_30d, 1)"}
    hosts = {"events": ["click", "watch"], "of": "host", "limit": 5}
    found["last_hosts"] = {"kind": "last_n", **hosts}
    assert len(found) == FEATURES, len(found)
    return found


def _ratio(numerator: str, denominator: str, window: str) -> dict[str, Any]:
    prior = {"numerator": 1, "denominator": 20}
    both = {"numerator": [numerator], "denominator": [denominator]}
    return {"kind": "ratio", "window": window, "prior": prior, **both}


def _events(courses: int, now_ms: int) -> Iterator[tuple[event_pb2.Event, int]]:
    random = np.random.default_rng(SEED)
    value = common_pb2.AttributeValue
    for row, course in enumerate(course_ids(courses)):
        tags = common_pb2.StringList(values=[f"t{row % 7}", f"t{row % 11}"])
        upsert = event_pb2.EntityUpsert(
            attributes={
                "title": value(string_value=f"Course {row}"),
                "host_id": value(string_value=f"h{row % 97}"),
                "category": value(string_value=f"k{row % 12}"),
                "level": value(int_value=1 + row % 4),
                "rating": value(double_value=row % 50 / 10),
                "tags": value(string_list_value=tags),
            },
            seats_left=10 + row % 5,
            language="en",
        )
        upsert.price.CopyFrom(common_pb2.Money(amount_minor=100 + row, currency_code="USD"))
        event = event_pb2.Event(
            event_id=f"u{row}",
            type="entity_upsert",
            entities=[common_pb2.EntityRef(type=ENTITY, id=course)],
            entity_upsert=upsert,
        )
        yield event, now_ms - _SPAN_MS
    count = courses * EVENTS_PER_COURSE
    times = np.sort(random.integers(now_ms - _SPAN_MS, now_ms, count))
    kinds = random.choice(len(_TYPES), count, p=_SHARES)
    rows = random.integers(0, courses, count)
    people = random.integers(0, 10 * courses, count)
    for number, (time_ms, kind, row, person) in enumerate(
        zip(times.tolist(), kinds.tolist(), rows.tolist(), people.tolist(), strict=True)
    ):
        yield _event(number, _TYPES[kind], row, person), time_ms


def _event(number: int, kind: str, row: int, person: int) -> event_pb2.Event:
    event = event_pb2.Event(
        event_id=f"e{number}",
        type=kind,
        actor=common_pb2.Actor(user_id=f"u{person}"),
        entities=[
            common_pb2.EntityRef(type=ENTITY, id=f"c{row}"),
            common_pb2.EntityRef(type="host", id=f"h{row % 97}"),
        ],
    )
    if kind == "watch":
        event.attributes["duration_ms"].int_value = 1_000 + number % 60_000
    if kind == "purchase":
        event.purchase.order_id = f"o{number}"
        event.purchase.amount.CopyFrom(
            common_pb2.Money(amount_minor=100 + row, currency_code="USD")
        )
    return event
