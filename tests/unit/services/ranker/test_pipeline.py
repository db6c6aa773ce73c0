"""The pipeline against an oracle that ranks one request at a time over dictionaries."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.common.assign.assign import Definitions, Experiment, Variant
from services.common.errors import (
    DeadlinePassed,
    FailedPrecondition,
    Overloaded,
    Unavailable,
    UnknownFeatureView,
)
from services.ranker.definitions.in_force import FixedDefinitions
from services.ranker.filters.rules import NotInList, OpenWindow, Positive, Require
from services.ranker.governor import Governor
from services.ranker.last_known import LastKnownRows
from services.ranker.pipeline import Pipeline
from services.ranker.plan import SurfaceSpec
from services.ranker.sources.asking import SourceAsking
from services.ranker.sources.breaker import SourceLimits
from services.ranker.sources.personal import Personal
from services.ranker.sources.shared import Trending
from services.ranker.state import ServingState, Tables, prepare
from services.ranker.tokens.format import SHOWN_MASK, digest_of
from services.ranker.types import (
    Degradation,
    Following,
    Part,
    RankCommand,
    RankResult,
    Reason,
    Traffic,
)
from services.ranker.users import time_left_s
from tests.unit.services.ranker.fakes import (
    ITEM_VIEW,
    FakeModel,
    FakeUsers,
    Recorder,
    rows_of,
    spec_of,
    tables_of,
    vector_of,
)

NOW_MS = 1_000
Rows = Mapping[str, Mapping[str, Any]]

EVERYTHING = SurfaceSpec(
    name="everything",
    entity="item",
    default_k=5,
    candidates=8,
    sources=(Personal("personal", 4), Trending("trending", 4, "clicks")),
    filters=(
        Require("live"),
        Positive("seats"),
        NotInList("bought"),
        NotInList("blocked", "host"),
    ),
    caps={"host": 2},
    selling_attribute="sells",
    weights={"refund": -1.0},
)
PLAIN = SurfaceSpec("plain", "item", 3, 10, (Personal("personal", 10),), (), {}, None, {})
WEIGHTS = {"everything": (1.0, -1.0), "plain": (1.0, -0.5)}
NO_EXPERIMENTS = Definitions({}, "")


def make_state(model: FakeModel, tables: Tables, exact_rows: int = 100) -> ServingState:
    spec = spec_of(model, EVERYTHING, PLAIN)
    return prepare(model, spec, tables, None, exact_rows=exact_rows, now_ms=NOW_MS)


def make_pipeline(
    state: ServingState,
    users: FakeUsers,
    recorder: Recorder,
    definitions: Definitions = NO_EXPERIMENTS,
    governor: Governor | None = None,
) -> Pipeline:
    return Pipeline(
        lambda: state,
        users,
        FixedDefinitions(definitions),
        recorder,
        recorder,
        governor=governor or Governor(target_s=1, floor=1),
        last_known=LastKnownRows(capacity=10, max_age_s=60, monotonic_s=lambda: 0.0),
        sources=SourceAsking(
            SourceLimits(), ran=recorder.source, log_error=lambda _, __: None, clock=lambda: 0.0
        ),
        feature_timeout_s=1.0,
        new_rank_id=iter(map(str, range(10_000))).__next__,
        log_error=lambda _, __: None,
    )


def rank(pipeline: Pipeline, *commands: RankCommand) -> list[RankResult]:
    return pipeline.finish(pipeline.begin(commands), range(len(commands)))


# --- the oracle ---------------------------------------------------------------------------------


def oracle_slate(rows: Rows, user: Mapping[str, Any], surface: SurfaceSpec, k: int) -> list[str]:
    """Ids of the slate, by the definition."""
    user_vector = sum(
        (vector_of(id_) for id_ in user.get("history", [])[-3:]), np.zeros(4, np.float32)
    ) + np.float32(user.get("spend", 1.5) * 0.1)
    vectors = {
        id_: vector_of(id_)
        + (vector_of(row["host"]) if row.get("host") else 0)
        + np.float32(row.get("clicks", 0) * 0.01)
        for id_, row in rows.items()
    }
    shown = [id_ for id_, row in rows.items() if _item_allowed(row, surface)]
    near = {id_: float(user_vector @ vectors[id_]) for id_ in shown}
    candidates: list[str] = []
    for source in surface.sources:
        if isinstance(source, Personal):
            found = sorted(shown, key=lambda id_: -near[id_])[: source.quota]
        else:
            found = sorted(shown, key=lambda id_: (-rows[id_].get("clicks", 0), _tie(id_)))
            found = found[: source.quota]
        candidates += [id_ for id_ in found if id_ not in candidates]

    def passes(id_: str) -> bool:
        return not surface.filters or (
            id_ not in user.get("bought", [])
            and (not rows[id_].get("host") or rows[id_]["host"] not in user.get("blocked", []))
        )

    candidates = [id_ for id_ in candidates[: surface.candidates] if passes(id_)]
    if not candidates:
        trending = sorted(shown, key=lambda id_: (-rows[id_].get("clicks", 0), _tie(id_)))
        candidates = [id_ for id_ in trending if passes(id_)][:k]
    values = {id_: _value(near[id_], rows[id_].get("score", 0.5), surface) for id_ in candidates}
    slate: list[str] = []
    for id_ in sorted(candidates, key=lambda id_: -values[id_]):
        host = rows[id_].get("host")
        taken = sum(1 for other in slate if host and rows[other].get("host") == host)
        if taken < surface.caps.get("host", 10_000) and len(slate) < k:
            slate.append(id_)
    return slate


def _item_allowed(row: Mapping[str, Any], surface: SurfaceSpec) -> bool:
    if not surface.filters:
        return True
    return bool(row.get("live", 0)) and row.get("seats", 1) > 0


def _value(product: float, score: float, surface: SurfaceSpec) -> float:
    buy, refund = WEIGHTS[surface.name]
    return buy / (1 + math.exp(-(product * 0.2 + score))) + refund / (
        1 + math.exp(-(product * 0.1 - score))
    )


def _tie(id_: str) -> int:
    return int.from_bytes(hashlib.blake2b(id_.encode(), digest_size=8).digest(), "little")


# --- strategies ---------------------------------------------------------------------------------

HOSTS = st.sampled_from(["", "h1", "h2", "h3"])
ROW = st.fixed_dictionaries(
    {"clicks": st.integers(0, 4), "score": st.floats(-2, 2, width=16)},
    optional={
        "seats": st.integers(0, 2),
        "live": st.integers(0, 1),
        "host": HOSTS.filter(bool),
        "sells": st.sampled_from(["c1", "c2"]),
    },
)
IDS = st.sampled_from([f"i{n}" for n in range(20)])
CATALOGUES = st.dictionaries(IDS, ROW, max_size=20)
USERS = st.fixed_dictionaries(
    {},
    optional={
        "history": st.lists(IDS, max_size=5),
        "bought": st.lists(IDS, max_size=6),
        "blocked": st.lists(HOSTS.filter(bool), max_size=2),
        "spend": st.floats(0.5, 9, width=16),
    },
)


@settings(max_examples=100, deadline=None)
@given(rows=CATALOGUES, users=st.lists(USERS, min_size=1, max_size=4), data=st.data())
def test_a_micro_batch_answers_what_the_oracle_says(
    rows: Rows, users: list[dict[str, Any]], data: st.DataObject
) -> None:
    surfaces = data.draw(
        st.lists(st.sampled_from([EVERYTHING, PLAIN]), min_size=len(users), max_size=len(users))
    )
    k = data.draw(st.integers(1, 8))
    indexed = data.draw(st.lists(st.sampled_from(sorted(rows)), unique=True)) if rows else []
    exact_rows = data.draw(st.sampled_from([0, 100]))
    state = make_state(FakeModel(indexed), tables_of(rows), exact_rows)
    recorder = Recorder()
    by_id = {f"u{n}": user for n, user in enumerate(users)}
    pipeline = make_pipeline(state, FakeUsers(by_id), recorder)
    commands = [
        RankCommand(surface.name, id_, "", k) for id_, surface in zip(by_id, surfaces, strict=True)
    ]
    results = rank(pipeline, *commands)
    for result, user, surface in zip(results, users, surfaces, strict=True):
        assert result.slate.ids == oracle_slate(rows, user, surface, k)
        assert result.degraded == ()
        assert list(result.slate.values) == sorted(result.slate.values, reverse=True)
        if surface is EVERYTHING:
            sells = [rows[id_].get("sells", "") for id_ in result.slate.ids]
            assert result.slate.selling_course_ids == sells
    assert recorder.results == results


# --- single cases -------------------------------------------------------------------------------


def test_where_no_source_yields_what_may_be_shown_the_oracle_falls_back_as_well() -> None:
    shown = {"live": 1, "seats": 1}
    clicks = {"i2": 0, "i14": 1, "i3": 2, "i4": 0}
    blocked = {id_: {"clicks": n, "host": "h1"} | shown for id_, n in clicks.items()}
    rows = blocked | {"i13": shown}
    user = {"blocked": ["h1"], "history": ["i0", "i0", "i0"]}
    pipeline = make_pipeline(
        make_state(FakeModel(), tables_of(rows)), FakeUsers({"u": user}), Recorder()
    )
    (result,) = rank(pipeline, RankCommand("everything", "u", "", 5))
    assert result.slate.ids == oracle_slate(rows, user, EVERYTHING, 5) == ["i13"]
    assert list(result.slate.sources) == ["fallback"]


SOME = {f"i{n}": {"clicks": n, "live": 1, "seats": 1, "host": f"h{n}"} for n in range(6)}


def test_one_call_fetches_the_rows_of_a_whole_micro_batch() -> None:
    users = FakeUsers({})
    pipeline = make_pipeline(make_state(FakeModel(), tables_of(SOME)), users, Recorder())
    rank(pipeline, RankCommand("plain", "ann", ""), RankCommand("everything", "", "phone"))
    assert users.calls == [["ann", "device:phone"]]


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (Unavailable("down"), Reason.UNAVAILABLE),
        (DeadlinePassed("late"), Reason.TIMEOUT),
        (UnknownFeatureView("which?"), Reason.UNKNOWN_VIEW),
        (Overloaded("busy"), Reason.UNAVAILABLE),
        (FailedPrecondition("a block that does not fit"), Reason.FAILED),
    ],
)
def test_without_user_rows_the_history_is_empty(failure: Exception, reason: Reason) -> None:
    users = FakeUsers({"ann": {"history": ["i1"], "bought": ["i2"]}})
    users.failure = failure
    recorder = Recorder()
    pipeline = make_pipeline(make_state(FakeModel(), tables_of(SOME)), users, recorder)
    (result,) = rank(pipeline, RankCommand("everything", "ann", ""))
    assert result.slate.ids == oracle_slate(SOME, {}, EVERYTHING, 5)
    assert result.degraded == (Degradation(Part.USER_FEATURES, reason),)
    assert recorder.degradations == list(result.degraded)


def test_no_slate_is_empty_while_anything_may_be_shown() -> None:
    rows: Rows = {f"i{n}": {"clicks": n, "live": 1, "seats": 1} for n in range(20)}
    spec = SurfaceSpec(
        "plain",
        "item",
        3,
        10,
        (Trending("trending", 2, "clicks"),),
        (NotInList("bought"),),
        {},
        None,
        {},
    )
    model = FakeModel()
    state = prepare(
        model, spec_of(model, spec), tables_of(rows), None, exact_rows=100, now_ms=NOW_MS
    )
    users = FakeUsers({"ann": {"bought": ["i19", "i18", "i16"]}, "bob": {"bought": list(rows)}})
    pipeline = make_pipeline(state, users, Recorder())
    ann, bob = rank(pipeline, RankCommand("plain", "ann", ""), RankCommand("plain", "bob", ""))
    assert set(ann.slate.ids) == {"i17", "i15", "i14"}
    assert set(ann.slate.sources) == {"fallback"}
    assert bob.slate.ids == []


def test_requests_get_fewer_candidates_while_answers_are_late() -> None:
    governor = Governor(target_s=1, floor=0.5)
    users, recorder = FakeUsers({}), Recorder()
    pipeline = make_pipeline(
        make_state(FakeModel(), tables_of(SOME)), users, recorder, governor=governor
    )
    governor.answered([2.0] * 100)
    (result,) = rank(pipeline, RankCommand("plain", "ann", "", k=2))
    assert len(result.slate.ids) == 2
    assert result.degraded == (Degradation(Part.RETRIEVAL, Reason.OVERLOADED),)
    # Never fewer than are wanted.
    (result,) = rank(pipeline, RankCommand("plain", "ann", "", k=10))
    assert result.degraded == ()


def test_the_feature_call_ends_while_somebody_still_waits() -> None:
    now_s = time.monotonic()
    commands = [RankCommand("plain", "ann", "", deadline_s=now_s + s) for s in (0.05, 0.1)]
    assert math.isclose(time_left_s(commands, 0.2, now_s), 0.05)
    assert time_left_s(commands, 0.02, now_s) == 0.02
    assert time_left_s([*commands, RankCommand("plain", "bob", "")], 0.2, now_s) == 0.2
    assert time_left_s(commands, 0.2, now_s + 1) == 0


def test_the_last_known_row_stands_in_for_one_that_does_not_come() -> None:
    ann = {"history": ["i1"], "bought": ["i2"]}
    users = FakeUsers({"ann": ann})
    pipeline = make_pipeline(make_state(FakeModel(), tables_of(SOME)), users, Recorder())
    rank(pipeline, RankCommand("everything", "ann", ""))
    users.failure = DeadlinePassed("late")
    known, unknown = rank(
        pipeline, RankCommand("everything", "ann", ""), RankCommand("everything", "bob", "")
    )
    assert known.slate.ids == oracle_slate(SOME, ann, EVERYTHING, 5)
    assert known.degraded == (Degradation(Part.USER_FEATURES, Reason.STALE),)
    assert unknown.slate.ids == oracle_slate(SOME, {}, EVERYTHING, 5)
    assert unknown.degraded == (Degradation(Part.USER_FEATURES, Reason.TIMEOUT),)


@pytest.mark.parametrize("surface", ["plain", "everything"])
def test_a_broken_ranker_leaves_the_order_of_nearness(surface: str) -> None:
    model = FakeModel()
    model.broken = {"score"}
    pipeline = make_pipeline(make_state(model, tables_of(SOME)), FakeUsers({}), Recorder())
    (result,) = rank(pipeline, RankCommand(surface, "ann", "", 6))
    assert len(result.slate.ids) == 6
    assert result.slate.objectives == ()
    assert result.slate.predictions.shape == (6, 0)
    assert result.degraded == (Degradation(Part.SCORING, Reason.FAILED),)


def indexed_state(model: FakeModel) -> ServingState:
    """A state that searches the index: its vectors know no host and no clicks, nor do the items."""
    rows = {id_: {"live": 1, "seats": 1} for id_ in SOME}
    return make_state(model, tables_of(rows), exact_rows=0)


def test_a_broken_index_leaves_the_trending_items() -> None:
    model = FakeModel(list(SOME))
    pipeline = make_pipeline(indexed_state(model), FakeUsers({}), Recorder())
    model.broken = {"search"}
    (result,) = rank(pipeline, RankCommand("everything", "ann", ""))
    assert set(result.slate.sources) == {"trending"}
    assert result.degraded == (Degradation(Part.RETRIEVAL, Reason.FAILED, "personal"),)


def test_a_broken_user_tower_still_gives_a_slate() -> None:
    model = FakeModel(list(SOME))
    pipeline = make_pipeline(indexed_state(model), FakeUsers({}), Recorder())
    model.broken = {"user"}
    (result,) = rank(pipeline, RankCommand("everything", "ann", ""))
    assert len(result.slate.ids) == 5
    assert result.degraded == (Degradation(Part.RETRIEVAL, Reason.FAILED),)


def test_predictions_that_are_not_finite_sink_and_are_counted() -> None:
    model = FakeModel()
    recorder = Recorder()
    pipeline = make_pipeline(make_state(model, tables_of(SOME)), FakeUsers({}), recorder)
    (good,) = rank(pipeline, RankCommand("plain", "ann", "", 6))
    model.nan_items = {0, 3}
    (result,) = rank(pipeline, RankCommand("plain", "ann", "", 6))
    assert sorted(result.slate.ids) == sorted(good.slate.ids)
    assert np.isfinite(result.slate.values).all()
    assert (result.slate.predictions[4:] == 0).all()
    assert (result.slate.predictions[:4] > 0).all()
    assert recorder.broken == {Part.SCORING: 2}
    assert result.degraded == (Degradation(Part.SCORING, Reason.NON_FINITE),)


def test_a_user_feature_that_is_not_finite_takes_its_default() -> None:
    users = FakeUsers({"ann": {"spend": float("nan")}, "bob": {}})
    recorder = Recorder()
    pipeline = make_pipeline(make_state(FakeModel(), tables_of(SOME)), users, recorder)
    ann, bob = rank(pipeline, RankCommand("plain", "ann", ""), RankCommand("plain", "bob", ""))
    assert ann.slate.ids == bob.slate.ids
    assert ann.degraded == (Degradation(Part.USER_FEATURES, Reason.NON_FINITE),)
    assert bob.degraded == ()


def test_requests_left_out_of_finish_are_not_worked_on() -> None:
    recorder = Recorder()
    users = FakeUsers({"b": {"history": ["i3"]}})
    pipeline = make_pipeline(make_state(FakeModel(), tables_of(SOME)), users, recorder)
    commands = [RankCommand("plain", id_, "") for id_ in "abc"]
    (result,) = pipeline.finish(pipeline.begin(commands), [1])
    assert result.command is commands[1]
    assert recorder.results == [result]
    assert result.slate.ids == oracle_slate(SOME, {"history": ["i3"]}, PLAIN, 3)


def test_variants_override_the_weights_and_forcing_makes_test_traffic() -> None:
    variants = (Variant("a", 0.5), Variant("b", 0.5, {"buy": -1.0}))
    definitions = Definitions({"e": Experiment("e", "user", "s", variants)}, "hash")
    pipeline = make_pipeline(
        make_state(FakeModel(), tables_of(SOME)), FakeUsers({}), Recorder(), definitions
    )
    a, b = rank(
        pipeline,
        RankCommand("plain", "ann", "", 6, forced_variants={"e": "a"}),
        RankCommand("plain", "ann", "", 6, forced_variants={"e": "b"}),
    )
    assert a.traffic is b.traffic is Traffic.TEST
    by_id = dict(zip(b.slate.ids, b.slate.values, strict=True))
    for id_, value, (buy, _) in zip(a.slate.ids, a.slate.values, a.slate.predictions, strict=True):
        assert by_id[id_] == pytest.approx(value - 2 * buy, abs=1e-5)


def test_a_dry_run_is_not_recorded() -> None:
    recorder = Recorder()
    pipeline = make_pipeline(make_state(FakeModel(), tables_of(SOME)), FakeUsers({}), recorder)
    commands: Sequence[RankCommand] = (
        RankCommand("plain", "ann", "", dry_run=True),
        RankCommand("plain", "bob", ""),
    )
    results = rank(pipeline, *commands)
    assert recorder.results == [results[1]]


def test_an_empty_catalogue_gives_an_empty_slate() -> None:
    pipeline = make_pipeline(make_state(FakeModel(), tables_of({})), FakeUsers({}), Recorder())
    (result,) = rank(pipeline, RankCommand("everything", "ann", ""))
    assert result.slate.ids == []
    assert result.degraded == ()


def test_filters_count_what_they_remove_by_reason() -> None:
    recorder = Recorder()
    users = FakeUsers({"ann": {"bought": ["i1", "i2"], "blocked": ["h2", "h4"]}})
    pipeline = make_pipeline(make_state(FakeModel(), tables_of(SOME)), users, recorder)
    (result,) = rank(pipeline, RankCommand("everything", "ann", "", 6))
    assert sorted(result.slate.ids) == ["i0", "i3", "i5"]
    assert recorder.removals == {"not_in_list:bought": 2, "not_in_list:blocked": 1}


def test_a_window_that_closes_after_preparation_is_respected() -> None:
    surface = SurfaceSpec(
        "windowed",
        "item",
        5,
        10,
        (Personal("personal", 10),),
        (OpenWindow("opens", "closes"),),
        {},
        None,
        {},
    )
    model = FakeModel()
    rows = {"open": {"opens": 1}, "closed": {"closes": 2_000}}
    spec = spec_of(model, surface)
    state = prepare(model, spec, tables_of(rows), None, exact_rows=10, now_ms=NOW_MS)
    assert len(state.plans["windowed"].nearby.slots) == 2
    pipeline = make_pipeline(state, FakeUsers({}), Recorder())
    # The pipeline asks the clock, which is long past 2,000 ms.
    (result,) = rank(pipeline, RankCommand("windowed", "ann", ""))
    assert result.slate.ids == ["open"]


def test_a_plan_stands_until_something_but_the_time_changes() -> None:
    filters = (OpenWindow("opens", "closes"),)
    surfaces = tuple(replace(PLAIN, name=name, filters=filters) for name in ("one", "two"))
    model = FakeModel()
    rows = {"open": {"opens": 1}, "closed": {"closes": 2_000}}
    tables = tables_of(rows)
    first = prepare(model, spec_of(model, *surfaces), tables, None, exact_rows=9, now_ms=NOW_MS)

    def after(tables: Tables, now_ms: int) -> ServingState:
        return prepare(model, first.spec, tables, first, exact_rows=9, now_ms=now_ms)

    same = after(replace(tables, number=2), NOW_MS + 500)
    assert all(same.plans[name] is first.plans[name] for name in ("one", "two"))
    assert same.prices is first.prices
    closed = after(replace(tables, number=2), 2_000)
    assert [plan.nearby.slots.tolist() for plan in closed.plans.values()] == [[0], [0]]
    table = tables.by_entity["item"].changed([rows_of(ITEM_VIEW, {"open": {"seats": 3}})], (), 2)
    moved = after(replace(tables, number=2, by_entity={"item": table}), NOW_MS)
    assert all(moved.plans[name].table is table for name in ("one", "two"))
    assert moved.prices is not first.prices


def test_a_request_has_a_seed_of_its_rank_id_or_of_what_it_follows() -> None:
    pipeline = make_pipeline(
        make_state(FakeModel(), tables_of(SOME)), FakeUsers({}), recorder := Recorder()
    )
    new, named, again, told = rank(
        pipeline,
        RankCommand("plain", "ann", ""),
        RankCommand("plain", "ann", "", rank_id="r"),
        RankCommand("plain", "bob", "", rank_id="r"),
        RankCommand("plain", "ann", "", seed=7),
    )
    assert new.rank_id != told.rank_id
    assert (named.rank_id, named.seed) == (again.rank_id, again.seed) == ("r", named.seed)
    assert len({new.seed, named.seed, 7}) == 3
    assert told.seed == 7
    assert recorder.results == [new, named, again, told]


def test_a_page_of_another_bundle_says_so_and_shows_nothing_again() -> None:
    table = tables_of(SOME).by_entity["item"]
    pipeline = make_pipeline(make_state(FakeModel(), tables_of(SOME)), FakeUsers({}), Recorder())
    (first,) = rank(pipeline, RankCommand("plain", "ann", "", 4))
    assert first.more
    slots = [table.slot_of[id_] for id_ in first.slate.ids]
    assert first.hashes.tolist() == table.tie[slots].tolist()
    for version, degraded in [("v1", ()), ("v0", (Degradation(Part.SCORING, Reason.REPLACED),))]:
        following = Following(
            first.rank_id, 1, 4, first.hashes & SHOWN_MASK, digest_of(version), frozenset()
        )
        (page,) = rank(pipeline, RankCommand("plain", "ann", "", 4, following=following))
        assert page.degraded == degraded
        assert len(page.slate.ids) == 2
        assert set(page.slate.ids) | set(first.slate.ids) == set(SOME)
        assert not page.more
        assert (page.first_position, page.parent_rank_id) == (4, first.rank_id)
