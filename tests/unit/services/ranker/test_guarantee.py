"""What new items are guaranteed: who is behind, whose turn it is, and that promises are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from services.common.domain_selection import NewItems, Selection
from services.common.errors import Unavailable
from services.ranker.arrays import Int64Array
from services.ranker.feature_rows import empty_rows
from services.ranker.filters.rules import Positive
from services.ranker.guarantee import SCHEDULED_SHARE, Guarantee, turns
from services.ranker.guarantee_metrics import GuaranteeMetrics, standings_of
from services.ranker.plan import SurfaceSpec
from services.ranker.selection.select import select
from services.ranker.sources.base import Asked
from services.ranker.sources.guaranteed import MOST_DRAWN, Guaranteed
from services.ranker.sources.shared import Trending
from services.ranker.state import ServingState, prepare
from services.ranker.types import Placement
from tests.unit.services.ranker.fakes import FakeModel, spec_of, tables_of
from tests.unit.services.ranker.slate_worlds import World

HOUR_MS = 3_600_000
SPEC = NewItems(position=1, impressions="clicks", until=4, published="opens", younger_than="1h")
NOW_MS = 10 * HOUR_MS


def guarantee_of(
    rows: Mapping[str, Mapping[str, object]], now_ms: int = NOW_MS, spec: NewItems = SPEC
) -> Guarantee:
    found = Guarantee.of(spec, tables_of(rows).by_entity["item"], now_ms)
    assert found is not None
    return found


def aged(share: float, had: int) -> dict[str, object]:
    """An item that is new for a share of the time, and had impressions."""
    return {"opens": NOW_MS - round(share * HOUR_MS), "clicks": had, "seats": 1}


@given(share=st.floats(-0.5, 1.5, allow_nan=False), had=st.integers(0, 6), until=st.integers(1, 5))
def test_impressions_fall_due_one_by_one(share: float, had: int, until: int) -> None:
    row = aged(share, had)
    age = (NOW_MS - int(str(row["opens"]))) / HOUR_MS
    found = guarantee_of({"item": row}, spec=SPEC.model_copy(update={"until": until}))
    (needed,) = found.needed(np.zeros(1, np.int64), NOW_MS)
    due = [n for n in range(until) if 0 <= age < 1 and age >= n * SCHEDULED_SHARE / until]
    if abs(age % (SCHEDULED_SHARE / until)) > 1e-6 and len(due) > had:
        assert needed == pytest.approx((until - had) / max(1 - age, 0.001) / HOUR_MS)
    elif len(due) <= had and abs(age % (SCHEDULED_SHARE / until)) > 1e-6:
        assert needed == 0


def test_what_is_not_new_or_of_unknown_age_is_owed_nothing() -> None:
    rows = {"early": aged(-0.1, 0), "late": aged(1.1, 0), "ageless": {"clicks": 0}}
    found = guarantee_of({**rows, "new": aged(0.5, 0)})
    assert found.needed(np.arange(4), NOW_MS)[:3].tolist() == [0, 0, 0]
    assert found.needed(np.arange(4), NOW_MS)[3] > 0


def test_without_an_age_what_lacks_most_needs_most() -> None:
    spec = NewItems(position=0, impressions="clicks", until=3)
    rows = {"a": {"clicks": 0}, "b": {"clicks": 2}, "c": {"clicks": 7}}
    assert guarantee_of(rows, spec=spec).needed(np.arange(3), NOW_MS).tolist() == [3, 1, 0]


def test_turns_come_in_proportion_to_what_is_needed() -> None:
    needed = np.array([0.0, 1.0, 2.0, 5.0])
    tie = np.array([11, 12, 13, 14], np.uint64)
    draws = 20_000
    order = turns(needed, tie, np.arange(draws, dtype=np.uint64))
    assert np.isinf(order[:, 0]).all()
    shares = np.bincount(order.argmin(axis=1), minlength=4) / draws
    assert shares == pytest.approx([0, 1 / 8, 2 / 8, 5 / 8], abs=0.02)
    # Of those that are left, the next is drawn the same way.
    second = np.argsort(order, axis=1)[order.argmin(axis=1) == 3][:, 1]
    assert np.bincount(second, minlength=4)[1:3] / len(second) == pytest.approx(
        [1 / 3, 2 / 3], abs=0.02
    )
    # Who else takes part moves nobody.
    assert (turns(needed[2:], tie[2:], np.arange(9, dtype=np.uint64)) == order[:9, 2:]).all()


@settings(max_examples=6, deadline=None)
@given(
    seed=st.integers(0, 2**32),
    until=st.integers(1, 6),
    for_few=st.sampled_from([0.0, 0.3]),
    lag=st.sampled_from([0, 5]),
)
def test_what_traffic_can_pay_is_kept(seed: int, until: int, for_few: float, lag: int) -> None:
    """Items appear evenly; there are 1.6 times the impressions that they need, in daylight only.

    ``for_few``: the share of items that half of the visitors may not see. ``lag``: impressions
    are known so many visits later.
    """
    random = np.random.default_rng(seed)
    within = 48  # Half hours.
    items = 2 * within
    published = np.arange(items) // 2 + within
    visits = 1.6 * 2 * until
    few = random.random(items) < for_few
    tie = random.integers(0, 2**64, items, np.uint64)
    had, known = np.zeros(items, np.int64), np.zeros(items, np.int64)
    in_time = np.zeros(items, np.int64)
    late: list[int] = []
    clock = before_anything(published, until, within)
    for now in range(within, 3 * within):
        # Nobody comes in the third of the day that is night.
        come = 0 if now % within < within // 3 else round(1.5 * visits)
        for _ in range(come):
            may_see = ~few if random.random() < 0.5 else np.ones(items, np.bool_)
            needed = replace(clock, had=known, open=may_see & (known < until)).needed(
                np.arange(items), now * 1_000
            )
            if not needed.any():
                continue
            draw = random.integers(0, 2**64, 1, np.uint64)
            shown = int(turns(needed, tie, draw)[0].argmin())
            assert may_see[shown]
            had[shown] += 1
            late.append(shown)
            if len(late) > lag:
                known[late.pop(0)] += 1
        ended = published + within == now
        in_time[ended] = had[ended]
    ended = published + within < 3 * within
    missing = np.maximum(until - in_time[ended], 0).sum()
    # Who comes is chance: now and then an item has one too few.
    assert missing <= max(1, 0.01 * until * ended.sum())


def before_anything(published: Int64Array, until: int, within: int) -> Guarantee:
    """A guarantee over items published at these seconds, before they had anything."""
    every = np.ones(len(published), np.bool_)
    nothing = np.zeros(len(published), np.int64)
    return Guarantee(until, within * 1_000, nothing, published * 1_000, every, every)


# --- through source and slot ---------------------------------------------------------------------

ROWS = {
    "old": {"clicks": 50, "opens": 1, "seats": 3},
    "behind": aged(0.6, 1),
    "hopeless": aged(0.99, 0),
    "in time": aged(0.3, 2),
    "done": aged(0.5, 4),
    "sold out": {**aged(0.5, 0), "seats": 0},
    "withdrawn": aged(0.5, 0),
}
SURFACE = SurfaceSpec(
    "plain",
    "item",
    5,
    99,
    (Trending("trending", 9, "clicks"), Guaranteed("new_items", 2)),
    (Positive("seats"),),
    {},
    None,
    {},
    Selection(new_items=SPEC),
)


def state_of(rows: Mapping[str, Mapping[str, object]]) -> ServingState:
    tables = tables_of(rows)
    gone = tables.by_entity["item"].changed([], ["withdrawn"], 2)
    tables = replace(tables, by_entity={"item": gone}, number=2)
    model = FakeModel()
    return prepare(model, spec_of(model, SURFACE), tables, None, exact_rows=100, now_ms=NOW_MS)


def brought(state: ServingState, seeds: list[int], now_ms: int = NOW_MS) -> list[list[str]]:
    """What the source yields for requests with these seeds."""
    plan, visitors = state.plans["plain"], [f"u{n}" for n in range(len(seeds))]
    asked = Asked(
        model=state.model,
        vectors=np.zeros((len(seeds), 4), np.float32),
        rows=empty_rows(visitors),
        places=range(len(seeds)),
        candidate_ids=[()] * len(seeds),
        count_unknown=lambda _: None,
        items=len(plan.table),
        seeds=seeds,
        now_ms=now_ms,
    )
    (source,) = [source for name, source in plan.sources if name == "new_items"]
    return [[plan.table.ids[slot] for slot in slots.tolist()] for slots in source.ask(asked)]


def test_the_source_brings_what_is_behind_and_may_be_shown() -> None:
    state = state_of(ROWS)
    seeds = list(range(200))
    found = brought(state, seeds)
    assert {frozenset(ids) for ids in found} == {frozenset({"behind", "hopeless"})}
    first = Counter(ids[0] for ids in found)
    # The one needs 3 in 0.4 hours, the other 4 in 0.01: both have turns, as they need them.
    assert 0 < first["behind"] < first["hopeless"]
    assert found == [brought(state, [seed])[0] for seed in seeds]
    # Later, nobody is new any more.
    assert brought(state, [1], NOW_MS + HOUR_MS) == [[]]


def test_the_slot_is_the_first_s_whom_the_source_brought_and_filters_left() -> None:
    state = state_of({**ROWS, **{f"n{n}": aged(0.5, 0) for n in range(8)}})
    plan = state.plans["plain"]
    table, size = plan.table, len(plan.table)
    world = World(
        terms=[[0.0]] * size,
        weights=[1.0],
        hosts=[0] * size,
        vectors=[[1.0, 0.0]] * size,
        ties=table.tie.tolist(),
    )
    for seed in range(60):
        ((first, second),) = brought(state, [seed])
        # All others of the new items come by another source, the source's first is filtered.
        for removed, wanted in (("", first), (first, second)):
            left = [n for n, id_ in enumerate(table.ids) if id_ not in (removed, "sold out")]
            left = [n for n in left if table.alive[n]]
            found = world.candidates(left)
            chosen = select(plan.selection, found, k=3, seed=seed, now_ms=NOW_MS)
            assert chosen.placements[1] is Placement.NEW_ITEM
            assert table.ids[found.slots[chosen.picked[1]]] == wanted


def test_when_nobody_is_behind_the_slot_is_open() -> None:
    state = state_of({"a": aged(0.3, 2), "b": aged(0.5, 4), "c": aged(0.1, 1)})
    assert brought(state, [1]) == [[]]
    found = World(
        terms=[[1.0], [2.0], [3.0]],
        weights=[1.0],
        hosts=[0] * 3,
        vectors=[[1.0, 0.0]] * 3,
        ties=[1, 2, 3],
    ).candidates()
    chosen = select(state.plans["plain"].selection, found, k=3, seed=1, now_ms=NOW_MS)
    assert found.slots[chosen.picked].tolist() == [2, 1, 0]


def test_metrics_say_how_far_behind_the_guarantee_is() -> None:
    registry = CollectorRegistry()
    current: list[ServingState] = []

    def in_force() -> ServingState:
        if not current:
            raise Unavailable("nothing is loaded", reason="NOT_READY")
        return current[0]

    GuaranteeMetrics(registry, lambda: standings_of(in_force, NOW_MS))

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"podium_ranker_{name}", {"surface": "plain"})

    assert value("new_items") is None
    current.append(state_of(ROWS))
    # "behind", "hopeless", "in time" and "done" are new and on sale.
    assert value("new_items") == 4
    assert value("new_items_due") == 4 + 4 + 2 + 3
    assert value("new_items_behind") == 3 + 4
    needed_an_hour = 3 / 0.4 + 4 / 0.01 + 2 / 0.7
    assert value("new_items_needed_per_second") == pytest.approx(needed_an_hour / 3_600)


def test_of_very_many_those_that_need_most_draw() -> None:
    rows = {f"n{n}": aged(0.5, 0) for n in range(MOST_DRAWN)}
    rows |= {f"late{n}": aged(0.5, 2) for n in range(40)}
    found = brought(state_of(rows), list(range(300)))
    assert all(len(set(ids)) == 2 for ids in found)
    assert {id_[0] for ids in found for id_ in ids} == {"n"}
