"""The world after its end: rooms go on, and users answer slates."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

import numpy as np
import pytest

from offline.simulator.live import REACTION_MS, LiveWorld
from offline.simulator.parameters import DAY_MS, HOUR_MS, WorldParameters
from offline.simulator.world import World
from services.common.errors import InvalidArgument, NotFound

END_MS = 1_780_000_000_000
PARAMETERS = WorldParameters(END_MS, weeks=1, users=80, hosts=24, courses=60, seed=2)


@pytest.fixture(scope="module")
def ended() -> World:
    """A world at the end of its log; tests continue copies of it."""
    world = World(PARAMETERS)
    for _ in world.run_until(END_MS):
        pass
    return world


@pytest.fixture
def live(ended: World) -> LiveWorld:
    return LiveWorld(deepcopy(ended), run="live")


def test_rooms_go_on_past_the_end_with_room_events_in_order(live: LiveWorld) -> None:
    assert len(live.live_rooms) >= 10
    events = live.advance(END_MS + HOUR_MS)
    times = [event.event_time.ToMilliseconds() for event in events]
    assert times == sorted(times)
    assert times[0] >= END_MS
    assert times[-1] <= END_MS + HOUR_MS
    kinds = Counter(event.type for event in events)
    assert kinds["room_heartbeat"] >= 10
    assert "slate_served" not in kinds
    later = live.advance(END_MS + 6 * HOUR_MS)
    kinds = Counter(event.type for event in later)
    assert kinds["room_started"] > 0
    assert kinds["room_ended"] > 0
    assert len(live.live_rooms) >= 10
    assert all(event.event_time.ToMilliseconds() > times[-1] - 1 for event in later)


def test_answers_carry_raw_ids_rank_id_and_true_positions(live: LiveWorld) -> None:
    rng = np.random.default_rng(0)
    user = live.users[0]
    slate = ["course_99999", *[f"course_{row:05d}" for row in range(8)]]
    kinds: Counter[str] = Counter()
    for visit in range(40):
        now_ms = END_MS + visit * 60_000
        events = live.respond(user, "courses", slate, rank_id="R1", now_ms=now_ms, rng=rng)
        for event in events:
            kinds[event.type] += 1
            assert now_ms <= event.event_time.ToMilliseconds() <= now_ms + REACTION_MS
            if event.type in ("entity_upsert", "entity_withdrawal"):
                continue
            assert event.actor.user_id == user
            assert event.actor.device_id == user.replace("user", "device")
            if event.rank_id:
                assert event.rank_id == "R1"
                assert event.surface == "courses"
                course = next(e.id for e in event.entities if e.type == "course")
                assert slate[event.position] == course
    assert kinds["impression"] > 80
    assert kinds["click"] > 0
    assert kinds["slate_served"] == 0


@pytest.mark.parametrize("surface", ["rooms", "videos", "hosts"])
def test_every_surface_is_answered(live: LiveWorld, surface: str) -> None:
    rng = np.random.default_rng(1)
    items = {
        "rooms": live.live_rooms,
        "videos": [f"video_{row:05d}" for row in range(10)],
        "hosts": [f"host_{row:04d}" for row in range(10)],
    }[surface]
    kinds: Counter[str] = Counter()
    for user in live.users[:40]:
        events = live.respond(user, surface, items, rank_id="R", now_ms=END_MS, rng=rng)
        kinds.update(event.type for event in events)
        assert all(event.event_id for event in events)
    opened = "room_enter" if surface == "rooms" else "click"
    assert kinds[opened] > 5
    assert kinds["room_leave"] == kinds["room_enter"]
    assert kinds["watch"] > 0 or surface == "hosts"


def test_people_open_what_they_like(live: LiveWorld, ended: World) -> None:
    names, category_of = ended.catalogue.category_names, ended.catalogue.category
    rng = np.random.default_rng(2)
    liked = other = 0
    for user in live.users:
        interests = live.interests_of(user)
        slate = rng.permutation(60)[:10].tolist()
        items = [f"course_{row:05d}" for row in slate]
        events = live.respond(
            user, "courses", items, rank_id="R", now_ms=END_MS, rng=rng, intent=interests[0]
        )
        for event in events:
            if event.type == "click" and event.rank_id:
                category = names[category_of[int(event.entities[0].id[7:])]]
                liked += category in interests
                other += category not in interests
    # A quarter of the categories is liked.
    assert liked > 1.5 * (other / 3)


def test_continuations_repeat_but_never_share_an_event_id(ended: World) -> None:
    def ids(run: str) -> set[str]:
        events = LiveWorld(deepcopy(ended), run=run).advance(END_MS + HOUR_MS)
        return {event.event_id for event in events}

    assert ids("a")
    assert not ids("a") & ids("b")
    assert ids("a") == ids("a")


def test_what_was_decided_comes_true_days_later(live: LiveWorld) -> None:
    rng = np.random.default_rng(3)
    slate = [f"course_{row:05d}" for row in range(10)]
    for user in live.users:
        live.respond(user, "courses", slate, rank_id="R", now_ms=END_MS, rng=rng)
    kinds = Counter(event.type for event in live.advance(END_MS + 5 * DAY_MS))
    assert kinds["purchase"] > 0
    assert kinds["impression"] == 0


def test_background_visits_go_on_where_wanted(ended: World) -> None:
    live = LiveWorld(deepcopy(ended), run="x", visits=True)
    kinds = Counter(event.type for event in live.advance(END_MS + DAY_MS))
    assert kinds["slate_served"] > 10


def test_strangers_and_unknown_surfaces_are_refused(live: LiveWorld) -> None:
    rng = np.random.default_rng(0)
    with pytest.raises(NotFound, match="nobody"):
        live.respond("nobody", "courses", [], rank_id="R", now_ms=END_MS, rng=rng)
    with pytest.raises(InvalidArgument, match="surface"):
        live.respond(live.users[0], "shops", [], rank_id="R", now_ms=END_MS, rng=rng)
    with pytest.raises(InvalidArgument, match="intent"):
        live.respond(live.users[0], "courses", [], rank_id="R", now_ms=END_MS, rng=rng, intent="x")
