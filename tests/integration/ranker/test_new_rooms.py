"""Rooms come, sell something else, and go: the ranker follows, with the real feature service."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np

from podium.ranker.v1 import filter_pb2
from services.common.domain import Domain
from tests.integration.ranker.conftest import Ranker, make_settings, running_ranker
from tests.support.eventually import eventually
from tests.support.fake_features import FakeFeatureService
from tests.support.feature_server import running_service
from tests.support.feature_streams import room_event, upsert_event
from tests.support.more_features import LIVE_COURSES
from tests.support.tiny_bundle import make_tiny_bundle

WITHIN_S = 5.0
"""How soon a room is retrievable once its start was acknowledged."""

COURSES = {
    f"c{n}": {
        "host_id": f"h{n % 3}",
        "category": "guitar",
        "level": n,
        "price_minor": 1_000 * (n + 1),
        "seats_left": 5,
    }
    for n in range(6)
}


def test_a_room_is_retrievable_within_seconds_of_its_start(tmp_path: Path, domain: Domain) -> None:
    # One room is in the index, where it sells another course; the other is new to the bundle.
    rooms = {"new": {"host_id": "h1", "selling_course_id": "c5"}}
    make_tiny_bundle(tmp_path / "bundles", domain, {"course": COURSES, "host": {}, "room": rooms})
    with running_service(LIVE_COURSES, tmp_path / "features") as running:
        now_ms = time.time_ns() // 1_000_000
        tell = running.client.ingest
        tell(
            *(upsert_event(f"up-{id_}", now_ms, f"course:{id_}", **c) for id_, c in COURSES.items())
        )
        tell(upsert_event("up-old", now_ms, "room:old", host_id="h0", category="guitar"))
        tell(room_event("start-old", "room_started", now_ms, "old", course="c0", viewers=3))
        settings = make_settings(
            tmp_path / "ranker", tmp_path / "bundles", f"127.0.0.1:{running.port}"
        )
        with running_ranker(settings, FakeFeatureService(domain, {}, {})) as ranker:
            eventually(lambda: shown(ranker) == {"old": "c0"}, "the room on air")
            tell(upsert_event("up-new", now_ms, "room:new", host_id="h1", category="guitar"))
            tell(room_event("start-new", "room_started", now_ms, "new", course="c1", viewers=9))
            eventually(
                lambda: shown(ranker) == {"old": "c0", "new": "c1"}, "the new room", WITHIN_S
            )
            first = vector(ranker, "new")
            assert np.abs(first).sum() > 0
            tell(room_event("sell-new", "room_now_selling", now_ms + 1, "new", course="c2"))
            eventually(
                lambda: shown(ranker) == {"old": "c0", "new": "c2"}, "what it sells now", WITHIN_S
            )
            moved = vector(ranker, "new")
            assert not np.allclose(moved, first)
            assert carried(ranker, "new") == {"price_minor": 3_000, "level": 2, "seats_left": 5}
            assert prices(ranker) == {"old": 1_000, "new": 3_000}
            assert shown(ranker, at_most_minor=2_000) == {"old": "c0"}
            tell(upsert_event("price-c2", now_ms + 2, "course:c2", price_minor=1_500))
            eventually(
                lambda: shown(ranker, at_most_minor=2_000) == {"old": "c0", "new": "c2"},
                "the new price of what it sells",
                WITHIN_S,
            )
            assert carried(ranker, "new")["price_minor"] == prices(ranker)["new"] == 1_500
            tell(upsert_event("sold-c0", now_ms + 2, "course:c0", seats_left=0))
            eventually(lambda: shown(ranker) == {"new": "c2"}, "what is sold out leaves", WITHIN_S)
            tell(room_event("sell-old", "room_now_selling", now_ms + 2, "old", course="c4"))
            eventually(
                lambda: shown(ranker) == {"old": "c4", "new": "c2"}, "another course", WITHIN_S
            )
            tell(room_event("end-new", "room_ended", now_ms + 3, "new"))
            eventually(lambda: shown(ranker) == {"old": "c4"}, "the room's end", WITHIN_S)
            nearby = ranker.app.serving.current().plans["rooms"].nearby
            assert len(nearby.slots) == len(nearby.vectors) == 1


def shown(ranker: Ranker, at_most_minor: int | None = None) -> dict[str, str]:
    """The rooms of a slate, and what each sells; ``at_most_minor``: by a filter of the caller's."""
    wanted = None
    if at_most_minor is not None:
        comparison = filter_pb2.Filter.Compare(
            field="price_minor",
            operator=filter_pb2.Filter.OPERATOR_LESS_OR_EQUAL,
            int_value=at_most_minor,
        )
        wanted = filter_pb2.Filter(comparison=comparison)
    slate = ranker.rank("rooms", filter=wanted).slate
    return dict(zip(slate.ids, slate.selling_course_ids, strict=True))


def prices(ranker: Ranker) -> dict[str, int]:
    """The prices of a slate's rooms, in minor units."""
    slate = ranker.rank("rooms").slate
    return dict(zip(slate.ids, slate.prices_minor, strict=True))


def carried(ranker: Ranker, room: str) -> dict[str, float]:
    """What the models and filters read of the course that a room sells."""
    state = ranker.app.serving.current()
    plan = state.plans["rooms"]
    slot = plan.table.slot_of[room]
    read = dict(zip(state.spec.item_features, plan.items.features[slot].tolist(), strict=True))
    seats = plan.table.numeric("seats_left")
    assert seats is not None
    return {"price_minor": read["price_minor"], "level": read["level"], "seats_left": seats[slot]}


def vector(ranker: Ranker, room: str) -> np.ndarray:
    """What the item tower made of a room."""
    state = ranker.app.serving.current()
    plan = state.plans["rooms"]
    return plan.items.vectors[plan.table.slot_of[room]].copy()
