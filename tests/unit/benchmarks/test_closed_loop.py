"""What a slate is worth by the truth, and what the closed loop makes of it."""

from __future__ import annotations

from itertools import permutations

import numpy as np
import pytest
from rich.console import Console

from benchmarks.closed_loop_arms import (
    GUARANTEE,
    SHOWN,
    guaranteeing,
    only_sources,
    selecting,
    without_source,
)
from benchmarks.closed_loop_jobs import NewCourses, Orders, WorldResult
from benchmarks.closed_loop_order import spearman
from benchmarks.closed_loop_report import (
    NO_EXPLORATION,
    arm_rows,
    by_visitor,
    exploration_costs,
    exposures,
    show,
)
from benchmarks.closed_loop_run import ORACLE
from benchmarks.closed_loop_truth import (
    best_slate,
    course_values,
    examination,
    intents_of,
    slate_value,
)
from benchmarks.closed_loop_world import SHIPPED, UNPOSITIONED
from offline.simulator.parameters import WorldParameters
from offline.simulator.policy import Slate
from offline.simulator.scene import Visitor
from offline.simulator.steps import BuyAttempt, Happen
from offline.simulator.world import World
from services.common.domain_selection import Diversity, NewItems, Selection
from services.ranker.plan import SurfaceSpec
from services.ranker.sources.personal import Personal
from services.ranker.sources.shared import NewItems as NewItemsSource
from services.ranker.sources.shared import Trending

END_MS = 1_790_000_000_000
DRAWS = 3_000


@pytest.fixture(scope="module")
def world() -> World:
    """A small world at the end of its week."""
    made = World(
        WorldParameters(END_MS, weeks=1, users=40, hosts=6, courses=40, seed=5, position_bias=1.0)
    )
    for _ in made.run_until(END_MS):
        pass
    return made


def test_the_value_of_a_slate_is_what_people_do_on_average(world: World) -> None:
    person, now_ms = 3, END_MS
    visitor = Visitor(person, signed_in=True, intent=int(world.people.focus[person][0]))
    values = course_values(world, visitor, now_ms)
    can_buy = np.flatnonzero(values.purchases > 0)
    rows = can_buy[np.argsort(-values.purchases[can_buy])][::4][:6].tolist()
    assert len(rows) == 6
    weights = examination(len(rows), world.parameters.position_bias)
    rng = np.random.default_rng(0)
    opened, wanted = np.zeros(DRAWS), np.zeros(DRAWS)
    for draw in range(DRAWS):
        planned = world.behaviour.react(
            visitor,
            Slate("course", rows, rows, [], []),
            surface="courses",
            rank_id="r",
            now_ms=now_ms,
            rng=rng,
        )
        steps = [step for _, step in planned]
        opened[draw] = sum(isinstance(s, Happen) and s.record.type == "click" for s in steps)
        wanted[draw] = sum(isinstance(s, BuyAttempt) for s in steps)
        # What was examined and left may be blocked; here everybody comes back as they were.
        world.people.blocked[person] = False
        world.people.has_blocked[person] = False
    for drawn, expected in ((opened, values.opens), (wanted, values.purchases)):
        error = 4 * drawn.std() / np.sqrt(DRAWS)
        assert abs(drawn.mean() - slate_value(expected, rows, weights)) < error


def test_what_cannot_be_sold_or_paid_for_is_worth_nothing(world: World) -> None:
    person, now_ms = 4, END_MS
    visitor = Visitor(person, signed_in=True, intent=-1)
    before = course_values(world, visitor, now_ms)
    row = int(np.argmax(before.purchases))
    assert before.purchases[row] > 0
    assert before.revenue_minor[row] > 0
    spent = int(world.people.spent_minor[person])
    world.people.spent_minor[person] = world.people.weekly_budget_minor[person]
    assert course_values(world, visitor, now_ms).purchases.max() == 0
    world.people.spent_minor[person] = spent
    world.people.bought[person, row] = True
    assert course_values(world, visitor, now_ms).purchases[row] == 0
    world.people.bought[person, row] = False
    assert course_values(world, visitor, now_ms).purchases[row] == before.purchases[row]


def test_the_oracle_s_slate_is_the_best_there_is() -> None:
    values = np.array([0.2, 0.9, 0.1, 0.5, 0.4])
    weights = examination(3, 0.7)
    best = max(slate_value(values, rows, weights) for rows in permutations(range(5), 3))
    assert slate_value(values, best_slate(values, 3).tolist(), weights) == best


def test_the_chances_of_intents_are_those_of_the_visits(world: World) -> None:
    person, rng = 6, np.random.default_rng(1)
    world.people.intent[person] = int(world.people.focus[person][1])
    chances = dict(intents_of(world, person))
    assert sum(chances.values()) == pytest.approx(1.0)
    drawn = []
    for _ in range(DRAWS):
        before = int(world.people.intent[person])
        drawn.append(world.people.choose_intent(person, rng))
        world.people.intent[person] = before
    for intent, chance in chances.items():
        assert drawn.count(intent) / DRAWS == pytest.approx(chance, abs=0.04)


def surface() -> SurfaceSpec:
    """Two sources, diversity and a slot for new items."""
    slot = NewItems(
        position=5, impressions="seen_7d", until=100, published="opens_ms", younger_than="7d"
    )
    return SurfaceSpec(
        name="courses",
        entity="course",
        default_k=10,
        candidates=50,
        sources=(
            Personal("personal", 30),
            Trending("trending", 20, "clicks_7d"),
            NewItemsSource("new_items", 20, "enrolment_opens_ms", None),
        ),
        filters=(),
        caps={},
        selling_attribute=None,
        weights={},
        selection=Selection(diversity=Diversity(relevance=0.9), new_items=slot),
    )


def test_an_arm_changes_what_it_names_and_nothing_else() -> None:
    plain = surface()
    assert [s.name for s in without_source("personal")(plain).sources] == ["trending", "new_items"]
    assert [s.name for s in only_sources("personal")(plain).sources] == ["personal"]
    bare = selecting(diversity=None)(plain).selection
    assert bare.diversity is None
    assert bare.new_items == plain.selection.new_items
    smaller = guaranteeing(8, "72h")(plain)
    assert smaller.selection.new_items is not None
    assert smaller.selection.new_items.until == 8
    assert smaller.selection.diversity == plain.selection.diversity
    assert smaller.selection.new_items.younger_than == "72h"
    assert smaller.sources == plain.sources


def result(seed: int, gain: float) -> WorldResult:
    """A world in which everything but the arm "x" is worth ``gain`` less than what is shown."""
    rng = np.random.default_rng(seed)
    person = rng.integers(0, 60, 200).tolist()
    shown = rng.random(200)
    values = {
        SHOWN: shown,
        "x": shown + rng.normal(0, 0.01, 200) - gain,
        NO_EXPLORATION: shown,
        "drawn at 0.3": shown - 0.1,
        ORACLE: shown + 1,
    }
    found = {arm: drawn.tolist() for arm, drawn in values.items()}
    return WorldResult(
        seed=seed,
        biased=False,
        person=person,
        purchases=found,
        opens=found,
        revenue_minor=found,
        new_courses=[],
        orders=None,
        seconds={},
    )


def test_a_part_earns_its_place_where_slates_are_worse_without_it() -> None:
    rows = {row.arm: row for row in arm_rows([result(1, 0.05), result(2, 0.05)])}
    assert rows["x"].verdict == "worse"
    assert rows["x"].less_shipped.mean == pytest.approx(-0.05, abs=0.01)
    assert rows[SHOWN].less_shipped.mean == 0
    assert rows[ORACLE].share_of_oracle == pytest.approx(1.0)
    level = {row.arm: row for row in arm_rows([result(1, 0.0), result(2, 0.0)])}
    assert level["x"].verdict == "no difference seen"
    gone = {row.arm: row for row in arm_rows([result(1, -0.05), result(2, -0.05)])}
    assert gone["x"].verdict == "better"


def test_the_cost_of_a_share_is_that_share_of_what_drawing_costs() -> None:
    worlds = [result(1, 0.0)]
    plain = by_visitor(worlds[0].person, worlds[0].purchases[NO_EXPLORATION]).mean()
    costs = exploration_costs(worlds)["drawn at 0.3"]
    assert costs[1.0].mean == pytest.approx(0.1 / plain)
    assert costs[0.02].mean == pytest.approx(0.002 / plain)


def test_a_visitor_counts_once_however_often_they_came() -> None:
    np.testing.assert_allclose(by_visitor([7, 2, 7, 7], [1.0, 5.0, 2.0, 3.0]), [5.0, 2.0])


def test_only_courses_that_had_three_days_are_held_to_the_guarantee() -> None:
    found = NewCourses(
        until=10,
        within_hours=72,
        slates=50,
        age_hours=[144.0, 96.0, 72.0, 24.0],
        impressions=[12, 10, 9, 0],
        placed=[8, 5, 5, 0],
    )
    figures = exposures(found)
    assert figures["courses"] == 3
    assert figures["least"] == 9
    assert figures["share_guaranteed"] == pytest.approx(2 / 3, abs=1e-4)
    assert exposures(found.model_copy(update={"age_hours": [24.0] * 4}))["courses"] == 0


def test_all_figures_are_shown_and_told() -> None:
    plain = result(1, 0.05)
    orders = Orders(
        correlations={SHIPPED: [0.6, 0.7], UNPOSITIONED: [0.5, 0.5]},
        learned=[1.0, 0.5],
        true=[1.0, 0.4],
    )
    biased = result(2, 0.05).model_copy(update={"biased": True, "orders": orders})
    console = Console(width=140, record=True)
    figures = show(console, [plain, biased])
    assert figures["position"]["difference"][0] == pytest.approx(0.15)
    assert figures["arms"]["x"]["less_shipped"][0] == pytest.approx(-0.05, abs=0.01)
    assert GUARANTEE not in figures["arms"]
    assert "trained without positions" in console.export_text()


def test_rank_correlation_is_one_for_the_same_order_and_minus_one_for_the_other() -> None:
    values = np.array([3.0, 1.0, 2.0, 5.0])
    assert spearman(values, values**3) == pytest.approx(1.0)
    assert spearman(values, -values) == pytest.approx(-1.0)
