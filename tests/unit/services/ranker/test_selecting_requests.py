"""What requests make of selection: seeds, exploration, interleaving, money; and what is logged."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from services.common.assign.assign import Definitions, Experiment, Variant
from services.common.domain_selection import (
    Diversity,
    ExplorationPolicy,
    Margin,
    NewItems,
    Pin,
    Selection,
)
from services.common.exploration import log_propensities
from services.feature.convert.slates import check_slate
from services.ranker.convert.events import slate_event
from services.ranker.convert.rank import rank_response
from services.ranker.pipeline import Pipeline
from services.ranker.plan import SurfaceSpec
from services.ranker.state import prepare
from services.ranker.types import RankCommand, RankResult, Traffic
from tests.unit.services.ranker.fakes import (
    FakeModel,
    FakeUsers,
    Recorder,
    spec_of,
    tables_of,
)
from tests.unit.services.ranker.test_pipeline import (
    NO_EXPERIMENTS,
    PLAIN,
    SOME,
    make_pipeline,
    rank,
)

ALWAYS = ExplorationPolicy(share=1.0, temperature=0.5)
DIVERSE = Diversity.model_validate({"relevance": 0.8})
NEW = NewItems(position=1, impressions="clicks", until=2)
VARIANTS = (
    Variant("a", 0.25),
    Variant("b", 0.25, {"buy": -1.0}),
    Variant("both", 0.5, interleave=("a", "b")),
)
INTERLEAVING = Definitions({"e": Experiment("e", "user", "s", VARIANTS)}, "hash")
BOTH = {"e": "both"}


def pipeline_of(
    surface: SurfaceSpec, definitions: Definitions = NO_EXPERIMENTS, **parts: object
) -> Pipeline:
    """A pipeline over one surface, six items."""
    model = FakeModel()
    spec = replace(spec_of(model, surface), **parts)  # type: ignore[arg-type]
    state = prepare(model, spec, tables_of(SOME), None, exact_rows=100, now_ms=0)
    return make_pipeline(state, FakeUsers({}), Recorder(), definitions)


def exploring(command: RankCommand) -> RankResult:
    """The answer of a surface where everybody explores."""
    surface = replace(PLAIN, selection=Selection(exploration=ALWAYS, diversity=DIVERSE))
    return rank(pipeline_of(surface), command)[0]


def test_a_seed_makes_the_slate() -> None:
    slates = [
        tuple(exploring(RankCommand("plain", "ann", "", 4, seed=seed)).slate.ids)
        for seed in (1, 1, 2, 3, 4, 5)
    ]
    assert slates[0] == slates[1]
    assert len(set(slates)) > 2


def test_batch_equals_single() -> None:
    surface = replace(
        PLAIN, selection=Selection(exploration=ALWAYS, diversity=DIVERSE, new_items=NEW)
    )
    commands = [RankCommand("plain", f"u{n}", "", 4, seed=n) for n in range(4)]
    together = rank(pipeline_of(surface), *commands)
    alone = [rank(pipeline_of(surface), command)[0] for command in commands]
    for one, other in zip(together, alone, strict=True):
        assert one.slate.ids == other.slate.ids
        assert one.slate.drawn is not None
        assert other.slate.drawn is not None
        assert one.slate.drawn.log_propensities == pytest.approx(
            other.slate.drawn.log_propensities, abs=1e-5
        )


def test_without_a_seed_the_rank_id_decides() -> None:
    surface = replace(PLAIN, selection=Selection(exploration=ALWAYS))
    pipeline = pipeline_of(surface)
    results = [rank(pipeline, RankCommand("plain", "ann", "", 4))[0] for _ in range(8)]
    assert len({tuple(result.slate.ids) for result in results}) > 2
    again = rank(pipeline_of(surface), RankCommand("plain", "ann", "", 4))[0]
    assert (again.rank_id, again.slate.ids) == (results[0].rank_id, results[0].slate.ids)


@pytest.mark.parametrize(
    "command",
    [
        RankCommand("plain", "ann", "", 4, dry_run=True),
        RankCommand("plain", "ann", "", 4, traffic=Traffic.TEST),
    ],
)
def test_who_looks_at_what_is_served_is_not_explored_on(command: RankCommand) -> None:
    result = exploring(command)
    assert result.policy == "mmr"
    assert result.slate.drawn is None


def test_without_predictions_nothing_is_drawn() -> None:
    model = FakeModel()
    model.broken = {"score"}
    surface = replace(PLAIN, selection=Selection(exploration=ALWAYS))
    state = prepare(model, spec_of(model, surface), tables_of(SOME), None, exact_rows=100, now_ms=0)
    pipeline = make_pipeline(state, FakeUsers({}), Recorder())
    (result,) = rank(pipeline, RankCommand("plain", "ann", "", 4))
    assert result.slate.drawn is None
    assert result.policy == "top_k"


@pytest.mark.parametrize("kind", ["mmr", "dpp"])
def test_a_logged_draw_is_accepted_and_gives_its_propensities_again(kind: str) -> None:
    surface = replace(
        PLAIN,
        selection=Selection(
            exploration=ALWAYS,
            diversity=DIVERSE.model_copy(update={"kind": kind}),
            new_items=NEW,
            pins=[Pin(position=0, id="i5")],
        ),
    )
    (result,) = rank(pipeline_of(surface), RankCommand("plain", "ann", "", 6, seed=7))
    event = slate_event(result, 0)
    served = event.slate_served
    check_slate("slate", served)
    assert served.policy == "softmax"
    kinds = [type(served).Placement.Name(how) for how in served.placements]
    drawn_kind = "PLACEMENT_DRAWN"
    assert kinds == ["PLACEMENT_PIN", "PLACEMENT_NEW_ITEM", *[drawn_kind] * 4]
    assert list(served.feasible_counts) == [0, 0, 4, 3, 2, 1]
    assert list(served.log_propensities[:2]) == [0, 0]
    logged = served.exploration
    assert logged.seed == 7
    count, positions = len(logged.candidate_ids), len(served.item_ids)
    assert logged.considered_count == count == 4
    weights = np.array(logged.weights, np.float32)
    base = np.frombuffer(logged.terms, "<f4").reshape(count, -1) @ weights
    masks = np.frombuffer(logged.feasible, np.uint8).reshape(positions, -1)
    again = log_propensities(
        base.astype(np.float64),
        np.unpackbits(masks, axis=1, count=count, bitorder="little").astype(bool),
        np.array(logged.chosen),
        np.frombuffer(logged.similarities, np.uint8).reshape(positions, count),
        temperature=logged.temperature,
        similarity_weight=logged.similarity_weight,
    )
    assert again == pytest.approx(np.array(served.log_propensities), abs=1e-9)
    for position in range(2, positions):
        assert logged.candidate_ids[logged.chosen[position]] == served.item_ids[position]


def test_a_variant_interleaves_two_others() -> None:
    pipeline = pipeline_of(PLAIN, INTERLEAVING)
    one, a, b = (
        rank(pipeline, RankCommand("plain", "ann", "", 6, forced_variants={"e": variant}))[0]
        for variant in ("both", "a", "b")
    )
    assert one.policy == "team_draft"
    assert one.assignments[0].variant_key == "both"
    assert sorted(one.slate.ids) == sorted(SOME)
    assert sorted(one.slate.teams) == ["a"] * 3 + ["b"] * 3
    # Each team's first is the top of its own ranking, unless the other had taken it.
    first = {team: one.slate.teams.index(team) for team in "ab"}
    leader = one.slate.teams[0]
    top = {"a": a.slate.ids, "b": b.slate.ids}
    assert one.slate.ids[0] == top[leader][0]
    other = "b" if leader == "a" else "a"
    assert one.slate.ids[first[other]] in top[other][:2]
    by_id = {
        team: dict(zip(r.slate.ids, r.slate.values, strict=True))
        for team, r in (("a", a), ("b", b))
    }
    for id_, team, value in zip(one.slate.ids, one.slate.teams, one.slate.values, strict=True):
        assert value == pytest.approx(by_id[team][id_], abs=1e-5)
    assert list(rank_response(one).slate.interleaving_teams) == list(one.slate.teams)
    event = slate_event(one, 0)
    check_slate("slate", event.slate_served)
    assert list(event.slate_served.interleaving_teams) == list(one.slate.teams)


def test_money_counts_times_the_margin_in_one_currency() -> None:
    # 'clicks' stands in for the price, in minor units; host h3 for a currency without a rate.
    surface = replace(PLAIN, margin=Margin(price="clicks", share=0.5, currency="host"))
    rates = {f"h{n}": 10.0 if n == 4 else 1.0 for n in range(6) if n != 3}
    pipeline = pipeline_of(surface, money=("buy",), currency_rates=rates)
    (result,) = rank(pipeline, RankCommand("plain", "ann", "", 6))
    earned = {f"i{n}": 0.5 * n * rates.get(f"h{n}", 0.0) for n in range(6)}
    assert result.slate.ids[0] == "i4"
    for id_, value, (buy, refund) in zip(
        result.slate.ids, result.slate.values, result.slate.predictions, strict=True
    ):
        assert value == pytest.approx(earned[id_] * buy - 0.5 * refund, rel=1e-4)
