"""Load cap and impression floor against their definitions, over random rooms."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.common.domain_selection import ImpressionFloor, LoadCap
from services.ranker.selection.select import select
from services.ranker.types import Placement
from tests.unit.services.ranker.fakes import tables_of
from tests.unit.services.ranker.slate_worlds import World, selection, slate_ids
from tests.unit.services.ranker.test_selection import bound_over

AT = 0.75
FLOOR = 0.6
Rooms = list[dict[str, Any]]

ROOMS = st.lists(
    st.fixed_dictionaries(
        {
            "value": st.integers(-20, 20),
            "clicks": st.integers(0, 8),
            "level": st.integers(0, 8),
            "host": st.sampled_from(["", "h1", "h2", "h3"]),
        },
        optional={"seats": st.sampled_from([0, 4, 8])},
    ),
    min_size=1,
    max_size=10,
)
SIZES = st.integers(1, 6)


def is_full(room: dict[str, Any]) -> bool:
    """By the definition; a room of which no capacity is known has no limit."""
    return "seats" in room and room["level"] >= AT * room["seats"]


def shown(
    rooms: Rooms, k: int, load_cap: LoadCap | None, floor: ImpressionFloor | None
) -> tuple[list[int], list[Placement], int]:
    """The slate by number, how each item came to its place, and what the load cap left out."""
    columns = ("clicks", "level", "host", "seats")
    rows = {
        f"i{n}": {name: room[name] for name in columns if name in room}
        for n, room in enumerate(rooms)
    }
    world = World(
        terms=[[float(room["value"])] for room in rooms],
        weights=[1.0],
        hosts=[0] * len(rooms),
        vectors=[[1.0, 0.0]] * len(rooms),
    )
    spec = selection(load_cap=load_cap, impression_floor=floor)
    found = world.candidates()
    chosen = select(
        bound_over(spec, tables_of(rows).by_entity["item"]), found, k=k, seed=0, now_ms=0
    )
    return slate_ids(found, chosen), list(chosen.placements), chosen.left_out


@given(ROOMS, SIZES)
def test_no_full_room_is_shown_while_another_is_left(rooms: Rooms, k: int) -> None:
    slate, _, left_out = shown(rooms, k, LoadCap(load="level", capacity="seats", at=AT), None)
    free = [n for n, room in enumerate(rooms) if not is_full(room)]
    allowed = free or list(range(len(rooms)))
    assert set(slate) <= set(allowed)
    assert len(slate) == len(set(slate)) == min(k, len(allowed))
    assert left_out == len(rooms) - len(allowed)
    values = sorted((rooms[n]["value"] for n in allowed), reverse=True)
    assert [rooms[n]["value"] for n in slate] == values[:k]


@given(ROOMS, SIZES)
def test_a_discounted_room_loses_a_share_of_its_magnitude(rooms: Rooms, k: int) -> None:
    spec = LoadCap(load="level", capacity="seats", at=AT, discount=0.5)
    slate, _, left_out = shown(rooms, k, spec, None)
    worth = [room["value"] - 0.5 * abs(room["value"]) * is_full(room) for room in rooms]
    assert left_out == 0
    assert [worth[n] for n in slate] == sorted(worth, reverse=True)[:k]


def short_of(rooms: Rooms) -> dict[str, float]:
    """Impressions that each host is short of its floor."""
    had: dict[str, float] = defaultdict(float)
    for room in rooms:
        if room["host"]:
            had[room["host"]] += room["clicks"]
    fair = sum(had.values()) / max(1, len(had))
    return {host: max(0.0, FLOOR * fair - count) for host, count in had.items()}


@given(ROOMS, SIZES, st.integers(0, 3), st.booleans())
def test_the_floors_position_is_the_best_room_of_the_host_furthest_below(
    rooms: Rooms, k: int, position: int, caps_load: bool
) -> None:
    load_cap = LoadCap(load="level", capacity="seats", at=AT) if caps_load else None
    spec = ImpressionFloor(
        group="host", impressions="clicks", floor=FLOOR, boost=0.0, position=position
    )
    slate, placements, _ = shown(rooms, k, load_cap, spec)
    may_come = list(range(len(rooms)))
    if caps_load:
        may_come = [n for n in may_come if not is_full(rooms[n])] or may_come
    short = short_of(rooms)
    below = [n for n in may_come if short.get(rooms[n]["host"], 0.0) > 0]
    assert len(slate) == len(set(slate)) == min(k, len(may_come))
    if position >= k or not below:
        assert Placement.FLOOR not in placements
        return
    # Where there are too few others, what is fixed closes up.
    at = min(position, len(slate) - 1)
    assert [how is Placement.FLOOR for how in placements] == [n == at for n in range(len(slate))]
    best = max((short[rooms[n]["host"]], rooms[n]["value"]) for n in below)
    chosen = rooms[slate[at]]
    assert (short[chosen["host"]], chosen["value"]) == pytest.approx(best, abs=1e-6)


@given(ROOMS, SIZES)
def test_hosts_below_the_floor_are_boosted_by_a_share_of_their_values_magnitude(
    rooms: Rooms, k: int
) -> None:
    spec = ImpressionFloor(group="host", impressions="clicks", floor=FLOOR, boost=0.5)
    slate, _, _ = shown(rooms, k, None, spec)
    short = short_of(rooms)
    worth = [
        room["value"] + 0.5 * abs(room["value"]) * (short.get(room["host"], 0.0) > 0)
        for room in rooms
    ]
    assert [worth[n] for n in slate] == sorted(worth, reverse=True)[:k]
