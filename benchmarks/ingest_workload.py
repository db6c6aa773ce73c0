"""The pinned workload of ``benchmarks.ingest``: an event names a user, a course, a host and a room,
and each of the four keys has three windows.

Everything follows from ``SEED``.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from podium.event.v1.event_pb2 import Event
from podium.feature.v1.feature_pb2 import IngestStreamRequest
from services.common.domain import Domain, load_domain

SEED = 20_261_122
KEYS = ("user", "course", "host", "room")
WINDOWS = ("1h", "1d", "7d")
WIDE_WINDOWS = ("1m", "5m", "1h", "1d", "7d", "30d")
WIDE_EVENTS = ("impression", "click", "watch", "comment", "like", "share", "cart", "follow")
REQUEST_EVENTS = 500
USERS, COURSES, HOSTS, ROOMS = 20_000, 5_000, 500, 1_000


def write_domain(path: Path) -> Domain:
    """A domain in which a click touches 4 keys and 12 windows."""
    return _write(path, ["click"], WINDOWS, list(KEYS))


def write_wide_domain(path: Path) -> Domain:
    """A domain in which a user has 8 base aggregates x 6 windows."""
    return _write(path, list(WIDE_EVENTS), WIDE_WINDOWS, ["user"])


def requests(count: int, now_ms: int, prefix: str) -> Iterator[bytes]:
    """Serialised ``IngestStreamRequest`` of ``REQUEST_EVENTS`` clicks each, numbered from 0."""
    draw = np.random.default_rng(SEED)
    for sequence in range(count):
        message = IngestStreamRequest(sequence=sequence)
        named = zip(
            *(draw.zipf(1.3, REQUEST_EVENTS) % n for n in (USERS, COURSES, HOSTS, ROOMS)),
            strict=True,
        )
        for number, (user, course, host, room) in enumerate(named):
            event = message.events.add(event_id=f"{prefix}-{sequence:06d}-{number:03d}")
            _fill(event, "click", now_ms - int(number), f"user-{user}")
            for kind, identity in (("course", course), ("host", host), ("room", room)):
                event.entities.add(type=kind, id=f"{kind}-{identity}")
        yield message.SerializeToString()


def wide_events(users: int, events_per_user: int, now_ms: int) -> Iterator[tuple[Event, int]]:
    """(event, time) of users over the last 30 days, by time; ids stand for pseudonyms."""
    draw = np.random.default_rng(SEED)
    total = users * events_per_user
    times = np.sort(now_ms - draw.integers(0, 30 * 86_400_000, total))
    users_drawn, kinds = draw.integers(0, users, total), draw.integers(0, len(WIDE_EVENTS), total)
    for number, (time_ms, user, kind) in enumerate(zip(times, users_drawn, kinds, strict=True)):
        event = Event(event_id=f"w-{number}")
        _fill(event, WIDE_EVENTS[kind], int(time_ms), f"user-{user}")
        event.entities.add(type="course", id="course-0")
        yield event, int(time_ms)


def _fill(event: Event, kind: str, time_ms: int, user: str) -> None:
    event.type = kind
    event.event_time.FromMilliseconds(time_ms)
    event.actor.user_id = user


def _write(path: Path, events: list[str], windows: tuple[str, ...], entities: list[str]) -> Domain:
    counts: dict[str, Any] = {
        f"{event}_{window}": {
            "kind": "count",
            "entities": entities,
            "events": [event],
            "window": window,
        }
        for event in events
        for window in windows
    }
    sequence = {
        "kind": "last_n",
        "entities": ["user"],
        "events": ["purchase"],
        "of": "course",
        "limit": 5,
    }
    content = {
        "name": "benchmark",
        "entities": {
            "user": {},
            "course": {"attributes": {"title": "string"}, "tower": {"fields": {"course": "id"}}},
            "host": {},
            "room": {},
        },
        "events": {
            **{kind: {} for kind in (*WIDE_EVENTS, "purchase", "slate_served", "exposure")},
            "entity_upsert": {},
            "entity_withdrawal": {},
        },
        "features": {
            **counts,
            "recent": sequence,
            "actions": {**sequence, "emit": "event_type"},
        },
        "objectives": {
            "click": {"events": ["click"], "weight": 1, "attribution": {"window": "1h"}}
        },
        "surfaces": {
            "courses": {"entity": "course", "sources": [{"kind": "personal", "quota": 10}]}
        },
        "model": {
            "sequence": {"items": "recent", "actions": "actions", "entity": "course", "length": 5}
        },
        "split": {"kind": "leave_last"},
    }
    # JSON is YAML, too.
    path.write_text(json.dumps(content, indent=1), encoding="utf-8")
    return load_domain(path)
