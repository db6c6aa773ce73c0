"""Pages through random small worlds: nothing twice, nothing left behind, no empty page."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.domain_selection import Selection
from services.common.ids import new_rank_id
from services.ranker.filters.rules import Positive, Require
from services.ranker.filters.tree import Compare, Expression, Not, Operator
from services.ranker.governor import Governor
from services.ranker.pipeline import Pipeline
from services.ranker.plan import SurfaceSpec
from services.ranker.sources.base import Source
from services.ranker.sources.guaranteed import Guaranteed
from services.ranker.sources.personal import Personal
from services.ranker.sources.shared import Pinned, Trending
from services.ranker.types import RankCommand, RankResult
from tests.unit.services.ranker.calls.test_pages import serving
from tests.unit.services.ranker.tokens.test_issuer import tokens

Rows = Mapping[str, Mapping[str, Any]]
MOST = 12
NOT_LEVEL_2 = Not(Compare("level", Operator.EQUAL, 2))


@dataclass(frozen=True)
class World:
    """A catalogue, a surface over it, how many items each page asks for, and the caller's filter.
    ``late``: answers are, so that requests get a fifth of their candidates."""

    rows: Rows
    surface: SurfaceSpec
    sizes: list[int]
    wanted: Expression | None
    seed: int
    late: bool

    def pipeline(self, rows: Rows | None = None) -> Pipeline:
        governor = Governor(target_s=1, floor=0.2)
        if self.late:
            governor.answered([2.0] * 10_000)
        return serving(self.rows if rows is None else rows, self.surface, governor)

    def may_show(self, rows: Rows) -> set[str]:
        """Ids of all that some page may show."""
        return {
            id_
            for id_, row in rows.items()
            if row["live"] and row["seats"] > 0 and (self.wanted is None or row["level"] != 2)
        }


@st.composite
def selections(draw: st.DrawFn) -> Selection:
    position = st.integers(0, 5)
    parts: dict[str, Any] = {
        "new_items": {
            "position": draw(position),
            "impressions": "clicks",
            "until": draw(st.integers(1, 5)),
        }
    }
    if draw(st.booleans()):
        kind = draw(st.sampled_from(["mmr", "dpp"]))
        parts["diversity"] = {"kind": kind, "relevance": 0.7}
    if draw(st.booleans()):
        count = draw(st.sampled_from([2, 500]))
        parts["exploration"] = {"share": 1.0, "temperature": 0.5, "candidates": count}
    if draw(st.booleans()):
        discount = draw(st.sampled_from([None, 0.5]))
        parts["load_cap"] = {"load": "clicks", "capacity": "level", "discount": discount}
    if draw(st.booleans()):
        parts["impression_floor"] = {
            "group": "host",
            "impressions": "clicks",
            "floor": 0.8,
            "boost": 0.2,
            "position": draw(position),
        }
    if draw(st.booleans()):
        parts["pins"] = [{"position": draw(position), "id": "i1"}]
    return Selection.model_validate(parts)


@st.composite
def worlds(draw: st.DrawFn) -> World:
    row = st.fixed_dictionaries(
        {
            "score": st.sampled_from([0.1, 0.4, 0.9]),
            "clicks": st.integers(0, 6),
            "seats": st.sampled_from([0, 1, 1, 1]),
            "live": st.sampled_from([0, 1, 1, 1]),
            "host": st.sampled_from(["h1", "h2", "h3"]),
            "level": st.integers(0, 3),
        }
    )
    rows = {f"i{n}": draw(row) for n in range(draw(st.integers(1, MOST)))}
    quota = st.integers(1, MOST)
    sources: list[Source] = [Guaranteed("new_items", draw(st.integers(1, 2)))]
    if draw(st.booleans()):
        sources.append(Personal("personal", draw(quota)))
    if draw(st.booleans()):
        sources.append(Trending("trending", draw(quota), "clicks"))
    if draw(st.booleans()):
        sources.append(Pinned("pinned", 2, ["i0", "i3"]))
    candidates = draw(st.integers(2, 2 * MOST))
    surface = SurfaceSpec(
        name="feed",
        entity="item",
        default_k=1,
        candidates=candidates,
        sources=tuple(draw(st.permutations(sources))),
        filters=(Require("live"), Positive("seats")),
        caps={"host": draw(st.integers(1, 2))} if draw(st.booleans()) else {},
        selling_attribute=None,
        weights={},
        selection=draw(selections()),
        scored=draw(st.sampled_from([None, max(1, candidates // 2)])),
    )
    return World(
        rows,
        surface,
        draw(st.lists(st.integers(1, 4), min_size=MOST, max_size=MOST)),
        draw(st.sampled_from([None, NOT_LEVEL_2])),
        draw(st.integers(0, 2**64 - 1)),
        draw(st.booleans()),
    )


def answered(world: World, pipeline: Pipeline, token: str, k: int) -> tuple[RankResult, set[str]]:
    """A page, and the ids of the candidates that it was chosen from."""
    command = RankCommand("feed", "ann", "", k, filter=world.wanted, seed=world.seed)
    if token:
        command = tokens().next_page(token, command, 20)
    started = pipeline.begin([replace(command, rank_id=new_rank_id())])
    (result,) = pipeline.finish(started, [0])
    (work,) = started.works
    slots = work.slots if work.cut is None else work.cut.slots
    return result, {work.plan.table.ids[slot] for slot in slots.tolist()}


@settings(max_examples=300, deadline=None)
@given(worlds())
def test_pages_show_every_candidate_of_the_first_once(world: World) -> None:
    pipeline, token = world.pipeline(), ""
    shown, candidates = list[str](), set[str]()
    for number, k in enumerate(world.sizes):
        result, found = answered(world, pipeline, token, k)
        candidates |= found if not number else set()
        assert result.slate.ids or not number
        shown += result.slate.ids
        token, _ = tokens().issued(result)
        if not token:
            break
    assert not token or len(shown) >= len(world.sizes)
    assert len(shown) == len(set(shown))
    assert set(shown) <= world.may_show(world.rows)
    if not token:
        assert candidates <= set(shown)


@settings(max_examples=150, deadline=None)
@given(worlds(), st.data())
def test_a_page_is_empty_only_where_all_that_was_left_has_ended(
    world: World, data: st.DataObject
) -> None:
    rows, shown, token = world.rows, list[str](), ""
    for number, k in enumerate(world.sizes):
        result, _ = answered(world, world.pipeline(rows), token, k)
        left = world.may_show(rows) - set(shown)
        assert set(result.slate.ids) <= left
        assert result.slate.ids or not left, number
        shown += result.slate.ids
        token, _ = tokens().issued(result)
        if not token:
            break
        ended = data.draw(st.sets(st.sampled_from(sorted(rows))))
        rows = {id_: {**row, "live": row["live"] * (id_ not in ended)} for id_, row in rows.items()}
