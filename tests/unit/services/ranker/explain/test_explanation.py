"""Explanations of debug requests, held to what the slates say themselves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.explain.explanation import MAX_FEATURES, Explanation
from services.ranker.filters.tree import Compare, Operator
from services.ranker.types import Placement, RankCommand, RankResult, Traffic
from tests.unit.services.ranker.explain.test_replay import IDS, ROW, ROWS, USER
from tests.unit.services.ranker.explain.traced_world import ORIGIN, SURFACES, World
from tests.unit.services.ranker.fakes import FakeUsers


def explained(
    world: World, surface: str = "everything", k: int = 5, **fields: Any
) -> tuple[RankResult, Explanation]:
    """The answer to a debug request of "ann", explained."""
    (result,) = world.rank(RankCommand(surface, "ann", "", k, debug=True, **fields))
    assert result.explain is not None
    return result, result.explain()


@settings(max_examples=25, deadline=None)
@given(
    rows=st.dictionaries(IDS, ROW, min_size=1, max_size=20),
    user=USER,
    surface=st.sampled_from(SURFACES),
    variant=st.sampled_from(["a", "b", "both"]),
)
def test_an_explanation_is_of_its_slate(
    rows: Mapping[str, Mapping[str, Any]], user: dict[str, Any], surface: Any, variant: str
) -> None:
    world = World(rows, FakeUsers({"ann": user}), share=0.0)
    result, told = explained(world, surface.name, forced_variants={"e": variant})
    slate = result.slate
    assert result.traffic is Traffic.TEST
    assert slate.drawn is None
    assert [item.id for item in told.items] == list(slate.ids)
    assert [item.value for item in told.items] == slate.values.tolist()
    work = world.traces[0].work
    cut = [] if told.first_pass is None else told.first_pass.cut
    assert told.scored + len(cut) + sum(count for _, count in told.removed_by) == len(
        set(work.retrieved.tolist()) | set(work.slots.tolist())
    )
    assert len(told.removed) == sum(count for _, count in told.removed_by)
    assert sum(count.shown for count in told.sources) + slate.sources.count("fallback") == len(
        slate.ids
    )
    places = [item.value_place for item in told.items]
    assert len(set(places)) == len(places)
    assert all(place < told.scored for place in places)
    for at, item in enumerate(told.items):
        names = [found.source for found in item.found_by]
        assert slate.sources[at] in [*names[:1], "fallback"]
        assert item.placement is (slate.placements[at] if slate.placements else Placement.VALUE)
        if rows[item.id]["score"] > 1.5:
            # The model has no number for it.
            continue
        assert float(item.terms.sum()) == pytest.approx(item.value, rel=1e-4, abs=1e-4)
        assert len(item.features) <= MAX_FEATURES
        assert item.like in ("", *slate.ids[:at])
        assert (item.likeness > 0) == bool(item.like)


def slot(world: World, id_: str) -> int:
    """The slot of an item."""
    return world.state.plans["plain"].table.slot_of[id_]


def test_a_debug_request_is_captured_whatever_the_share() -> None:
    world = World(ROWS, FakeUsers({}), share=0.0)
    _, told = explained(world)
    assert told.captured
    assert told.versions.origin == ORIGIN
    assert [trace.captured for trace in world.traces] == [True]
    _, dry = explained(world, dry_run=True)
    assert not dry.captured
    assert len(world.traces) == 1


def test_filters_and_sources_are_told() -> None:
    rows = ROWS | {"i2": {"live": 0}, "i3": {"live": 1, "seats": 0}}
    world = World(rows, FakeUsers({"ann": {"bought": ["i4", "i5"]}}))
    wanted = Compare("clicks", Operator.LESS, 3)
    result, told = explained(world, filter=wanted, candidate_ids=["i2", "i3", "i6"])
    by_reason = dict(told.removed_by)
    assert list(by_reason)[-1] == "caller_filter"
    assert by_reason["require:live"] == 1
    assert by_reason["positive:seats"] == 1
    bought = {id_ for id_, reason in told.removed if reason == "not_in_list:bought"}
    assert 1 <= len(bought) == by_reason["not_in_list:bought"]
    assert bought <= {"i4", "i5"}
    assert ("i2", "require:live") in told.removed
    assert [count.source for count in told.sources] == [
        "personal",
        "trending",
        "editorial",
        "caller",
    ]
    found = {count.source: count.found for count in told.sources}
    assert found["caller"] == 3
    by_id = {item.id: item for item in told.items}
    assert "i2" not in by_id
    for id_, item in by_id.items():
        assert item.found_by, (id_, result.slate.sources)


def test_diversity_and_pacing_say_what_they_took() -> None:
    rows = {
        f"i{n}": {"clicks": 5 * n, "live": 1, "seats": 3, "score": 1.0 - 0.1 * n, "host": f"h{n}"}
        for n in range(6)
    }
    world = World(rows, FakeUsers({}))
    result, told = explained(world, k=6)
    work, vectors = world.traces[0].work, world.state.plans["everything"].items.vectors
    assert work.spreads
    (spread, *_) = work.spreads
    for at, item in enumerate(told.items):
        own = vectors[slot(world, item.id)]
        likest = 0.0
        for other in result.slate.ids[:at]:
            theirs = vectors[slot(world, other)]
            cosine = float(own @ theirs / np.linalg.norm(own) / np.linalg.norm(theirs))
            likest = max(likest, round(max(0.0, cosine) * 255) / 255)
        assert item.likeness == pytest.approx(likest, abs=1 / 255)
        assert item.likeness_cost == pytest.approx(item.likeness * spread * 0.3 / 0.7)
    discounted = [item for item in told.items if item.pacing < 0]
    assert discounted
    for item in discounted:
        assert rows[item.id]["clicks"] >= rows[item.id]["seats"]


def test_without_predictions_there_is_still_an_explanation() -> None:
    world = World(ROWS, FakeUsers({}))
    world.model.broken = {"score"}
    result, told = explained(world)
    assert [item.id for item in told.items] == list(result.slate.ids)
    assert told.objectives == ()
    assert all(item.features == () and not len(item.terms) for item in told.items)
