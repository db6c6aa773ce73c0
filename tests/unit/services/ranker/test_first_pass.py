"""The first pass: which candidates the ranker gets, against dictionaries and the whole surface."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.domain_selection import ExplorationPolicy, LoadCap, Selection
from services.common.first_pass import first_pass_probabilities
from services.ranker.plan import SurfaceSpec
from services.ranker.scoring.first_pass import best, placed_values
from services.ranker.sources.personal import Personal
from services.ranker.sources.shared import Trending
from services.ranker.state import Tables, prepare
from services.ranker.types import (
    Call,
    Degradation,
    Part,
    Placement,
    RankCommand,
    RankResult,
    Reason,
)
from services.ranker.work import Work
from tests.unit.services.ranker.explain.traced_world import CUT, EVERYTHING, World
from tests.unit.services.ranker.fakes import (
    ITEM_VIEW,
    UNLEARNED,
    FakeModel,
    FakeUsers,
    Recorder,
    rows_of,
    spec_of,
    tables_of,
    vector_of,
)
from tests.unit.services.ranker.test_pipeline import make_pipeline

SIMPLE = SurfaceSpec(
    name="simple",
    entity="item",
    default_k=2,
    candidates=30,
    sources=(Personal("personal", 20), Trending("trending", 10, "clicks")),
    filters=(),
    caps={},
    selling_attribute=None,
    weights={},
    scored=5,
)
IDS = [f"i{n}" for n in range(24)]
ROW = st.fixed_dictionaries(
    {"clicks": st.integers(0, 5), "score": st.floats(-2, 2, width=16), "live": st.just(1)},
    optional={"host": st.sampled_from(["h1", "h2", "h3"]), "level": st.integers(0, 900)},
)
CATALOGUES = st.dictionaries(st.sampled_from(IDS), ROW, min_size=1, max_size=24)
SOME = {id_: {"clicks": n % 5, "live": 1, "score": 0.05 * n} for n, id_ in enumerate(IDS)}


def ranked(world: World, *commands: RankCommand) -> list[tuple[RankResult, Work]]:
    """Answers of one micro-batch, and what the pipeline left of each."""
    before = len(world.traces)
    results = world.rank(*commands)
    return [(r, t.work) for r, t in zip(results, world.traces[before:], strict=True)]


def scored_ids(work: Work) -> list[str]:
    """Ids of what the ranker got."""
    return [work.plan.table.ids[slot] for slot in work.slots.tolist()]


@given(
    keys=st.lists(st.sampled_from([-math.inf, -1.0, 0.0, 0.5, 2.0, math.inf]), max_size=12),
    count=st.integers(-1, 14),
    seed=st.integers(0, 9),
)
def test_the_best_are_those_of_a_sort(keys: list[float], count: int, seed: int) -> None:
    tie = np.random.default_rng(seed).permutation(len(keys)).astype(np.uint64)
    chosen = best(np.array(keys, np.float64), tie, count)
    expected = sorted(range(len(keys)), key=lambda at: (-keys[at], tie[at]))[: max(0, count)]
    assert np.flatnonzero(chosen).tolist() == sorted(expected)


def test_probabilities_are_sigmoids_of_lines() -> None:
    near = np.array([-200.0, 0.5, 900.0, np.nan], np.float32)
    logits = np.array([[0.1, -1], [0.1, np.nan], [0.0, 0.0], [0.0, 0.0]], np.float32)
    found = first_pass_probabilities(near, logits, np.array([0.4, 1.0], np.float32))
    assert found[0].tolist() == pytest.approx([1 / (1 + math.exp(79.9)), 0], abs=1e-12)
    assert found[1, 0] == pytest.approx(1 / (1 + math.exp(-0.3)))
    assert found[2].tolist() == [1, 1]
    assert np.isnan(found[1, 1])
    assert np.isnan(found[3]).all()


def oracle_values(
    rows: Mapping[str, Mapping[str, Any]], history: Sequence[str]
) -> dict[str, float]:
    """First-pass values of all items, by the definition."""
    user = sum((vector_of(id_) for id_ in history[-3:]), np.zeros(4)) + 0.15
    found = {}
    for id_, row in rows.items():
        host = vector_of(row["host"]) if row.get("host") else np.zeros(4)
        near = float(user @ (vector_of(id_) + host + row["clicks"] * 0.01))
        buy = 1 / (1 + math.exp(-(0.25 * near + 0.8 * row["score"] + 0.01)))
        refund = 1 / (1 + math.exp(-(0.1 * near - 0.3 * row["score"] + 0.01)))
        found[id_] = buy - 0.5 * refund
    return found


@settings(max_examples=25, deadline=None)
@given(
    rows=CATALOGUES,
    history=st.lists(st.sampled_from(IDS), max_size=4),
    k=st.integers(1, 8),
)
def test_the_ranker_gets_the_best_of_a_plain_surface(
    rows: Mapping[str, Mapping[str, Any]], history: list[str], k: int
) -> None:
    world = World(rows, FakeUsers({"ann": {"history": history}}), FakeModel(), surfaces=[SIMPLE])
    world.spec = replace(world.spec, money=())
    tables = tables_of(rows)
    world.state = prepare(world.model, world.spec, tables, None, exact_rows=100, now_ms=0)
    command = RankCommand("simple", "ann", "", k, forced_variants={"e": "a"})
    ((result, work),) = ranked(world, command)
    gathered = [work.plan.table.ids[slot] for slot in work.retrieved.tolist()]
    kept, count = scored_ids(work), max(5, k)
    assert len(kept) == min(count, len(gathered))
    # In the order in which sources yielded them.
    assert kept == [id_ for id_ in gathered if id_ in kept]
    values = oracle_values(rows, history)
    least = min(values[id_] for id_ in kept)
    assert all(values[id_] <= least + 1e-5 for id_ in gathered if id_ not in kept)
    if work.cut is None:
        assert len(gathered) <= count
    else:
        tie = work.plan.table.tie
        order = sorted(
            range(len(gathered)),
            key=lambda at: (-work.cut.scores[at], tie[work.cut.slots[at]]),  # type: ignore[union-attr]
        )
        assert np.flatnonzero(work.cut.kept).tolist() == sorted(order[:count])
        assert world.recorder.removals == {"first_pass": len(gathered) - count}
    # What the ranker did not get may come on the next page.
    assert result.more == (len(gathered) > len(result.slate.ids))


FIXED = (Placement.PIN, Placement.NEW_ITEM)


@settings(max_examples=25, deadline=None)
@given(
    rows=CATALOGUES,
    wanted=st.lists(st.sampled_from(IDS), max_size=4, unique=True),
    k=st.integers(1, 7),
    seed=st.integers(0, 2**64 - 1),
)
def test_what_is_promised_a_place_survives(
    rows: Mapping[str, Mapping[str, Any]], wanted: list[str], k: int, seed: int
) -> None:
    whole = replace(EVERYTHING, name="whole", candidates=30)
    cut = replace(whole, name="cut", scored=2)
    world = World(rows, model=FakeModel(), surfaces=[whole, cut])
    command = RankCommand("whole", "ann", "", k, seed=seed, candidate_ids=wanted, debug=True)
    (full, _), (result, work) = ranked(world, command, replace(command, surface="cut"))
    left = {work.plan.table.ids[slot] for slot in _left(work)}
    # What somebody named and the filters left was scored.
    assert {*wanted, "i1", "i2"} & left <= set(scored_ids(work))
    assert len(result.slate.ids) == len(full.slate.ids)
    for at, how in enumerate(full.slate.placements):
        if how in FIXED:
            assert result.slate.placements[at] is how
            assert result.slate.ids[at] == full.slate.ids[at]
        if how is Placement.FLOOR:
            assert result.slate.placements[at] is how
            hosts = [rows[slate.ids[at]].get("host") for slate in (result.slate, full.slate)]
            assert hosts[0] == hosts[1]


def _left(work: Work) -> list[int]:
    """Slots that the filters left."""
    slots = work.slots if work.cut is None else work.cut.slots
    found: list[int] = slots.tolist()
    return found


@settings(max_examples=12, deadline=None)
@given(rows=CATALOGUES, k=st.integers(1, 6), surface=st.sampled_from(["cut", UNLEARNED]))
def test_a_micro_batch_is_cut_like_single_requests(
    rows: Mapping[str, Mapping[str, Any]], k: int, surface: str
) -> None:
    users = FakeUsers({f"u{n}": {"history": IDS[n : n + 3]} for n in range(4)})
    commands = [RankCommand(surface, f"u{n}", "", k, rank_id=f"r{n}") for n in range(4)]
    together = ranked(World(rows, users), *commands)
    world = World(rows, users)
    for (result, work), command in zip(together, commands, strict=True):
        ((alone, alone_work),) = ranked(world, command)
        assert alone.slate.ids == result.slate.ids
        assert scored_ids(alone_work) == scored_ids(work)


def test_no_slate_is_short_because_of_caps() -> None:
    # The best by far are all of one host, of which one may be shown.
    rows = {
        id_: {"clicks": 0, "score": 2.0 if n < 12 else -2.0, "host": "h1" if n < 12 else f"h{n}"}
        for n, id_ in enumerate(IDS)
    }
    capped = replace(SIMPLE, caps={"host": 1}, sources=(Personal("personal", 24),))
    world = World(rows, model=FakeModel(), surfaces=[capped])
    ((result, work),) = ranked(
        world, RankCommand("simple", "ann", "", 4, forced_variants={"e": "a"})
    )
    assert len(result.slate.ids) == 4
    assert len(work.slots) == 5 + 3


def test_both_rankings_of_an_interleaving_get_their_best() -> None:
    world = World(SOME, model=FakeModel(), surfaces=[SIMPLE])
    for n in range(30):
        ((result, work),) = ranked(world, RankCommand("simple", f"u{n}", "", 2))
        if result.slate.teams:
            break
    assert work.cut is not None
    assert set(result.slate.teams) <= {"a", "b"}
    table, plan = work.plan.table, work.plan
    nearness = plan.items.vectors[work.cut.slots] @ world.traces[-1].moment.vectors[work.row]
    assert plan.first_pass is not None
    chances = first_pass_probabilities(
        nearness, plan.first_pass.item_logits[work.cut.slots], plan.first_pass.slopes
    )
    expected = set()
    for weights in work.teams.values():
        values = chances @ weights
        order = sorted(
            range(len(values)), key=lambda at: (-values[at], table.tie[work.cut.slots[at]])
        )
        expected |= set(order[:5])
    assert set(np.flatnonzero(work.cut.kept).tolist()) == expected
    assert len(expected) > 5


def test_under_load_fewer_are_gathered_and_fewer_scored() -> None:
    world = World(SOME, model=FakeModel(), surfaces=[replace(SIMPLE, scored=8, candidates=20)])
    command = RankCommand("simple", "ann", "", 2)
    ((_, work),) = ranked(world, command)
    assert (len(work.retrieved), len(work.slots)) == (20, 8)
    world.governor.answered([2.0] * 200)
    ((result, work),) = ranked(world, command)
    assert (len(work.retrieved), len(work.slots)) == (10, 4)
    assert result.degraded == (Degradation(Part.RETRIEVAL, Reason.OVERLOADED),)
    # Never fewer than are wanted.
    ((_, work),) = ranked(world, replace(command, k=9))
    assert len(work.slots) == 9


def test_what_is_not_finite_goes_last_and_is_counted() -> None:
    rows = {
        id_: {**row, "score": 1.75 if n % 3 else 0.5} for n, (id_, row) in enumerate(SOME.items())
    }
    world = World(rows, surfaces=[replace(SIMPLE, sources=(Personal("personal", 24),))])
    world.rank(RankCommand("simple", "ann", "", 2, dry_run=True))
    assert world.recorder.broken == {Part.SCORING: 16}
    ((result, work),) = ranked(world, RankCommand("simple", "ann", "", 2))
    assert {rows[id_]["score"] for id_ in scored_ids(work)} == {0.5}
    assert Degradation(Part.SCORING, Reason.NON_FINITE) in result.degraded


def test_the_load_cap_takes_no_place_among_the_scored() -> None:
    # The best by far are full.
    rows = {
        id_: {"clicks": 3, "seats": 3 if n < 18 else 9, "score": 2.0 if n < 18 else -2.0}
        for n, id_ in enumerate(IDS)
    }
    selection = Selection(load_cap=LoadCap(load="clicks", capacity="seats", at=1.0))
    world = World(rows, model=FakeModel(), surfaces=[replace(SIMPLE, selection=selection)])
    ((result, work),) = ranked(world, RankCommand("simple", "ann", "", 2))
    assert set(scored_ids(work)) <= set(IDS[18:])
    assert len(result.slate.ids) == 2


def test_without_a_first_pass_each_source_keeps_its_share() -> None:
    origin = np.array([0, 0, 0, 0, 0, 0, 1, 1, 1, 2], np.uint8)
    values = placed_values(origin, [60, 30, 1]).values
    kept = best(values.astype(np.float64), np.arange(10, dtype=np.uint64), 6)
    assert np.flatnonzero(kept).tolist() == [0, 1, 2, 3, 6, 7]
    world = World(SOME, model=FakeModel(), surfaces=[replace(SIMPLE, name=UNLEARNED)])
    ((_, work),) = ranked(world, RankCommand(UNLEARNED, "ann", "", 2))
    assert work.cut is not None
    assert not work.cut.learned
    assert len(work.slots) == 5
    assert world.model.logits == []


def test_given_items_are_all_scored() -> None:
    world = World(SOME, model=FakeModel(), surfaces=[SIMPLE])
    (result,) = world.rank(RankCommand("simple", "ann", "", call=Call.SCORE, item_ids=IDS))
    assert result.slate.ids == IDS


def test_only_items_that_changed_are_asked_about_again() -> None:
    model = FakeModel()
    spec = spec_of(model, SIMPLE, replace(SIMPLE, name="plain", scored=None))
    tables = tables_of(SOME)
    state = prepare(model, spec, tables, None, exact_rows=100, now_ms=0)
    assert model.logits == [24]
    assert state.plans["plain"].first_pass is None
    table = tables.by_entity["item"]
    changed = table.changed(
        [rows_of(ITEM_VIEW, {"i3": {"score": -2.0}, "new": {"score": 1.0}})], (), 2
    )
    later = Tables(tables.replica, 1, 2, {"item": changed}, lambda: None, lambda: 0)
    after = prepare(model, spec, later, state, exact_rows=100, now_ms=0)
    assert model.logits == [24, 2]
    found, before = after.plans["simple"].first_pass, state.plans["simple"].first_pass
    assert found is not None
    assert before is not None
    fresh = prepare(model, spec, later, None, exact_rows=100, now_ms=0).plans["simple"].first_pass
    assert fresh is not None
    assert np.array_equal(found.item_logits, fresh.item_logits)
    assert len(before.item_logits) == 24


def test_debug_tells_who_was_left_out_and_why() -> None:
    world = World(SOME, model=FakeModel(), surfaces=[SIMPLE])
    ((result, work),) = ranked(world, RankCommand("simple", "ann", "", 2, debug=True))
    assert result.explain is not None
    assert work.cut is not None
    told = result.explain()
    assert told.first_pass is not None
    assert told.first_pass.learned
    assert told.scored == 5
    assert len(told.first_pass.cut) == told.first_pass.candidates - 5
    places = [cut.place for cut in told.first_pass.cut]
    assert places == list(range(5, told.first_pass.candidates))
    values = dict(
        zip([work.plan.table.ids[s] for s in work.cut.slots.tolist()], work.cut.scores, strict=True)
    )
    for cut in told.first_pass.cut:
        assert cut.value == values[cut.id]
        assert cut.id not in scored_ids(work)
    for item in told.items:
        assert item.first_pass is not None
        assert item.first_pass.place < 5
        assert item.first_pass.value == values[item.id]


def test_a_surface_that_scores_all_has_no_first_pass() -> None:
    world = World(SOME, surfaces=[replace(CUT, scored=None)])
    ((result, work),) = ranked(world, RankCommand("cut", "ann", "", 2, debug=True))
    assert work.cut is None
    assert result.explain is not None
    told = result.explain()
    assert told.first_pass is None
    assert all(item.first_pass is None for item in told.items)


@settings(max_examples=40, deadline=None)
@given(rows=CATALOGUES, k=st.integers(1, 5), pace=st.booleans(), seed=st.integers(0, 2**64 - 1))
def test_a_draw_counts_the_same_candidates_whatever_the_first_pass_left_out(
    rows: dict[str, dict[str, Any]], k: int, pace: bool, seed: int
) -> None:
    selection = Selection(
        exploration=ExplorationPolicy(share=1.0, temperature=0.5),
        load_cap=LoadCap(load="clicks", capacity="level") if pace else None,
    )
    counted = []
    for scored, weights in ((None, {}), (5, {}), (5, {"buy": -1.0, "refund": 0.7})):
        surface = replace(SIMPLE, scored=scored, selection=selection, weights=weights)
        state = prepare(
            FakeModel(),
            spec_of(FakeModel(), surface),
            tables_of(rows),
            None,
            exact_rows=9,
            now_ms=0,
        )
        pipeline = make_pipeline(state, FakeUsers({}), Recorder())
        command = RankCommand("simple", "ann", "", k, seed=seed)
        (result,) = pipeline.finish(pipeline.begin([command]), [0])
        assert result.slate.drawn is not None
        counted.append(result.slate.drawn.considered_count)
    assert len(set(counted)) == 1
