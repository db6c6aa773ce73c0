"""Pages of two replicas that hold the items in another order, while the catalogue changes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.ids import new_rank_id
from services.ranker.governor import Governor
from services.ranker.pipeline import Pipeline
from services.ranker.plan import SurfaceSpec
from services.ranker.sources.personal import Personal
from services.ranker.state import prepare
from services.ranker.tokens.issuer import Tokens
from services.ranker.types import RankCommand, RankResult
from tests.unit.services.ranker.fakes import FakeModel, FakeUsers, Recorder, spec_of, tables_of
from tests.unit.services.ranker.test_pipeline import make_pipeline
from tests.unit.services.ranker.tokens.test_issuer import tokens

SURFACE = SurfaceSpec("feed", "item", 3, 100, (Personal("personal", 100),), (), {}, None, {})
ANN = RankCommand("feed", "ann", "")
IDS = st.sets(st.sampled_from([f"i{n}" for n in range(24)]))


def replica(ids: list[str]) -> Pipeline:
    """A replica whose catalogue has these items, in this order."""
    return serving({id_: {} for id_ in ids}, SURFACE)


def serving(
    rows: Mapping[str, Mapping[str, Any]], surface: SurfaceSpec, governor: Governor | None = None
) -> Pipeline:
    model = FakeModel()
    spec = spec_of(model, surface)
    state = prepare(model, spec, tables_of(rows), None, exact_rows=100, now_ms=1)
    return make_pipeline(state, FakeUsers({}), Recorder(), governor=governor)


def answered(pipeline: Pipeline, command: RankCommand) -> RankResult:
    named = replace(command, rank_id=new_rank_id())
    (result,) = pipeline.finish(pipeline.begin([named]), [0])
    return result


@settings(max_examples=25, deadline=None)
@given(catalogues=st.lists(IDS, min_size=1, max_size=4), k=st.integers(1, 7))
def test_no_item_comes_twice_and_the_last_catalogue_is_shown_whole(
    catalogues: list[set[str]], k: int
) -> None:
    issuers: tuple[Tokens, Tokens] = (tokens(), tokens())
    shown: list[str] = []
    command = replace(ANN, k=k)
    number = 0
    while True:
        ids = sorted(catalogues[min(number, len(catalogues) - 1)], reverse=number % 2 == 1)
        result = answered(replica(ids), command)
        assert set(result.slate.ids) <= set(ids)
        assert len(result.slate.ids) <= k
        assert result.first_position == len(shown)
        shown += result.slate.ids
        assert len(shown) == len(set(shown))
        token, refresh = issuers[number % 2].issued(result)
        if refresh:
            again = issuers[1 - number % 2].refreshed(refresh, ANN)
            now = catalogues[-1]
            refreshed = answered(replica(sorted(now)), again)
            assert set(refreshed.slate.ids) == set(result.slate.ids) & now
            assert refreshed.first_position == result.first_position
        if not token:
            break
        command = issuers[1 - number % 2].next_page(token, replace(ANN, k=k), 20)
        number += 1
    if number >= len(catalogues) - 1:
        assert set(ids) <= set(shown)


def test_a_refresh_names_what_caps_leave_out() -> None:
    surface = replace(SURFACE, caps={"host": 1})
    before = answered(serving({"a": {"host": "h1"}, "b": {"host": "h2"}}, surface), ANN)
    command = tokens().refreshed(tokens().issued(before)[1], ANN)
    same_host = {"b": {"host": "h1"}, "a": {"host": "h1"}}
    after = answered(serving(same_host, surface), command)
    (left_out,) = {"a", "b"} - set(after.slate.ids)
    assert list(after.removed) == [(left_out, "not_selected")]


def test_no_page_is_empty_or_the_last_because_candidates_are_fewer_under_load() -> None:
    late = Governor(target_s=1, floor=0.2)
    late.answered([2.0] * 10_000)
    ids = [f"i{n}" for n in range(30)]
    pipeline = serving({id_: {} for id_ in ids}, replace(SURFACE, candidates=30), late)
    shown: list[str] = []
    token = ""
    while token or not shown:
        command = tokens().next_page(token, replace(ANN, k=4), 20) if token else replace(ANN, k=4)
        result = answered(pipeline, command)
        assert len(result.slate.ids) == min(4, len(ids) - len(shown))
        shown += result.slate.ids
        token, _ = tokens().issued(result)
    assert sorted(shown) == sorted(ids)
