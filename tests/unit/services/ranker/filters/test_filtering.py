"""Filters within the pipeline: what is removed stays away, is counted once, alone or in a batch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.ranker.filters.by_request import PriceCap, Region
from services.ranker.filters.expression import REASON, passing
from services.ranker.filters.rules import Filter, LiveOrStarting, NotInList, Positive, Seen
from services.ranker.filters.tree import And, Compare, Expression, In, Not, Operator
from services.ranker.plan import SurfaceSpec
from services.ranker.sources.personal import Personal
from services.ranker.sources.shared import Trending
from services.ranker.state import ServingState, prepare
from services.ranker.types import Call, Circumstances, RankCommand, RankResult
from tests.unit.services.ranker.fakes import (
    ITEM_VIEW,
    FakeModel,
    FakeUsers,
    Recorder,
    rows_of,
    spec_of,
    tables_of,
)
from tests.unit.services.ranker.test_pipeline import make_pipeline, rank

Rows = Mapping[str, Mapping[str, Any]]
RULES: tuple[Filter, ...] = (
    LiveOrStarting("live", "opens", 1_000),
    Positive("seats"),
    NotInList("bought"),
    Seen("history", times=2),
    Region("tags", True),
    PriceCap("clicks", None, "cap", None, True),
)
ROW = st.fixed_dictionaries(
    {"live": st.sampled_from([1, 1, 0])},
    optional={
        "seats": st.integers(0, 1),
        "clicks": st.integers(0, 4),
        "tags": st.lists(st.sampled_from(["A", "B"]), max_size=2),
        "host": st.sampled_from(["h1", "h2"]),
    },
)
IDS = st.sampled_from([f"i{n}" for n in range(12)])
CATALOGUES = st.dictionaries(IDS, ROW, min_size=1, max_size=12)
USERS = st.fixed_dictionaries(
    {}, optional={"bought": st.lists(IDS, max_size=3), "history": st.lists(IDS, max_size=6)}
)
CIRCUMSTANCES = st.builds(
    Circumstances,
    region=st.sampled_from(["", "A"]),
    attributes=st.fixed_dictionaries({}, optional={"cap": st.integers(0, 4)}),
)
FILTERS = st.sampled_from(
    [
        None,
        Compare("clicks", Operator.LESS, 3),
        Not(In("host", frozenset({"h1"}))),
        And((In("tags", frozenset({"B"})), Compare("seats", Operator.GREATER, 0))),
        Compare("host", Operator.EQUAL, "nobody"),
    ]
)


def make_state(
    rows: Rows, rules: tuple[Filter, ...] = RULES, *, quota: int = 12, exact_rows: int = 100
) -> ServingState:
    sources = (Personal("personal", quota), Trending("trending", 2, "clicks"))
    surface = SurfaceSpec("s", "item", 12, 12, sources, rules, {}, None, {})
    model = FakeModel(sorted(rows))
    spec = spec_of(model, surface)
    return prepare(model, spec, tables_of(rows), None, exact_rows=exact_rows, now_ms=0)


def kept_alone(
    state: ServingState, user: Mapping[str, Any], command: RankCommand
) -> tuple[RankResult, Recorder]:
    recorder = Recorder()
    pipeline = make_pipeline(state, FakeUsers({command.user_id: user}), recorder)
    (result,) = rank(pipeline, command)
    return result, recorder


def allowed(id_: str, row: Mapping[str, Any], user: Mapping[str, Any], said: Circumstances) -> bool:
    """What the configured rules let through, item by item."""
    cap = said.attributes.get("cap")
    return (
        row["live"] == 1
        and row.get("seats", 1) > 0
        and id_ not in user.get("bought", [])
        and user.get("history", []).count(id_) < 2
        and (not row.get("tags") or said.region in row["tags"])
        and (cap is None or row.get("clicks", 0) <= cap or "clicks" not in row)
    )


@settings(max_examples=80, deadline=None)
@given(
    rows=CATALOGUES,
    asked=st.lists(st.tuples(USERS, CIRCUMSTANCES, FILTERS), min_size=1, max_size=3),
)
def test_what_is_removed_never_returns_alone_or_in_a_batch(
    rows: Rows, asked: list[tuple[dict[str, Any], Circumstances, Expression | None]]
) -> None:
    state = make_state(rows)
    table = state.tables.by_entity["item"]
    commands = [
        RankCommand("s", f"u{n}", "", 12, circumstances=said, filter=wanted)
        for n, (_, said, wanted) in enumerate(asked)
    ]
    users = {f"u{n}": user for n, (user, _, _) in enumerate(asked)}
    batch = rank(make_pipeline(state, FakeUsers(users), Recorder()), *commands)
    for command, result, (user, said, wanted) in zip(commands, batch, asked, strict=True):
        passes = None if wanted is None else passing(wanted, table)
        expected = {
            id_
            for id_, row in rows.items()
            if allowed(id_, row, user, said) and (passes is None or passes[table.slot_of[id_]])
        }
        assert set(result.slate.ids) == expected
        assert len(result.slate.ids) == len(expected)
        alone, _ = kept_alone(state, user, command)
        assert alone.slate.ids == result.slate.ids
        np.testing.assert_array_equal(alone.slate.values, result.slate.values)


def test_every_removed_candidate_is_counted_once_under_its_first_reason() -> None:
    rows = {
        "a": {"live": 1, "clicks": 9, "tags": ["B"]},
        "b": {"live": 1, "clicks": 9},
        "c": {"live": 1, "clicks": 1},
        "d": {"live": 1, "clicks": 2, "tags": ["A"]},
    }
    said = Circumstances(region="A", attributes={"cap": 5})
    user = {"bought": ["a"], "history": ["b", "b", "d", "d"]}
    command = RankCommand("s", "ann", "", circumstances=said)
    result, recorder = kept_alone(make_state(rows), user, command)
    assert result.slate.ids == ["c"]
    assert recorder.removals == {"not_in_list:bought": 1, "seen:history": 2}


def test_one_course_is_shown_through_one_room_the_best() -> None:
    """A cap at selection, where values are known, keeps the best room; a filter would not."""
    rows = {
        "room1": {"score": 0.1, "sells": "c1"},
        "room2": {"score": 2.0, "sells": "c1"},
        "room3": {"score": 1.0, "sells": "c2"},
        "room4": {"score": 0.0},
        "room5": {"score": -0.1},
    }
    source = (Trending("trending", 9, "clicks"),)
    surface = SurfaceSpec("s", "item", 9, 9, source, (), {"sells": 1}, "sells", {})
    model = FakeModel()
    state = prepare(model, spec_of(model, surface), tables_of(rows), None, exact_rows=9, now_ms=0)
    model.broken = {"user"}
    result, _ = kept_alone(state, {}, RankCommand("s", "ann", ""))
    assert [id_ for id_ in result.slate.ids if id_ in ("room1", "room2", "room3")] == [
        "room2",
        "room3",
    ]
    # Rooms that sell nothing are not held to it.
    assert {"room4", "room5"} <= set(result.slate.ids)


@pytest.mark.parametrize("exact_rows", [10, 100])
def test_a_callers_filter_reaches_what_is_retrieved(exact_rows: int) -> None:
    """The few items that pass are found even where they are far from the user's vector."""
    rows = {f"i{n}": {"live": 1, "tags": ["rare"] if n < 3 else []} for n in range(60)}
    wanted = In("tags", frozenset({"rare"}))
    state = make_state(rows, (), quota=3, exact_rows=exact_rows)
    for n in range(10):
        user = {"history": [f"i{20 + n}"]}
        result, recorder = kept_alone(state, user, RankCommand("s", "ann", "", filter=wanted))
        assert set(result.slate.ids) == {"i0", "i1", "i2"}
        assert set(recorder.removals) <= {REASON}
        similar = RankCommand("s", "ann", "", call=Call.SIMILAR, item_ids=("i20",), filter=wanted)
        result, _ = kept_alone(state, user, similar)
        assert set(result.slate.ids) == {"i0", "i1", "i2"}


@settings(max_examples=60, deadline=None)
@given(
    changes=st.lists(st.dictionaries(IDS, ROW, max_size=3), min_size=1, max_size=5),
    gone=st.lists(IDS, max_size=2),
    wanted=FILTERS.filter(bool),
)
def test_a_filter_kept_up_to_date_equals_one_made_anew(
    changes: list[Rows], gone: list[str], wanted: Expression
) -> None:
    state, tables = make_state({}), tables_of({})
    for number, rows in enumerate(changes, start=2):
        # Not at every version: what a filter left may be some changes old.
        if number % 2:
            state.plan_of("s", wanted)
        table = tables.by_entity["item"].changed([rows_of(ITEM_VIEW, rows)], gone, number)
        tables = replace(tables, number=number, by_entity={"item": table})
        state = prepare(state.model, state.spec, tables, state, exact_rows=100, now_ms=0)
        state.plan_of("s", wanted)
    anew = prepare(state.model, state.spec, tables, None, exact_rows=100, now_ms=0)
    kept, made = (s.plan_of("s", wanted).nearby for s in (state, anew))
    np.testing.assert_array_equal(kept.slots, made.slots)
    np.testing.assert_array_equal(kept.vectors, made.vectors)
    assert state.plan_of("s", wanted) is state.plan_of("s", wanted)
    for n in range(20):
        state.plan_of("s", Compare("clicks", Operator.LESS, n))
    assert state.plan_of("s", wanted).nearby.slots.tolist() == made.slots.tolist()
