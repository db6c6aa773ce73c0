"""Diversity, fixed positions, pacing and interleaving, against oracles in plain Python."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.domain_selection import ImpressionFloor, LoadCap, NewItems, Pin, Selection
from services.ranker.arrays import Float32Array
from services.ranker.catalogue.table import EntityTable
from services.ranker.guarantee import Guarantee
from services.ranker.selection.bound import BoundPin, BoundSelection, bind
from services.ranker.selection.select import select
from services.ranker.types import Placement
from tests.unit.services.ranker.fakes import tables_of
from tests.unit.services.ranker.slate_worlds import (
    FIVE,
    World,
    bases,
    feasible_after,
    picked,
    selection,
    similarity,
    slate_ids,
)

NUMBER = st.floats(-2, 2, width=16)
ITEM = st.tuples(
    NUMBER, NUMBER, st.integers(0, 3), st.tuples(NUMBER, NUMBER), st.sampled_from([0.0, 0.5, -0.5])
)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    """Worlds of up to 12 items."""
    items = draw(st.lists(ITEM, max_size=12))
    ties = draw(st.permutations(range(len(items))))
    sunk = draw(st.lists(st.sampled_from(range(len(items))), max_size=2)) if items else []
    return World(
        terms=[[a, b] for a, b, *_ in items],
        weights=[1.0, -0.5],
        hosts=[host for _, _, host, _, _ in items],
        vectors=[v for *_, v, _ in items],
        cap=draw(st.integers(1, 3)),
        shares=[share for *_, share in items],
        sunk=sunk,
        ties=list(ties),
    )


def mmr_oracle(world: World, k: int, lambda_: float) -> list[int]:
    """The slate by the definition; sunk items by their tie, last."""
    base = bases(world, world.weights)
    sound = [base[n] for n in range(len(world)) if n not in world.sunk]
    spread = float(np.std(sound)) if sound else 0.0
    slate: list[int] = []
    while len(slate) < k:
        options = feasible_after(world, slate)
        if not options:
            break
        near = {n: max((similarity(world, n, m) for m in slate), default=0.0) for n in options}
        cost = (1 - lambda_) / lambda_ * (spread or 1.0)
        slate.append(
            min(
                options,
                key=lambda n: (
                    n in world.sunk,
                    0.0 if n in world.sunk else -round(base[n] - cost * near[n], 9),
                    0.0 if n in world.sunk else -base[n],
                    world.ties[n],
                ),
            )
        )
    return slate


@settings(max_examples=60, deadline=None)
@given(world=worlds(), k=st.integers(1, 8), lambda_=st.sampled_from([0.4, 0.8, 1.0]))
def test_diversity_is_greedy_by_its_definition(world: World, k: int, lambda_: float) -> None:
    oracle = mmr_oracle(world, k, lambda_)
    found = picked(world, selection(lambda_=lambda_), k)
    # Where two items are equally good to the last bit but a few, either may come first.
    if found != oracle:
        base = bases(world, world.weights)
        at = next(n for n, (a, b) in enumerate(zip(found, oracle, strict=True)) if a != b)
        prefix = oracle[:at]
        spread = float(np.std([base[n] for n in range(len(world)) if n not in world.sunk])) or 1.0
        cost = (1 - lambda_) / lambda_ * spread
        worth = [
            base[n] - cost * max((similarity(world, n, m) for m in prefix), default=0.0)
            for n in (found[at], oracle[at])
        ]
        assert worth[0] == pytest.approx(worth[1], abs=0.02 * cost + 1e-6)


@settings(max_examples=80, deadline=None)
@given(
    world=worlds(),
    k=st.integers(1, 8),
    lambda_=st.sampled_from([None, 0.7]),
    kind=st.sampled_from(["mmr", "dpp"]),
    temperature=st.sampled_from([None, 0.5]),
    seed=st.integers(0, 2**64 - 1),
    interleave=st.booleans(),
    data=st.data(),
)
def test_every_slate_keeps_the_caps_and_depends_on_its_arguments_alone(
    world: World,
    k: int,
    lambda_: float | None,
    kind: str,
    temperature: float | None,
    seed: int,
    interleave: bool,
    data: st.DataObject,
) -> None:
    pins = data.draw(
        st.lists(
            st.tuples(st.integers(0, 7), st.integers(0, 11)), unique_by=lambda p: p[0], max_size=3
        )
    )
    slots = [(at, slot) for at, slot in sorted(pins) if slot < len(world)]
    plan = BoundSelection(
        selection(
            lambda_=lambda_,
            temperature=temperature,
            kind=kind,
            new_items=NewItems(position=9, impressions="seen", until=5),
        ),
        adjustments=world.adjustments(),
        guarantee=nothing_owed(len(world)),
        pins=tuple(BoundPin(at, slot, -1) for at, slot in slots),
    )
    shuffled = data.draw(st.permutations(range(len(world))))
    slates, teams, logged = [], [], []
    for order in (range(len(world)), shuffled):
        found = world.candidates(order)
        rivals = {"a": found.values, "b": -found.values} if interleave else None
        chosen = select(plan, found, k=k, seed=seed, now_ms=0, explore=True, rivals=rivals)
        slates.append(slate_ids(found, chosen))
        teams.append(list(chosen.teams))
        logged.append(chosen.drawn)
        assert np.isfinite(chosen.values).all()
    slate, drawn = slates[0], logged[0]
    assert slates[1] == slate
    assert teams[1] == teams[0]
    assert len(set(slate)) == len(slate)
    hosts = Counter(world.hosts[n] for n in slate if world.hosts[n])
    assert all(count <= world.cap for count in hosts.values())
    assert len(slate) == k or not feasible_after(world, slate)
    if interleave:
        assert len(teams[0]) == len(slate)
        credited = Counter(team for team in teams[0] if team)
        assert abs(credited["a"] - credited["b"]) <= 1
    assert (drawn is None) == (temperature is None or interleave)
    if drawn is not None:
        assert drawn.log_propensities.shape == (len(slate),)
        fixed = ~drawn.feasible.any(axis=1)
        assert (drawn.log_propensities[fixed] == 0).all()
        assert (drawn.log_propensities <= 0).all()
        for at in np.flatnonzero(~fixed):
            assert drawn.feasible[at, drawn.chosen[at]]
            assert drawn.candidate_ids[drawn.chosen[at]] == f"i{slate[at]}"


def test_an_item_off_the_window_is_found_when_the_head_is_all_alike() -> None:
    # Sixty-four of a kind on top; the only other item lies far below them by value.
    count = 300
    world = World(
        terms=[[1 - n / 10_000] for n in range(count)] + [[0.96]],
        weights=[1.0],
        hosts=[0] * (count + 1),
        vectors=[[1.0, 0.0]] * count + [[0.0, 1.0]],
        ties=list(range(count + 1)),
    )
    assert picked(world, selection(lambda_=0.1), 2) == [0, count]


def test_pins_stand_where_they_are_pinned_and_keep_the_caps() -> None:
    spec = selection()
    pins = (BoundPin(0, 4, -1), BoundPin(1, -1, 1), BoundPin(2, 0, -1), BoundPin(9, 2, -1))
    world = replace(FIVE, yielded=[[0, 2, 4], [1, 3]])
    found = world.candidates()
    # Source 1 yielded items 1 and 3; item 0 is of the same host as 1, which may show one.
    chosen = select(BoundSelection(spec, pins=pins), found, k=5, seed=0, now_ms=0)
    assert slate_ids(found, chosen) == [4, 1, 2]
    assert list(chosen.placements) == [Placement.PIN, Placement.PIN, Placement.VALUE]


def test_a_pin_takes_what_its_source_yielded_first_whoever_yielded_it_too() -> None:
    pins = (BoundPin(0, -1, 1),)
    for yielded in ([[0, 1, 2, 3], [3, 1]], [[2, 0], [9, 3, 1]], [[], [3]]):
        world = replace(FIVE, yielded=yielded)
        for order in ([0, 1, 2, 3, 4], [4, 3, 1, 0, 2]):
            found = world.candidates(order)
            plan = BoundSelection(selection(), pins=pins)
            chosen = select(plan, found, k=2, seed=0, now_ms=0)
            assert slate_ids(found, chosen)[0] == 3
            assert chosen.placements[0] is Placement.PIN
    # A refreshed slate has no sources.
    found = replace(FIVE, yielded=[]).candidates()
    chosen = select(BoundSelection(selection(), pins=pins), found, k=2, seed=0, now_ms=0)
    assert not chosen.placements


def test_a_pin_further_down_than_there_are_items_closes_up() -> None:
    found = FIVE.candidates()
    plan = BoundSelection(selection(), pins=(BoundPin(4, 0, -1),))
    chosen = select(plan, found, k=5, seed=0, now_ms=0)
    assert slate_ids(found, chosen) == [2, 4, 0]
    assert list(chosen.placements) == [Placement.VALUE, Placement.VALUE, Placement.PIN]


NOW_MS = 12_000_000
ROWS = {
    "old": {"clicks": 50, "score": 0.1, "opens": 1_000, "host": "a"},
    "new": {"clicks": 1, "score": 0.1, "opens": 9_000_000, "host": "b"},
    "newer": {"clicks": 1, "score": 0.1, "opens": 9_500_000, "host": "c"},
    "unknown": {"clicks": 0, "score": 0.1, "host": "d"},
}
"""Items with clicks in the place of impressions, and opens in that of a time of publication."""


def bound(**parts: object) -> BoundSelection:
    """A selection over ``ROWS``."""
    table = tables_of(ROWS).by_entity["item"]
    return bound_over(selection(**parts), table)  # type: ignore[arg-type]


def bound_over(spec: Selection, table: EntityTable) -> BoundSelection:
    """A selection over a table, all of which may be shown."""
    guarantee = Guarantee.of(spec.new_items, table, NOW_MS)
    return bind(spec, table, np.ones(len(table), np.bool_), ["personal"], guarantee)


def nothing_owed(items: int) -> Guarantee:
    """A guarantee that all items have had."""
    nothing, none = np.zeros(items, np.int64), np.zeros(items, np.bool_)
    return Guarantee(5, 0, nothing, nothing, none, none)


def row_world(values: Sequence[float] = (4.0, 3.0, 2.0, 1.0)) -> World:
    """The items of ``ROWS`` with values, uncapped."""
    return World(
        terms=[[value] for value in values],
        weights=[1.0],
        hosts=[0] * 4,
        vectors=[[1.0, 0.0]] * 4,
        ties=[3, 1, 2, 0],
    )


def test_new_items_take_their_slot_until_they_had_their_impressions() -> None:
    spec = NewItems(position=1, impressions="clicks", until=3, published="opens", younger_than="1h")
    shown: Counter[str] = Counter()
    rows = {id_: dict(row) for id_, row in ROWS.items()}
    for seed in range(12):
        table = tables_of(rows).by_entity["item"]
        plan = bound_over(selection(new_items=spec), table)
        found = row_world((4.0, 1.0, 0.5, 3.0)).candidates()
        chosen = select(plan, found, k=2, seed=seed, now_ms=NOW_MS)
        top, second = (list(rows)[n] for n in slate_ids(found, chosen))
        assert top == "old"
        if Placement.NEW_ITEM in chosen.placements:
            shown[second] += 1
            rows[second]["clicks"] = int(rows[second]["clicks"]) + 1
        else:
            assert second == "unknown"
    # The one too old, and the one whose age nobody knows, had their place by value alone.
    assert shown == {"new": 2, "newer": 2}


def test_new_items_take_turns_by_the_seed() -> None:
    spec = NewItems(position=0, impressions="clicks", until=2)
    plan = bound(new_items=spec)
    found = row_world().candidates()
    shown = Counter(
        slate_ids(found, select(plan, found, k=1, seed=seed, now_ms=NOW_MS))[0]
        for seed in range(400)
    )
    # One impression is missing of two, two of the one that nobody saw yet.
    assert shown.keys() == {1, 2, 3}
    assert all(abs(shown[n] - share) < 50 for n, share in ((1, 100), (2, 100), (3, 200)))


@pytest.mark.parametrize(
    ("discount", "expected", "left_out"),
    [(None, ["new", "newer", "unknown"], 1), (0.7, ["new", "newer", "old", "unknown"], 0)],
)
def test_a_full_room_leaves_or_loses_value(
    discount: float | None, expected: list[str], left_out: int
) -> None:
    # 50 of 40 seats; the others have fewer than their capacity, or none is known.
    rows = {id_: {**row, "seats": 40} for id_, row in ROWS.items() if id_ != "unknown"}
    table = tables_of({**rows, "unknown": ROWS["unknown"]}).by_entity["item"]
    spec = LoadCap(load="clicks", capacity="seats", discount=discount)
    plan = bound_over(selection(load_cap=spec), table)
    found = row_world().candidates()
    chosen = select(plan, found, k=4, seed=0, now_ms=0)
    assert [list(ROWS)[n] for n in slate_ids(found, chosen)] == expected
    assert chosen.left_out == left_out
    # A value below zero is lowered, too.
    if discount is not None:
        assert plan.adjustments is not None
        assert plan.adjustments.tolist() == pytest.approx([-0.7, 0, 0, 0])


def test_a_load_cap_never_leaves_nothing() -> None:
    plan = BoundSelection(selection(), overloaded=np.ones(5, np.bool_))
    found = FIVE.candidates()
    assert len(select(plan, found, k=2, seed=0, now_ms=0).picked) == 2


def test_hosts_below_their_floor_get_a_boost_and_a_slot() -> None:
    # 52 impressions of 4 hosts: half an equal share is 6.5; b and c have 1, d has none.
    spec = ImpressionFloor(group="host", impressions="clicks", floor=0.5, boost=2.0, position=1)
    plan = bound(impression_floor=spec)
    assert plan.shortfall is not None
    assert plan.shortfall.tolist() == [0, 5.5, 5.5, 6.5]
    found = row_world((4.0, 1.0, 0.9, 0.1)).candidates()
    chosen = select(plan, found, k=4, seed=0, now_ms=0)
    assert [list(ROWS)[n] for n in slate_ids(found, chosen)] == ["old", "unknown", "new", "newer"]
    assert chosen.placements[1] is Placement.FLOOR
    boosted = row_world((2.0, 1.0, 0.1, 0.1)).candidates()
    assert slate_ids(boosted, select(plan, boosted, k=1, seed=0, now_ms=0)) == [1]


def draft_oracle(
    world: World, rankings: Sequence[Float32Array], k: int, firsts: Sequence[int]
) -> tuple[list[int], list[int]]:
    """Team draft by its definition; ``firsts``: who begins each round."""
    slate: list[int] = []
    teams: list[int] = []
    for first in firsts:
        for team in (first, 1 - first):
            options = feasible_after(world, slate)
            if len(slate) < k and options:
                slate.append(min(options, key=lambda n: (-rankings[team][n], world.ties[n])))
                teams.append(team)
    return slate, teams


@settings(max_examples=40, deadline=None)
@given(
    world=worlds().map(lambda w: replace(w, shares=[], sunk=[])),
    other=st.lists(NUMBER, min_size=12, max_size=12),
    k=st.integers(1, 8),
    seed=st.integers(0, 2**32),
)
def test_interleaving_is_a_team_draft(world: World, other: list[float], k: int, seed: int) -> None:
    found = world.candidates()
    rankings = [found.values, np.array(other[: len(world)], np.float32)]
    rivals = dict(zip("ab", rankings, strict=True))
    chosen = select(BoundSelection(selection()), found, k=k, seed=seed, now_ms=0, rivals=rivals)
    slate, teams = slate_ids(found, chosen), list(chosen.teams)
    assert chosen.policy == "team_draft"
    firsts = ["ab".index(team) for team in teams[::2]]
    oracle, credited = draft_oracle(world, rankings, k, firsts)
    assert slate == oracle
    assert teams == ["ab"[team] for team in credited]
    expected = [rankings["ab".index(t)][n] for n, t in zip(slate, teams, strict=True)]
    assert chosen.values.tolist() == expected


def test_either_team_picks_first_equally_often_in_every_round() -> None:
    world = replace(FIVE, hosts=[0] * 5)
    found = world.candidates()
    rivals = {"a": found.values, "b": found.values[::-1].copy()}
    plan = BoundSelection(selection())
    teams = [
        select(plan, found, k=4, seed=seed, now_ms=0, rivals=rivals).teams for seed in range(1_000)
    ]
    for position in (0, 2):
        # Four standard deviations of 1,000 tosses.
        assert abs(sum(t[position] == "a" for t in teams) - 500) < 64
    # The rounds do not follow one another's coin.
    assert abs(sum(t[0] == t[2] for t in teams) - 500) < 64


def test_what_is_pinned_is_credited_to_nobody() -> None:
    found = FIVE.candidates()
    rivals = {"a": found.values, "b": found.values}
    plan = BoundSelection(selection(), pins=(BoundPin(1, 4, -1),))
    chosen = select(plan, found, k=3, seed=3, now_ms=0, rivals=rivals)
    assert chosen.teams[1] == ""
    assert {chosen.teams[0], chosen.teams[2]} == {"a", "b"}


def test_a_pinned_id_that_the_catalogue_lacks_pins_nothing() -> None:
    plan = bound(pins=[Pin(position=1, id="gone"), Pin(position=0, source="personal")])
    assert plan.pins == (BoundPin(0, -1, 0), BoundPin(1, -1, -1))
    found = row_world().candidates()
    assert slate_ids(found, select(plan, found, k=2, seed=0, now_ms=0)) == [0, 1]


def test_what_reads_a_column_that_the_table_lacks_is_left_out() -> None:
    plan = bound(
        new_items=NewItems(position=0, impressions="no_such", until=5),
        load_cap=LoadCap(load="no_such", capacity="clicks"),
        impression_floor=ImpressionFloor(group="host", impressions="no_such", floor=1, position=1),
    )
    assert not plan.fixes
    assert plan.overloaded is None
    assert plan.adjustments is None
